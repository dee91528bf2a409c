"""How every figure is drawn: names of joints, units, instructions and stages are texts, and only that."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from smolpilot.common.text import plain


@contextmanager
def drawing() -> Iterator[None]:
    """While figures are made and drawn, also as a decorator: `$` is a letter, no formula, and LaTeX is never called.

    A letter that the font lacks is drawn as a box; a warning for each of them would help nobody.
    """
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def caption(name: str, length: int = 28) -> str:
    """A name in a figure: in one line, and long ones lose their middle: side and number, which tell joints apart,
    stand at the ends.
    """
    text = plain(name)
    if len(text) > length:
        tail = (length - 1) // 2
        text = f"{text[: length - 1 - tail]}…{text[-tail:]}"
    # Matplotlib leaves labels that begin with an underscore out of legends.
    return f" {text}" if text.startswith("_") else text


def png(figure: Figure) -> bytes:
    """The figure as an image file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def log_scale(axes: Axes) -> None:
    """A logarithmic y axis; matplotlib's own labels of one are formulas."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())
