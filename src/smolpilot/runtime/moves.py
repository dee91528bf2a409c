"""A way to a pose: `robot move` and `robot park`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.contracts import JointReadings, Joints
from smolpilot.robots import RobotProfile

from .governor import Request
from .governor.limiter import Limits, Motion, step_to
from .limits import EffectiveLimits

SPEED = 0.5
"""Share of the limits that a move takes unless it is told otherwise: what a person can follow with the eye."""
_SETTLED = 0.02  # of a joint's range: measured closer than this is there
_STILL = 0.001  # of a joint's range, and
_STILL_S = 0.25  # in which a joint that moves no farther has come to rest: gravity and the dead band leave the rest
_ROUNDED = 0.001  # of a joint's range: limits lie on the steps of its servo, and 100 is asked for where 99.96 is one
_SETTLING_S = 1.5  # after the last command, at most


class Move:
    """A source: joints go to `targets` with `share` of the limits, all others stay where they are held.

    Requests are within the limits by themselves, so that the governor passes them on as they are.
    """

    def __init__(self, limits: EffectiveLimits, held: Joints, targets: Mapping[str, float], rate: float, share: float):
        """held: where the arm is held now [A]; targets: joint -> position in its unit, checked by `parse_targets`."""
        tightened = limits.scaled(share)
        self._limits = Limits(tightened.low, tightened.high, tightened.velocity, tightened.acceleration)
        self._names, self._tick = limits.names, 1.0 / rate
        self.target = np.array(
            [min(max(targets[one.joint], one.low.value), one.high.value) if one.joint in targets else held[i]
             for i, one in enumerate(limits.joints)]
        )  # fmt: skip
        self._moves = np.array([name in targets for name in limits.names])
        self._range = limits.high - limits.low
        self._motion = Motion(held.copy(), np.zeros(len(held)))
        self._first = True
        self._arrived_at: float | None = None
        self._seen: tuple[float, Joints] | None = None  # since when the joints have been there

    def ask(self, now: float, reading: JointReadings) -> Request:
        """The next point of the way; the first is where the arm is held."""
        if not self._first:
            self._motion = step_to(self._motion, self.target, self.target, self._tick, self._limits).motion
        self._first = False
        return Request(self._motion.position, asked_at=now)

    def done(self, now: float, reading: JointReadings) -> bool:
        """Arrived, and the joints have come to rest or had the time to."""
        if np.abs(self._motion.position - self.target).max() > 1e-9 * self._range.max():
            return False
        self._arrived_at = now if self._arrived_at is None else self._arrived_at
        if self._seen is None or (np.abs(reading.position - self._seen[1]) > _STILL * self._range).any():
            self._seen = now, reading.position
        return now - self._seen[0] >= _STILL_S or now - self._arrived_at >= _SETTLING_S

    def missed(self, reading: JointReadings) -> tuple[str, ...]:
        """The joints to be moved that are not measured to be where they were to go."""
        there = np.abs(reading.position - self.target) <= _SETTLED * self._range
        return tuple(name for name, moves, close in zip(self._names, self._moves, there, strict=True) if moves > close)

    def seconds(self) -> float:
        """About how long the way takes."""
        way = np.abs(self.target - self._motion.position)
        return float((way / self._limits.velocity + self._limits.velocity / self._limits.acceleration).max())


def parse_targets(words: list[str], profile: RobotProfile, limits: EffectiveLimits | None = None) -> dict[str, float]:
    """`JOINT=VALUE` ... as joint -> position in the joint's unit.

    UsageError for another form, an unknown or doubled joint, a value that is no finite number, and one beyond the
    limits: a person who asks for it has mistaken something.
    """
    names = [joint.name for joint in profile.action_joints]
    targets: dict[str, float] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign:
            raise UsageError(f"'{word}' does not say where to move a joint.", expected="JOINT=VALUE, as elbow_flex=30")
        joint = profile.find(name)
        if joint is None or joint.name not in names:
            raise UsageError(f"Robot '{profile.name}' has no joint '{name}'.", fix=did_you_mean(name, names))
        if joint.name in targets:
            raise UsageError(f"Joint '{joint.name}' is given twice.", expected="one value for each joint")
        targets[joint.name] = _number(word, text, joint.unit)
    if limits is not None:
        check_within(targets, limits)
    return targets


def check_within(targets: Mapping[str, float], limits: EffectiveLimits) -> None:
    """UsageError for a target beyond the limits in force, by more than what they were rounded by."""
    for one in limits.joints:
        value = targets.get(one.joint)
        slack = _ROUNDED * one.range
        if value is not None and not one.low.value - slack <= value <= one.high.value + slack:
            raise UsageError(
                f"Joint '{one.joint}' cannot go to {value:g} {one.unit}.",
                expected=f"{one.low.value:.4g} ({one.low.origin}) to {one.high.value:.4g} ({one.high.origin})",
            )


def _number(word: str, text: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UsageError(f"'{word}' gives no position.", expected=f"a number in {unit} after the `=`")
    return value
