"""Charts as SVG: text as text in both languages, the page's own light and dark, small enough for a robot of 26 joints.

Drawn here and not by matplotlib, whose figures have one language and one ground. Its rules for ticks are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import markupsafe
import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from smolpilot.evaluation.drawing import caption

from .texts import Both, Text

WIDTH, HEIGHT = 400, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 22, 36
_MOST_POINTS = 240  # of a line: wide enough for every dip at this size
_ROW = 24
_LABELS = 132  # width of the names left of horizontal rows
Numbers = npt.ArrayLike


@dataclass(frozen=True)
class Figure:
    """A chart with what stands around it: caption, legend (kind of mark, its text), and the CSV behind it."""

    caption: Text
    svg: markupsafe.Markup
    legend: Sequence[tuple[str, Text]] = ()
    csv: str | None = None
    note: Text | None = None
    size: str = ""  # "wide" for a whole row of the page


@dataclass(frozen=True)
class Axis:
    """What an axis shows, from `low` to `high`."""

    label: Text
    low: float
    high: float
    log: bool = False
    whole: bool = False  # counts: no ticks between whole numbers

    def place(self, values: Numbers) -> npt.NDArray[np.float64]:
        """Values as shares of the axis; outside of it they stay outside, nan stays nan."""
        found = np.asarray(values, dtype=np.float64)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.where(found > 0, np.log10(found), np.nan)
            low, high = math.log10(self.low), math.log10(self.high)
        else:
            low, high = self.low, self.high
        return np.asarray((found - low) / (high - low))

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Round values within the axis, with how they are written."""
        if not self.log:
            found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=self.whole, min_n_ticks=1).tick_values(
                self.low, self.high
            )
            return [
                (float(one), _tick(float(one), found)) for one in found if self.low <= one <= self.high * (1 + 1e-9)
            ]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1,) if len(powers) > 5 else (1, 3) if len(powers) > 3 else (1, 2, 5)
        values = [step * 10.0**power for power in powers for step in steps]
        if sum(self.low <= one <= self.high for one in values) < 3:  # a narrow one has hardly a round power
            values = [float(one) for one in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)]
        return [(one, f"{one:,.6g}") for one in values if self.low <= one <= self.high]


def axis_of(label: Text, values: Sequence[Numbers], *, zero: bool = False, log: bool = False) -> Axis:
    """An axis that holds all finite values with a margin; a constant one gets some width."""
    held = np.concatenate([np.ravel(np.asarray(one, dtype=np.float64)) for one in values] or [np.zeros(0)])
    held = held[np.isfinite(held) & ((held > 0) | (not log))]
    if not len(held):
        return Axis(label, *((0.1, 10.0, True) if log else (0.0, 1.0)))
    low, high = float(held.min()), float(held.max())
    if log:
        return Axis(label, low / 1.4, high * 1.4, True)
    if zero:
        return Axis(label, min(low, 0.0), high * 1.06 if high > 0 else 1.0)
    margin = 0.06 * (high - low) or max(abs(low) * 0.1, 1e-3)
    return Axis(label, low - margin, high + margin)


