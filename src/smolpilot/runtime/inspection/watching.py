"""What `robot watch` shows: reading after reading of an arm that nobody commands."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from smolpilot.common.errors import DeviceError, DeviceGoneError

from ..governed_robot import GovernedRobot
from .live_table import WatchTable

_PERIOD = 0.1


def frames(robot: GovernedRobot, seconds: float | None) -> Iterator[WatchTable]:
    """The table of `WatchTable`, ten times a second, for so long; at least once. The robot is open.

    A reading that fails shows as an age; DeviceGoneError when the cable is out.
    """
    options = robot.governor.options
    until = math.inf if seconds is None else time.monotonic() + seconds
    servos = robot.driver.limits()
    while True:
        reading = robot.read()
        if robot.gone:
            stop = robot.governor.stop
            raise DeviceGoneError("The arm is gone." if stop is None else stop.reason)
        yield WatchTable(
            reading,
            robot.limits,
            _taken(robot),
            time.monotonic(),
            servos=servos,
            max_state_age=options.max_state_age,
            max_image_age=options.max_image_age,
        )
        if time.monotonic() >= until:
            return
        time.sleep(_PERIOD)


def document(robot: GovernedRobot) -> dict[str, Any]:
    """One reading for JSON: joints with position, unit, limits and what their servos tell; cameras' ages in s."""
    reading = robot.read()
    now = time.monotonic()
    joints = [
        {
            "joint": one.joint,
            "unit": one.unit,
            "position": _finite(reading.position, i),
            "low": one.low.value,
            "high": one.high.value,
            **{name: _finite(getattr(reading, name), i) for name in ("velocity", "load", "current", "temperature")},
            "voltage": _finite(reading.voltage, i),
            "faults": list(reading.faults.get(one.joint, ())),
        }
        for i, one in enumerate(robot.limits.joints)
    ]
    ages = {name: None if at is None else now - at for name, at in _taken(robot).items()}
    return {"age": now - reading.read_at, "joints": joints, "cameras": ages}


def _taken(robot: GovernedRobot) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, camera in robot.cameras.items():
        try:
            found[name] = camera.latest().captured_at
        except DeviceError:
            found[name] = None
    return found


def _finite(values: np.ndarray[Any, Any] | None, index: int) -> float | None:
    return None if values is None or not np.isfinite(values[index]) else float(values[index])
