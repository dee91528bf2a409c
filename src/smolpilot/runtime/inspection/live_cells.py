"""What the live tables of joints are made of: bars, numbers, ages, and the widest form that fits. Needs rich."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
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


def first_that_fits(tables: Iterable[Table], console: Console, options: ConsoleOptions) -> Table:
    """The first table that is no wider than the terminal, so that no number is cut off; the last one if none fits."""
    table = Table()
    for table in tables:
        if Measurement.get(console, options.update(max_width=1_000), table).maximum <= options.max_width:
            break
    return table


def bare_table(gap: int) -> Table:
    """A table with a line under its head, and nothing else around it."""
    return Table(box=SIMPLE_HEAD, padding=(0, gap // 2), pad_edge=False)


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
