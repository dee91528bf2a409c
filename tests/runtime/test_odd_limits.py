"""Limits in force: what a source may say, and what is refused before anything is computed with it."""

from __future__ import annotations

import math

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.contracts import DriverLimits
from smolpilot.robots import RobotProfile
from smolpilot.runtime.limits import JointLimits, OperatingLimit, effective_limits

PROFILE = RobotProfile.load("so101")
STEP = 360 / 4095


def pan(
    servo: DriverLimits | None = None,
    setup: OperatingLimit | None = None,
    *,
    velocity: float | None = None,
    acceleration: float | None = None,
) -> JointLimits:
    """The limits of shoulder_pan."""
    return effective_limits(
        PROFILE,
        {} if servo is None else {"shoulder_pan": servo},
        {} if setup is None else {"shoulder_pan": setup},
        demonstrated_velocity={"shoulder_pan": velocity},
        demonstrated_acceleration={"shoulder_pan": acceleration},
    ).joints[0]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_nothing_can_be_computed_with_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="The demonstrations give joint 'shoulder_pan' velocity"):
        pan(velocity=value)
    with pytest.raises(UsageError, match="The demonstrations give joint 'shoulder_pan' acceleration"):
        pan(velocity=10.0, acceleration=value)
    with pytest.raises(UsageError, match="The servos give joint 'shoulder_pan' steps"):
        pan(DriverLimits(position=(-90.0, 90.0), step=value))


@pytest.mark.parametrize("position", [(math.nan, 90.0), (-90.0, math.nan), (-math.inf, 90.0)])
def test_a_calibration_without_numbers_is_refused(position: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="The position limits of joint 'shoulder_pan' are no numbers"):
        pan(DriverLimits(position=position, step=STEP))


def test_an_interval_between_two_steps_of_the_servo_is_refused() -> None:
    """There is no goal in it; its ends on the servo's grid would change places."""
    servo = DriverLimits(position=(-1024 * STEP, 1024 * STEP), step=STEP)
    with pytest.raises(
        UsageError, match=r"may nowhere be: it is 0\.0175824 deg at least .*, within a step of its servo\."
    ):
        pan(servo, OperatingLimit(position=(0.2 * STEP, 0.9 * STEP)))
    assert pan(servo, OperatingLimit(position=(0.0, 1.5 * STEP))).high.value == pytest.approx(STEP)


def test_sources_that_exclude_each_other_are_named() -> None:
    with pytest.raises(UsageError, match=r"-20 .*at least \(setup\).*|at most \(calibration\)"):
        pan(DriverLimits(position=(-90.0, -60.0)), OperatingLimit(position=(-20.0, 20.0)))


def test_a_joint_of_a_small_range_may_sag_as_any_other() -> None:
    servo = DriverLimits(position=(-1024 * STEP, 1024 * STEP), step=STEP)
    small = pan(servo, OperatingLimit(position=(-0.5, 0.5)))
    assert small.tracking.value == pytest.approx(24 * STEP)
    assert small.tracking.origin == "default (24 steps of its servo)"
    assert pan(servo).tracking.origin.startswith("default (10% of the range")
    assert pan(servo, OperatingLimit(position=(-0.5, 0.5), tracking_error=0.1)).tracking.value == 0.1
