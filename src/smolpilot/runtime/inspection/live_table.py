"""The table of `robot watch`: every joint between its limits, and how old everything is. Loaded late: it needs rich."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from smolpilot.common.text import plain
from smolpilot.contracts.driver import DriverLimits, JointReadings

from ..limits import EffectiveLimits, JointLimits
from .live_cells import BAR, Form, age_text, number_text, position_bar, value_at

_COLUMNS = ("joint", "position", "unit", "limits", "°C", "load", "V", "age", "faults")
_NUMBERS = ("position", "°C", "load", "V", "age")
_NEAR_EDGE = 0.02
_HOT = 10.0
_MUCH_LOAD = 0.8


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
            "position": number_text(value, ".2f", "no answer"),
            "unit": one.unit,
            "limits": Text.assemble(f"{low:>{width}.4g} ", line, f" {high:.4g}"),
            "°C": _temperature(value_at(readings.temperature, index), self.servos.get(one.joint)),
            "load": _load(value_at(readings.load, index)),
            "V": number_text(value_at(readings.voltage, index), ".1f"),
            "age": age_text(self.now - readings.read_at, self.max_state_age),
            "faults": Text(", ".join(readings.faults.get(one.joint, ())), style="red"),
        }

    def _cameras(self) -> Table:
        found = _table(3)
        found.add_column("camera")
        found.add_column("age", justify="right", no_wrap=True)
        for name, taken in self.cameras.items():
            age = Text("no image", "red") if taken is None else age_text(self.now - taken, self.max_image_age)
            found.add_row(plain(name), age)
        return found


def _table(gap: int) -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, gap // 2), pad_edge=False)


def _temperature(value: float, limits: DriverLimits | None) -> Text:
    text = number_text(value, ".0f")
    if limits is not None and limits.temperature is not None and value > limits.temperature - _HOT:
        text.stylize("red")
    return text


def _load(value: float) -> Text:
    text = Text(f"{value:.0%}") if math.isfinite(value) else Text("")
    if math.isfinite(value) and abs(value) > _MUCH_LOAD:
        text.stylize("yellow")
    return text
