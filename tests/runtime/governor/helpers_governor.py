"""A small arm's limits, readings of it, and a governor that a test drives tick by tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.contracts import DriverLimits, JointReadings
from smolpilot.runtime.governor import Decision, Governor, GovernorOptions, Request
from smolpilot.runtime.limits import Bound, EffectiveLimits, JointLimits

RATE = 30.0
TICK = 1 / RATE
SERVOS = {name: DriverLimits(temperature=70.0, voltage=(4.0, 8.0)) for name in ("pan", "lift", "gripper")}


def joint(name: str, **changes: Any) -> JointLimits:
    """-90..90 deg, 60 deg/s, 200 deg/s², 15 deg from the measurement."""
    values: dict[str, Any] = {
        "low": -90.0, "high": 90.0, "velocity": 60.0, "acceleration": 200.0, "tracking": 15.0,
    } | changes  # fmt: skip
    gripper = values.pop("gripper", False)
    torque = Bound(0.5, "test") if gripper else None
    bounds = {key: Bound(value, "test") for key, value in values.items()}
    return JointLimits(joint=name, unit="deg", torque=torque, gripper=gripper, **bounds)


LIMITS = EffectiveLimits((joint("pan"), joint("lift", low=-30.0, velocity=20.0), joint("gripper", gripper=True)))


class Driven:
    """A governor, time, and an arm that is where it was told to be unless a test says otherwise."""

    def __init__(self, limits: EffectiveLimits = LIMITS, *, options: GovernorOptions | None = None) -> None:
        self.governor = Governor(limits, RATE, servos=SERVOS, options=options)
        self.now = 100.0
        self.size = len(limits.names)
        self.start = np.zeros(self.size)
        self.governor.start(self.start)
        self.commands: list[npt.NDArray[np.float64]] = [self.start]
        self.says: dict[str, Any] = {}

    def reading(self, **says: Any) -> JointReadings:
        """Healthy servos at the last command, and what a test says otherwise (also by `self.says`)."""
        rest = np.zeros(self.size)
        told: dict[str, Any] = {
            "position": self.commands[-1], "velocity": rest, "load": rest, "current": rest,
            "temperature": rest + 35, "voltage": rest + 7.4, "read_at": self.now,
        } | self.says | says  # fmt: skip
        return JointReadings(**told)

    def tick(
        self,
        action: npt.ArrayLike | None,
        *,
        dt: float = TICK,
        images: Mapping[str, float] | None = None,
        reading: JointReadings | None = None,
        **request: Any,  # of Request
    ) -> Decision:
        """A tick later: ask for `action` (None: nobody asks)."""
        self.now += dt
        asked = None if action is None else Request(**({"action": action, "asked_at": self.now} | request))
        made = self.governor.tick(self.now, asked, reading or self.reading(), images)
        assert made.command is not None
        self.commands.append(made.command)
        return made

    def run(self, action: npt.ArrayLike | None, ticks: int, **options: Any) -> Decision:
        """So many ticks of the same."""
        made = None
        for _ in range(ticks):
            made = self.tick(action, **options)
        assert made is not None
        return made

    def reach(self, action: npt.ArrayLike) -> None:
        """Let the ramp end: ask for `action` until the arm is there."""
        for _ in range(5000):
            self.tick(action)
            if np.abs(self.commands[-1] - np.asarray(action)).max() < 1e-9 and self.governor.at_rest:
                return
        raise AssertionError(f"never got to {action!r}: {self.commands[-1]}")


def motion(commands: Sequence[npt.NDArray[np.float64]], dt: float = TICK) -> tuple[Any, Any]:
    """Velocities [n, A] and accelerations [n, A] of commands at equal times, which began at rest."""
    moved = np.array([commands[0], *commands])
    velocity = np.diff(moved, axis=0) / dt
    return velocity, np.diff(velocity, axis=0) / dt