class Chart:
    """A plane with two axes, on which lines, points and spans are put; `svg()` gives what was drawn."""

    def __init__(self, x: Axis, y: Axis, *, width: int = WIDTH, height: int = HEIGHT) -> None:
        self._x, self._y, self._width, self._height = x, y, width, height
        self._marks: list[str] = []

    def line(self, x: Numbers, y: Numbers, kind: str) -> None:
        """A line through the points; nan leaves a gap. Long ones keep the highest and lowest of each stretch."""
        places = _thinned(self._places(x, y))
        self._marks.append(f'<path class="line {kind}" d="{_path(places)}"/>')

    def points(self, x: Numbers, y: Numbers, kind: str) -> None:
        """A dot for each point, all in one element."""
        places = self._places(x, y)
        inside = places[np.isfinite(places).all(axis=1)]
        dots = "".join(f"M{_n(a)} {_n(b)}h0" for a, b in inside)
        self._marks.append(f'<path class="dots {kind}" d="{dots}"/>')

    def upright(self, x: float, kind: str) -> None:
        """A line over the whole height, such as a limit."""
        (place,) = self._columns([x])
        self._marks.append(f'<path class="line {kind}" d="M{_n(place)} {_TOP}V{self._height - _BOTTOM}"/>')

    def uprights(self, places: Numbers, kind: str) -> None:
        """Many of them, in one element."""
        lines = "".join(f"M{_n(x)} {_TOP}V{self._height - _BOTTOM}" for x in self._columns(places))
        self._marks.append(f'<path class="line {kind}" d="{lines}"/>')

    def span(self, low: float, high: float, kind: str) -> None:
        """A shaded stretch of the x axis."""
        left, right = self._columns([low, high])
        self._marks.append(_rect(left, _TOP, right - left, self._height - _BOTTOM - _TOP, f"area {kind}"))

    def bar(self, low: float, high: float, value: float, kind: str) -> None:
        """An upright bar from the lower edge."""
        left, right = self._columns([low, high])
        (top,) = self._rows([value])
        self._marks.append(_rect(left, top, right - left, self._height - _BOTTOM - top, f"area {kind}"))

    def whisker(self, x: float, low: float, high: float, kind: str) -> None:
        """An upright interval."""
        (place,), (bottom, top) = self._columns([x]), self._rows([low, high])
        self._marks.append(f'<path class="line {kind}" d="M{_n(place)} {_n(top)}V{_n(bottom)}"/>')

    def svg(self, names: Sequence[tuple[float, Text]] | None = None) -> markupsafe.Markup:
        """The chart; `names` replace the numbers of the x axis."""
        bottom, right = self._height - _BOTTOM, self._width - _RIGHT
        parts = [f'<text class="label" x="2" y="12">{_svg_text(self._y.label)}</text>']
        for value, text in self._y.ticks():
            (place,) = self._rows([value])
            parts.append(f'<path class="grid" d="M{_LEFT} {_n(place)}H{right}"/>')
            parts.append(f'<text class="end" x="{_LEFT - 5}" y="{_n(place + 4)}">{text}</text>')
        for value, name in names if names is not None else self._x.ticks():
            (place,) = self._columns([value])
            parts.append(f'<path class="axis" d="M{_n(place)} {bottom}v4"/>')
            parts.append(f'<text class="mid" x="{_n(place)}" y="{bottom + 16}">{_svg_text(name, 14)}</text>')
        parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
        middle = (_LEFT + right) / 2
        parts.append(f'<text class="label mid" x="{middle:g}" y="{self._height - 4}">{_svg_text(self._x.label)}</text>')
        frame = f'<svg class="inside" x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" height="{bottom - _TOP}" '
        frame += f'viewBox="{_LEFT} {_TOP} {right - _LEFT} {bottom - _TOP}">'
        return _svg(self._width, self._height, [*parts, frame, *self._marks, "</svg>"])

    def _places(self, x: Numbers, y: Numbers) -> npt.NDArray[np.float64]:
        return np.column_stack([self._columns(x), self._rows(y)])

    def _columns(self, x: Numbers) -> npt.NDArray[np.float64]:
        return _LEFT + self._x.place(x) * (self._width - _LEFT - _RIGHT)

    def _rows(self, y: Numbers) -> npt.NDArray[np.float64]:
        # Far outside is outside: a wild plan of 1e30 must not become a number that a browser cannot read.
        share = np.clip(self._y.place(y), -2.0, 3.0)
        return self._height - _BOTTOM - share * (self._height - _BOTTOM - _TOP)


@dataclass(frozen=True)
class Row:
    """One row of a horizontal chart: a name, a value with its interval where there is one, and marks (kind, value)."""

    name: Text
    kind: str
    value: float | None
    interval: Sequence[float] | None = None
    marks: Sequence[tuple[str, float | None]] = ()


def interval_rows(rows: Sequence[Row], axis: Axis) -> markupsafe.Markup:
    """A dot with its interval for each row, names at the left."""
    return _rows_chart(rows, axis, _dot)


def bar_rows(rows: Sequence[Row], axis: Axis) -> markupsafe.Markup:
    """A bar for each row with the marks of others on it, names at the left."""
    return _rows_chart(rows, axis, _bar)


def stacked_rows(rows: Sequence[tuple[Text, Sequence[tuple[str, int]]]], axis: Axis) -> markupsafe.Markup:
    """For each row counts side by side, each with its kind and its number where there is room."""
    parts = []
    for number, (name, counts) in enumerate(rows):
        top, done = number * _ROW + 4, 0
        parts.append(_name(name, top + 12))
        for kind, count in counts:
            left, right = _along(axis, [done, done + count])
            done += count
            if not count:
                continue
            parts.append(_rect(left, top, max(right - left - 1, 0.5), 16, f"area {kind}"))
            if right - left > 9 * len(str(count)):
                parts.append(f'<text class="mid on {kind}" x="{_n((left + right) / 2)}" y="{top + 12}">{count}</text>')
    return _with_axis(parts, len(rows), axis)


def strip_rows(
    rows: Sequence[tuple[Text, Sequence[tuple[float, float, float]]]],
    axis: Axis,
    kind: str,
    *,
    marks: Sequence[tuple[str, float]] = (),
) -> markupsafe.Markup:
    """For each row stretches (begin, end, strength from 0 to 1) on a line, stronger ones darker; names at the left.

    marks: kind and place of lines over all rows.
    """
    parts = []
    for mark, place in marks:
        (x,) = _along(axis, [place])
        parts.append(f'<path class="line {mark}" d="M{_n(x)} 0V{len(rows) * _ROW + 4}"/>')
    for number, (name, stretches) in enumerate(rows):
        middle = number * _ROW + _ROW / 2 + 2
        parts.append(_name(name, middle + 4))
        parts.append(f'<path class="grid" d="M{_LABELS} {_n(middle)}H{WIDTH - _RIGHT}"/>')
        for begin, end, strength in stretches:
            left, right = _along(axis, [begin, end])
            opacity = f' fill-opacity="{0.3 + 0.7 * min(1.0, strength):.2f}"'
            rect = _rect(left, middle - 8, max(right - left, 1.0), 16, f"area {kind}")
            parts.append(rect.replace("/>", f"{opacity}/>"))
    return _with_axis(parts, len(rows), axis)


