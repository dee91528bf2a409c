"""The table of `robot watch`: every joint between its limits, and how old everything is. Loaded late: it needs rich."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from smolpilot.common.text import plain
from smolpilot.contracts.driver import DriverLimits, JointReadings

from ..limits import EffectiveLimits

BAR = 21
"""Letters of the bar that shows a joint between its limits."""
_NEAR_EDGE = 0.02
_HOT = 10.0
_MUCH_LOAD = 0.8


def position_bar(value: float, low: float, high: float) -> str:
    """`├────●───┤`: where a value lies between its limits; `◀` or `▶` at the end that it lies beyond."""
    if not math.isfinite(value):
        return f"├{'·' * (BAR - 2)}┤"
    inner = BAR - 2
    if value < low or value > high:
        line = "─" * (inner - 1)
        return f"├◀{line}┤" if value < low else f"├{line}▶┤"
    place = min(inner - 1, int((value - low) / (high - low) * inner))
    return f"├{'─' * place}●{'─' * (inner - 1 - place)}┤"


def watch_table(
    readings: JointReadings,
    limits: EffectiveLimits,
    cameras: Mapping[str, float | None],
    now: float,
    *,
    servos: Mapping[str, DriverLimits] | None = None,
    max_state_age: float = math.inf,
    max_image_age: float = math.inf,
) -> RenderableType:
    """Joints with position, limits, temperature, load and age; cameras with the age of their newest image.

    readings: in the order of `limits`. cameras: name -> when its newest image was taken, None where there is none; all
    times in seconds on the monotonic clock, as `now`. Ages above a maximum, and what is near a limit, are colored.
    """
    found = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    numbers = ("position", "°C", "load", "V", "age")
    for column in ("joint", "position", "unit", "limits", "°C", "load", "V", "age", "faults"):
        found.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    age = now - readings.read_at
    width = max(len(f"{one.low.value:.4g}") for one in limits.joints)
    for i, one in enumerate(limits.joints):
        value = float(readings.position[i])
        low, high = one.low.value, one.high.value
        edge = _NEAR_EDGE * (high - low)
        style = "" if not math.isfinite(value) or low + edge < value < high - edge else "yellow"
        bar = Text(position_bar(value, low, high), style="red" if value < low or value > high else style)
        found.add_row(
            plain(one.joint),
            _number(value, ".2f", "no answer"),
            one.unit,
            Text.assemble(f"{low:>{width}.4g} ", bar, f" {high:.4g}"),
            _temperature(_at(readings.temperature, i), (servos or {}).get(one.joint)),
            _load(_at(readings.load, i)),
            _number(_at(readings.voltage, i), ".1f"),
            _age(age, max_state_age),
            Text(", ".join(readings.faults.get(one.joint, ())), style="red"),
        )
    if not cameras:
        return found
    seen = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    seen.add_column("camera")
    seen.add_column("age", justify="right", no_wrap=True)
    for name, taken in cameras.items():
        seen.add_row(plain(name), Text("no image", "red") if taken is None else _age(now - taken, max_image_age))
    return Group(found, seen)


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
