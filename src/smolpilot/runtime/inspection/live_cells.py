"""What the live tables of joints are made of: bars, numbers, ages. Loaded late: it needs rich."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

BAR = 21
"""Letters of the bar that shows a joint between its limits, where there is room."""


class Form(NamedTuple):
    """How much of a table is shown: letters of the bar, spaces between columns, columns that are left out."""

    bar: int
    gap: int
    without: tuple[str, ...] = ()


def position_bar(
    value: float,
    low: float,
    high: float,
    letters: int = BAR,
    *,
    commanded: float = math.nan,
    planned: tuple[float, float] = (math.nan, math.nan),
) -> str:
    """`├──━━●━○───┤`: where a value lies between its limits; `◀` or `▶` at the end that it lies beyond.

    commanded: `○`. planned: least and most of what is ahead, `━`. NaN: not known, and not shown.
    """
    inner = letters - 2

    def place(of: float) -> int:
        share = (of - low) / (high - low) if 0 < high - low < math.inf else 0.0
        return min(inner - 1, max(0, int(min(max(share, 0.0), 1.0) * inner)))

    cells = ["─" if math.isfinite(value) else "·"] * inner
    if all(map(math.isfinite, planned)):
        first, last = place(planned[0]), place(planned[1])
        cells[first : last + 1] = "━" * (last + 1 - first)
    if math.isfinite(commanded):
        cells[place(commanded)] = "○"
    if math.isfinite(value):
        cells[place(value)] = "◀" if value < low else "▶" if value > high else "●"
    return f"├{''.join(cells)}┤"


def value_at(values: Sequence[float | None] | object, index: int) -> float:
    """The value of one joint; NaN where there is none."""
    try:
        value = values[index]  # type: ignore[index]
    except (TypeError, IndexError):
        return math.nan
    return math.nan if value is None else float(value)


def number_text(value: float, form: str, unknown: str = "") -> Text:
    """A number, or in red what is said when it is not known."""
    return Text(format(value, form)) if math.isfinite(value) else Text(unknown, "red")


def age_text(seconds: float, most: float) -> Text:
    """`120 ms`, `14 s`; red above `most`."""
    return Text(f"{1e3 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.0f} s", "red" if seconds > most else "")
