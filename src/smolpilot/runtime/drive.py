"""One motion from beginning to end: connect, hold, move, say what came of it, close."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.contracts import SentAction, StopCategory

from .control_loop import run_loop
from .governed_robot import GovernedRobot
from .moves import Move, check_within
from .signals import StopSignals


@dataclass(frozen=True)
class JointMoved:
    """What became of one joint, in its unit: where it was, was to go, was told last, and was measured last."""

    joint: str
    unit: str
    start: float
    target: float
    commanded: float
    measured: float | None


@dataclass(frozen=True)
class MoveReport:
    """How a motion ended: `stop` is why it was stopped, None where it was not; `missed`: the joints that have not
    followed to where they were to go; `clamped`: joint -> clamped ticks."""

    joints: Sequence[JointMoved]
    ticks: int
    stop: str | None
    missed: Sequence[str]
    clamped: Mapping[str, int]
    released: bool

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "joints": [vars(joint) for joint in self.joints], "clamped": dict(self.clamped)}


def move(
    robot: GovernedRobot,
    targets: Mapping[str, float],
    *,
    share: float,
    release: bool = False,
    begin: Callable[[float], None] = lambda seconds: None,
    on_tick: Callable[[SentAction], None] = lambda sent: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> MoveReport:
    """Move joints to `targets` (joint -> position in its unit) with `share` of the limits, through the governor.

    The robot is not connected yet, and is closed afterwards; torque stays on and holds the arm, unless `release` asks
    for it to be switched off, which is done only where every joint has arrived. begin: called with the seconds that it
    will take. UsageError, before anything moves, for a target beyond the limits in force; DeviceError, and torque as it
    was, when it was asked to end while it connected.
    """
    if not targets:
        raise UsageError("Nothing is to be moved.", expected="JOINT=VALUE, one or more")
    with StopSignals() as signals:
        try:
            robot.open()
            check_within(targets, robot.limits)
            if signals.reason is not None:
                raise DeviceError(f"{signals.reason} Nothing was moved, and torque is as it was.")
            robot.engage()
            held = robot.governor.last_command
            assert held is not None  # it is engaged
            way = Move(robot.limits, held, targets, robot.spec.rate, share)
            begin(way.seconds())
            loop = partial(run_loop, robot, signals=signals, on_tick=on_tick, clock=clock, sleep=sleep)
            end = loop(way)
            stop = None if end.stop is None else end.stop.reason
            missed = () if robot.reading is None else way.missed(robot.reading)
            if release and stop is None and missed:
                stop = f"{', '.join(f"'{name}'" for name in missed)} did not arrive: torque stays on."
            elif release and stop is None:  # stop category 1: torque goes off when the arm stands
                robot.halt(StopCategory.THEN_POWER_OFF, "torque was to be switched off")
                loop(way)
                stop = "The arm is gone: torque could not be switched off." if robot.gone else None
            return _report(robot, way, held, end.ticks, stop, missed, released=release and stop is None)
        finally:
            robot.disconnect()


def _report(
    robot: GovernedRobot,
    way: Move,
    held: np.ndarray[Any, Any],
    ticks: int,
    stop: str | None,
    missed: Sequence[str],
    *,
    released: bool,
) -> MoveReport:
    last = robot.governor.last_command
    told = way.target if last is None else last
    reading = robot.reading
    joints = []
    for i, limits in enumerate(robot.limits.joints):
        measured = np.nan if reading is None else float(reading.position[i])
        joints.append(
            JointMoved(
                limits.joint,
                limits.unit,
                float(held[i]),
                float(way.target[i]),
                float(told[i]),
                measured if np.isfinite(measured) else None,
            )
        )
    clamped: Counter[str] = Counter()
    for (flag, joint), count in robot.governor.counts.items():
        if joint and flag in ("position", "velocity", "acceleration"):
            clamped[joint] += count
    return MoveReport(joints, ticks, stop, missed, clamped, released)
