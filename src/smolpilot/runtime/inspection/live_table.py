"""The table of `robot watch`: every joint between its limits, and how old everything is. Loaded late: it needs rich."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from smolpilot.common.text import plain
from smolpilot.contracts.driver import DriverLimits, JointReadings

from ..limits import EffectiveLimits, JointLimits

BAR = 21
"""Letters of the bar that shows a joint between its limits, where there is room."""
_COLUMNS = ("joint", "position", "unit", "limits", "°C", "load", "V", "age", "faults")
_NUMBERS = ("position", "°C", "load", "V", "age")
_NEAR_EDGE = 0.02
_HOT = 10.0
_MUCH_LOAD = 0.8


def position_bar(value: float, low: float, high: float, letters: int = BAR) -> str:
    """`├────●───┤`: where a value lies between its limits; `◀` or `▶` at the end that it lies beyond."""
    inner = letters - 2
    if not math.isfinite(value):
        return f"├{'·' * inner}┤"
    if value < low or value > high:
        line = "─" * (inner - 1)
        return f"├◀{line}┤" if value < low else f"├{line}▶┤"
    place = min(inner - 1, int((value - low) / (high - low) * inner))
    return f"├{'─' * place}●{'─' * (inner - 1 - place)}┤"


class Form(NamedTuple):
    """How much of the table is shown: letters of the bar, spaces between columns, columns that are left out."""

    bar: int
    gap: int
    without: tuple[str, ...] = ()


FORMS = (
    Form(BAR, 3),
    Form(BAR, 1),
    Form(9, 1),
    Form(9, 1, ("V",)),
    Form(7, 1, ("V", "load")),
    Form(7, 1, ("V", "load", "unit", "age")),
    Form(7, 1, ("V", "load", "unit", "age", "limits", "°C")),
)
"""From the widest to the narrowest: the first that fits the terminal is taken, so that no number is cut off. Eighty
letters hold all but the voltage, which servos tell as a fault when it is low."""


@dataclass(frozen=True)
class WatchTable:
    """Joints with position, limits, temperature, load and age; cameras with the age of their newest image.

    readings: in the order of `limits`. cameras: name -> when its newest image was taken, None where there is none; all
    times in seconds on the monotonic clock, as `now`. Ages above a maximum, and what is near a limit, are colored.
    """

    readings: JointReadings
    limits: EffectiveLimits
    cameras: Mapping[str, float | None]
    now: float
    servos: Mapping[str, DriverLimits] = field(default_factory=dict)
    max_state_age: float = math.inf
    max_image_age: float = math.inf

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for form in FORMS:
            table = self._joints(form)
            if Measurement.get(console, options.update(max_width=1_000), table).maximum <= options.max_width:
                break
        yield table
        if self.cameras:
            yield self._cameras()

    def _joints(self, form: Form) -> Table:
        found = _table(form.gap)
        columns = [name for name in _COLUMNS if name not in form.without]
        for name in columns:
            number = name in _NUMBERS
            # Ages are as wide from one reading to the next, so that the table does not jump.
            found.add_column(name, justify="right" if number else "left", no_wrap=True, min_width=6 * (name == "age"))
        width = max(len(f"{one.low.value:.4g}") for one in self.limits.joints)
        for i, one in enumerate(self.limits.joints):
            cells = self._cells(i, one, form.bar, width)
            found.add_row(*(cells[name] for name in columns))
        return found

    def _cells(self, index: int, one: JointLimits, bar: int, width: int) -> dict[str, Text | str]:
        readings, low, high = self.readings, one.low.value, one.high.value
        value = float(readings.position[index])
        edge = _NEAR_EDGE * (high - low)
        style = "" if not math.isfinite(value) or low + edge < value < high - edge else "yellow"
        line = Text(position_bar(value, low, high, bar), style="red" if value < low or value > high else style)
        return {
            "joint": plain(one.joint),
            "position": _number(value, ".2f", "no answer"),
            "unit": one.unit,
            "limits": Text.assemble(f"{low:>{width}.4g} ", line, f" {high:.4g}"),
            "°C": _temperature(_at(readings.temperature, index), self.servos.get(one.joint)),
            "load": _load(_at(readings.load, index)),
            "V": _number(_at(readings.voltage, index), ".1f"),
            "age": _age(self.now - readings.read_at, self.max_state_age),
            "faults": Text(", ".join(readings.faults.get(one.joint, ())), style="red"),
        }

    def _cameras(self) -> Table:
        found = _table(3)
        found.add_column("camera")
        found.add_column("age", justify="right", no_wrap=True)
        for name, taken in self.cameras.items():
            age = Text("no image", "red") if taken is None else _age(self.now - taken, self.max_image_age)
            found.add_row(plain(name), age)
        return found


def _table(gap: int) -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, gap // 2), pad_edge=False)


def _at(values: Sequence[float] | object, index: int) -> float:
    return math.nan if values is None else float(values[index])  # type: ignore[index]


def _number(value: float, form: str, unknown: str = "") -> Text:
    return Text(format(value, form)) if math.isfinite(value) else Text(unknown, "red")


def _temperature(value: float, limits: DriverLimits | None) -> Text:
    text = _number(value, ".0f")
    if limits is not None and limits.temperature is not None and value > limits.temperature - _HOT:
        text.stylize("red")
    return text


def _load(value: float) -> Text:
    text = Text(f"{value:.0%}") if math.isfinite(value) else Text("")
    if math.isfinite(value) and abs(value) > _MUCH_LOAD:
        text.stylize("yellow")
    return text


def _age(seconds: float, most: float) -> Text:
    return Text(f"{1e3 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.0f} s", "red" if seconds > most else "")