def _rows_chart(rows: Sequence[Row], axis: Axis, draw: Any) -> markupsafe.Markup:
    parts = []
    for number, row in enumerate(rows):
        middle = number * _ROW + _ROW / 2
        parts += [_name(row.name, middle + 4), *draw(row, axis, middle)]
    return _with_axis(parts, len(rows), axis)


def _dot(row: Row, axis: Axis, middle: float) -> list[str]:
    parts = []
    if row.interval is not None:
        low, high = _along(axis, row.interval)
        ends = "".join(f"M{_n(end)} {_n(middle - 4)}v8" for end in (low, high))
        parts.append(f'<path class="line {row.kind}" d="M{_n(low)} {_n(middle)}H{_n(high)}{ends}"/>')
    if row.value is not None:
        (place,) = _along(axis, [row.value])
        parts.append(f'<circle class="area {row.kind}" cx="{_n(place)}" cy="{_n(middle)}" r="4.5"/>')
    return parts


def _bar(row: Row, axis: Axis, middle: float) -> list[str]:
    parts = []
    if row.value is not None:
        left, right = _along(axis, [axis.low, row.value])
        parts.append(_rect(left, middle - 6, max(right - left, 0.5), 12, f"area {row.kind}"))
    for kind, value in row.marks:
        if value is not None and math.isfinite(value):
            (place,) = _along(axis, [value])
            parts.append(f'<path class="tick {kind}" d="M{_n(place)} {_n(middle - 9)}v18"/>')
    return parts


def _with_axis(parts: list[str], rows: int, axis: Axis) -> markupsafe.Markup:
    bottom = rows * _ROW + 4
    grid = []
    for value, text in axis.ticks():
        (place,) = _along(axis, [value])
        grid.append(f'<path class="grid" d="M{_n(place)} 0V{bottom}"/>')
        grid.append(f'<text class="mid" x="{_n(place)}" y="{bottom + 13}">{text}</text>')
    middle = (_LABELS + WIDTH - _RIGHT) / 2
    grid.append(f'<path class="axis" d="M{_LABELS} {bottom}H{WIDTH - _RIGHT}"/>')
    grid.append(f'<text class="label mid" x="{middle:g}" y="{bottom + 29}">{_svg_text(axis.label)}</text>')
    return _svg(WIDTH, bottom + 34, [*grid, *parts])


def _along(axis: Axis, values: Numbers) -> npt.NDArray[np.float64]:
    return _LABELS + np.clip(axis.place(values), 0.0, 1.0) * (WIDTH - _RIGHT - 10 - _LABELS)


def _name(name: Text, y: float) -> str:
    return f'<text class="end" x="{_LABELS - 8}" y="{_n(y)}">{_svg_text(name, 20)}</text>'


def _svg_text(text: Text, length: int = 60) -> str:
    if isinstance(text, Both):
        return str(text.svg)
    return str(markupsafe.escape(caption(text, length)))


def _svg(width: float, height: float, parts: Sequence[str]) -> markupsafe.Markup:
    # All texts came through `_svg_text`, all else are numbers and words of this module.
    return markupsafe.Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img">{"".join(parts)}</svg>')


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(max(height, 0))}"/>'


def _path(places: npt.NDArray[np.float64]) -> str:
    text, pen_up = [], True
    for x, y in places:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen_up = True
            continue
        text.append(f"{'M' if pen_up else 'L'}{_n(x)} {_n(y)}")
        pen_up = False
    return "".join(text)


def _thinned(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """At most so many points: of each stretch the one with the highest and the one with the lowest value."""
    if len(places) <= _MOST_POINTS:
        return places
    kept = {0, len(places) - 1}
    for part in np.array_split(np.arange(len(places)), _MOST_POINTS // 2):
        values = places[part, 1]
        kept.update(int(part[find(values)]) for find in (np.argmin, np.argmax))  # nan wins: its gap stays
    return places[sorted(kept)]


def _n(value: float) -> str:
    """A coordinate with one digit behind the point, and none that says nothing."""
    return f"{value:.1f}".removesuffix(".0")


def _tick(value: float, ticks: Sequence[float]) -> str:
    all_values = np.asarray(ticks, dtype=np.float64)
    step = float(np.min(np.diff(all_values))) if len(all_values) > 1 else 1.0
    if max(abs(all_values)) >= 1e6 or step < 1e-5:
        return f"{value:.2g}".replace("-", "−")
    digits = next((d for d in range(6) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 5)
    return f"{value:,.{digits}f}".replace("-", "−")
