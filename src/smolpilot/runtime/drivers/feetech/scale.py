"""Steps of a servo and units of a profile, by an arm's calibration, as in LeRobot's motors_bus.py `_normalize`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from smolpilot.common.errors import DeviceError
from smolpilot.common.text import shown
from smolpilot.robots import Joint
from smolpilot.runtime.calibration import JointCalibration, turn_of

from .registers import STEPS

LAST = STEPS - 1
MARGIN = 16
"""Steps between the bounds of a joint and where its position wraps (4095 to 0): an overshoot must not come out at the
other end, from where the servo would go the long way round."""
_NEAR = 0.01  # of a step, that a value may be beyond the range: the rounding of float32


@dataclass(frozen=True)
class JointScale:
    """One joint. An angle is 0 in the middle of the calibrated range, and a step is 1/4095 of a turn, as in LeRobot.

    turn: a turn in the joint's unit, None for a joint with its own scale, which goes from `low` to `high` over the
    calibrated range (and back with drive_mode 1).
    """

    joint: str
    unit: str
    calibration: JointCalibration
    turn: float | None
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, joint: Joint, calibration: JointCalibration) -> JointScale:
        """The scale of a profile's joint; ProfileError for a unit that no servo turns in."""
        turn = turn_of(joint)
        if turn is not None:
            return cls(joint.name, joint.unit, calibration, turn)
        end = joint.full_scale or 0.0
        below = joint.position_limits is not None and joint.position_limits[0] < 0
        return cls(joint.name, joint.unit, calibration, None, -end if below else 0.0, end)

    @property
    def per_step(self) -> float:
        """Units of a step upwards: below 0 for a scale that is turned round."""
        if self.turn is not None:
            return self.turn / LAST
        size = (self.high - self.low) / (self.calibration.range_max - self.calibration.range_min)
        return -size if self.calibration.drive_mode else size

    @property
    def middle(self) -> float:
        """The middle of the calibrated range, in steps."""
        return (self.calibration.range_min + self.calibration.range_max) / 2

    def value(self, steps: float) -> float:
        """Where the joint is, in its unit. Own scales end where the calibration does; an angle goes on."""
        value = (self.high + self.low) / 2 + (steps - self.middle) * self.per_step
        return value if self.turn is not None else min(self.high, max(self.low, value))

    def steps(self, value: float) -> int:
        """The nearest step; DeviceError for what is not finite or beyond the calibrated range.

        LeRobot cuts the fraction off, so that what was read and is written back may be a step lower.
        """
        if not math.isfinite(value):
            raise DeviceError(f"Joint '{self.joint}' was told {shown(value)}.", expected="a finite number")
        exact = self.middle + (value - (self.high + self.low) / 2) / self.per_step
        low, high = self.calibration.range_min, self.calibration.range_max
        if not low - _NEAR <= exact <= high + _NEAR:
            ends = sorted((self.value(low), self.value(high)))
            raise DeviceError(
                f"Joint '{self.joint}' was told {value:.6g} {self.unit}, beyond its calibrated range.",
                expected=f"{ends[0]:.6g} to {ends[1]:.6g}",
            )
        return min(high, max(low, round(exact)))

    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that a command may have: steps of the calibrated range, away from the wrap."""
        low = max(self.calibration.range_min, MARGIN)
        high = min(self.calibration.range_max, LAST - MARGIN)
        if low >= high:  # a range of a few steps at the wrap
            low, high = self.calibration.range_min, self.calibration.range_max
        first, second = sorted((self.value(low), self.value(high)))
        return first, second

    def outside(self, steps: float) -> float:
        """How many steps a position is beyond the calibrated range; 0 within."""
        return max(self.calibration.range_min - steps, steps - self.calibration.range_max, 0.0)

    def unwrapped(self, steps: int, last: float | None) -> int:
        """The position counted on beyond 0 and 4095: whole turns are added until it is the nearest to `last`.

        Without a last one, to the middle of the calibrated range. The step from 4095 to 0 is none of a whole turn then.
        """
        near = self.middle if last is None else last
        return steps + STEPS * round((near - steps) / STEPS)
