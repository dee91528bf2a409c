"""Effective limits: which of the sources wins, what is said of its origin, and that nothing unknown is unlimited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pydantic
import pytest

from smolpilot.common.errors import ProfileError, UsageError
from smolpilot.contracts import DriverLimits
from smolpilot.robots import Joint, RobotProfile
from smolpilot.robots.demonstrated import Demonstrated
from smolpilot.runtime.limits import EffectiveLimits, JointLimits, OperatingLimit, effective_limits
from smolpilot.runtime.opening import shown_limits


def profile(
    position: tuple[float, float] | None = (-90.0, 90.0),
    velocity: float | None = 270.0,
    *,
    unit: str = "deg",
    gripper: bool = False,
) -> RobotProfile:
    """A robot of one joint, `pan`."""
    joint = Joint.model_validate(
        {"name": "pan", "unit": unit, "position_limits": position, "velocity_limit": velocity, "aliases": ["main_pan"]}
    )
    gripping = ["pan"] if gripper else []
    return RobotProfile(name="toy", description="a test", rate=30.0, joints=[joint], gripper=gripping, cameras=[])


def limits(
    robot: RobotProfile | None = None, servo: DriverLimits | None = None, shown: Any = (None, None), **setup: Any
) -> JointLimits:
    """What holds for `pan`; shown: velocity and acceleration of the demonstrations; setup: its operating limits."""
    found = effective_limits(
        robot or profile(),
        {} if servo is None else {"pan": servo},
        {"pan": OperatingLimit(**setup)} if setup else {},
        demonstrated_velocity={"pan": shown[0]},
        demonstrated_acceleration={"pan": shown[1]},
    )
    (one,) = found.joints
    return one


@pytest.mark.parametrize(
    ("of_profile", "of_servo", "of_setup", "low", "high"),
    [
        ((-90.0, 90.0), None, None, (-90.0, "profile"), (90.0, "profile")),
        (None, (-80.0, 70.0), None, (-80.0, "calibration"), (70.0, "calibration")),
        (None, None, (-10.0, 20.0), (-10.0, "setup"), (20.0, "setup")),
        ((-90.0, 90.0), (-95.0, 60.0), (-30.0, 100.0), (-30.0, "setup"), (60.0, "calibration")),
        ((-90.0, 50.0), (-70.0, 95.0), None, (-70.0, "calibration"), (50.0, "profile")),
        ((-90.0, 90.0), None, (-300.0, 300.0), (-90.0, "profile"), (90.0, "profile")),
    ],
)
def test_positions_are_what_all_sources_have_in_common_each_with_its_origin(
    of_profile: Any, of_servo: Any, of_setup: Any, low: tuple[float, str], high: tuple[float, str]
) -> None:
    setup = {} if of_setup is None else {"position": of_setup}
    one = limits(profile(of_profile), DriverLimits(position=of_servo), **setup)
    assert (one.low.value, one.low.origin) == low
    assert (one.high.value, one.high.origin) == high
    assert one.range == high[0] - low[0]


def test_a_joint_whose_position_nobody_bounds_is_refused() -> None:
    with pytest.raises(UsageError, match="Joint 'pan' has no position limit") as caught:
        limits(profile(None))
    assert "`unknown` never means unlimited" in caught.value.expected
    assert "operating_limits: {pan: {position: [LOW, HIGH]}}" in caught.value.fix


def test_sources_that_exclude_each_other_are_refused_by_name() -> None:
    with pytest.raises(
        UsageError, match=r"may nowhere be: it is 10 deg at least \(calibration\) and 5 at most"
    ) as told:
        limits(servo=DriverLimits(position=(10.0, 80.0)), position=(-50.0, 5.0))
    assert "(setup)" in told.value.found
    with pytest.raises(UsageError, match="may nowhere be"):
        limits(servo=DriverLimits(position=(10.0, 80.0)), position=(-50.0, 10.0))


@pytest.mark.parametrize("ends", [(-50.0, 33.3), (-50.03, 33.37), (0.01, 0.35), (-89.9, 89.95)])
def test_limits_lie_on_the_servos_grid_inside_of_what_was_said(ends: tuple[float, float]) -> None:
    step = 360 / 4095
    servo = DriverLimits(position=(-1030 * step, 1030 * step), step=step)
    one = limits(servo=servo, position=ends)
    assert servo.position is not None
    assert ends[0] <= one.low.value + 1e-9
    assert one.high.value <= ends[1] + 1e-9
    assert one.low.value - ends[0] < step
    assert ends[1] - one.high.value < step
    for value in (one.low.value, one.high.value):
        steps = (value - servo.position[0]) / step
        assert steps == pytest.approx(round(steps), abs=1e-6)
    assert (one.low.origin, one.high.origin) == ("setup", "setup")


def test_limits_that_are_on_the_grid_already_stay_there() -> None:
    step = 360 / 4095
    one = limits(servo=DriverLimits(position=(-500 * step, 500 * step), step=step))
    assert one.low.value == pytest.approx(-500 * step, abs=1e-9)
    assert one.high.value == pytest.approx(500 * step, abs=1e-9)


@pytest.mark.parametrize("ends", [(0.03, 0.06), (0.01, 0.1)])
def test_a_range_between_two_steps_of_the_servo_is_none(ends: tuple[float, float]) -> None:
    step = 360 / 4095
    with pytest.raises(UsageError, match=r"Joint 'pan' may nowhere be.*step of its servo"):
        limits(servo=DriverLimits(position=(-1000 * step, 1000 * step), step=step), position=ends)


@pytest.mark.parametrize(
    ("shown", "setup", "of_profile", "value", "origin"),
    [
        (40.0, 60.0, 270.0, 40.0, "demonstrations"),
        (40.0, 30.0, 270.0, 30.0, "setup"),
        (400.0, 300.0, 270.0, 270.0, "profile (the motor's own speed)"),
        (400.0, None, 270.0, 270.0, "profile (the motor's own speed)"),
        (400.0, None, None, 400.0, "demonstrations"),
        (None, 300.0, None, 300.0, "setup"),
        (None, 100.0, 270.0, 100.0, "setup"),
        (100.0, None, 270.0, 100.0, "demonstrations"),
        (None, None, 270.0, 36.0, "default (20% of the range per second)"),
        (None, None, None, 36.0, "default (20% of the range per second)"),
        (None, None, 20.0, 20.0, "profile (the motor's own speed)"),
    ],
)
def test_velocity_is_the_lowest_that_somebody_says_and_a_default_where_neither_demonstrations_nor_setup_do(
    shown: float | None, setup: float | None, of_profile: float | None, value: float, origin: str
) -> None:
    said: Any = {} if setup is None else {"velocity": setup}
    one = limits(profile(velocity=of_profile), shown=(shown, None), **said)
    assert (one.velocity.value, one.velocity.origin) == (value, origin)


@pytest.mark.parametrize(
    ("shown", "setup", "value", "origin"),
    [
        (500.0, 400.0, 400.0, "setup"),
        (300.0, 400.0, 300.0, "demonstrations"),
        (None, 400.0, 400.0, "setup"),
        (700.0, None, 700.0, "demonstrations"),
        (None, None, 120.0, "default (velocity / 0.3 s)"),
    ],
)
def test_acceleration_is_the_lowest_too_and_by_default_stops_in_0_3_s(
    shown: float | None, setup: float | None, value: float, origin: str
) -> None:
    said: Any = {} if setup is None else {"acceleration": setup}
    one = limits(shown=(36.0, shown), **said)
    assert one.velocity.value == 36.0
    assert one.acceleration.value == pytest.approx(value)
    assert one.acceleration.origin == origin


def test_the_default_speed_is_of_the_range_that_is_in_force() -> None:
    assert limits(position=(-10.0, 20.0)).velocity.value == pytest.approx(6.0)
    assert limits(profile(None), DriverLimits(position=(-100.0, 100.0))).velocity.value == pytest.approx(40.0)


def test_tracking_error_and_torque_have_defaults_that_a_setup_replaces() -> None:
    one = limits(velocity=60.0)
    assert one.tracking.value == pytest.approx(0.1 * 180 + 0.15 * 60)
    assert one.tracking.origin == "default (10% of the range and 0.15 s of motion)"
    assert one.torque is None
    own = limits(tracking_error=5.0, torque=0.3)
    assert (own.tracking.value, own.tracking.origin) == (5.0, "setup")
    assert own.torque is not None
    assert (own.torque.value, own.torque.origin) == (0.3, "setup")


def test_a_gripper_uses_half_of_its_torque_unless_the_setup_says_otherwise() -> None:
    robot = profile((0.0, 100.0), None, unit="normalized", gripper=True)
    one = limits(robot)
    assert one.gripper
    assert one.torque is not None
    assert (one.torque.value, one.torque.origin) == (0.5, "default of a gripper")
    own = limits(robot, torque=0.8).torque
    assert own is not None
    assert (own.value, own.origin) == (0.8, "setup")


def test_joints_come_in_the_order_of_the_action_as_arrays() -> None:
    so101 = RobotProfile.load("so101")
    found = effective_limits(so101, {}, {"gripper": OperatingLimit(position=(10.0, 90.0))})
    assert found.names == tuple(joint.name for joint in so101.action_joints)
    assert found.low.tolist()[-1] == 10.0
    assert found.high.tolist()[0] == 110.0
    np.testing.assert_allclose(found.velocity, 0.2 * (found.high - found.low))
    np.testing.assert_allclose(found.acceleration, found.velocity / 0.3)
    assert found.gripper.tolist() == [False] * 5 + [True]


def test_nothing_that_is_unknown_is_unlimited() -> None:
    """Over all that may be left out: every number is finite, and below the whole range in a second."""
    for position in ((-90.0, 90.0), None):
        for velocity in (270.0, None):
            one = limits(profile(position, velocity), DriverLimits(position=(-45.0, 45.0)))
            numbers = [one.low.value, one.high.value, one.velocity.value, one.acceleration.value, one.tracking.value]
            assert np.isfinite(numbers).all()
            assert one.velocity.value <= 0.2 * 90


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"position": (5.0, 5.0)}, "minimum 5 is not below maximum 5"),
        ({"position": (5.0, -5.0)}, "minimum 5 is not below maximum -5"),
        ({"position": (float("-inf"), 5.0)}, "finite number"),
        ({"velocity": 0.0}, "greater than 0"),
        ({"velocity": float("inf")}, "finite number"),
        ({"acceleration": -1.0}, "greater than 0"),
        ({"tracking_error": float("nan")}, "greater than 0|finite number"),
        ({"torque": 1.01}, "less than or equal to 1"),
        ({"torque": 0.0}, "greater than 0"),
        ({"velocity": "60"}, "valid number"),
        ({"speed": 60.0}, "not permitted"),
    ],
)
def test_an_operating_limit_that_is_none_is_refused(values: Mapping[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        OperatingLimit.model_validate(values)


def test_a_setups_list_of_two_is_an_interval() -> None:
    assert OperatingLimit.model_validate({"position": [-5.0, 5.0]}).position == (-5.0, 5.0)


def test_a_share_is_said_with_what_it_is_of() -> None:
    whole = EffectiveLimits((limits(velocity=60.0, acceleration=200.0),))
    half = whole.scaled(0.5).joints[0]
    assert (half.velocity.value, half.velocity.origin) == (30.0, "50% of 60 from setup")
    assert half.acceleration.value == 100.0
    assert (half.low, half.tracking) == (whole.joints[0].low, whole.joints[0].tracking)
    assert whole.scaled(1.0) is whole


# What demonstrations show


def demonstrated(unit: str, velocity: float | None = 2.0, acceleration: float | None = 4.0, name: str = "pan") -> Any:
    return Demonstrated.model_validate(
        {
            "joints": ({"name": name, "unit": unit, "velocity": velocity, "acceleration": acceleration},),
            "start_poses": ({"name": name, "unit": unit} | dict.fromkeys(("q00", "q01", "q50", "q99", "q100"), 0.0),),
            "origins": ({"dataset": "d", "fingerprint": None, "rate": 30.0, "frames": 9, "episodes": (0,)},),
        }
    )


def test_what_demonstrations_show_is_turned_into_the_profiles_units() -> None:
    assert shown_limits(demonstrated("deg"), profile()) == ({"pan": 2.0}, {"pan": 4.0})
    velocity, acceleration = shown_limits(demonstrated("rad"), profile())
    assert velocity["pan"] == pytest.approx(np.degrees(2.0))
    assert acceleration["pan"] == pytest.approx(np.degrees(4.0))
    velocity, acceleration = shown_limits(demonstrated("deg"), profile((-1.5, 1.5), 4.7, unit="rad"))
    assert velocity["pan"] == pytest.approx(np.radians(2.0))
    assert acceleration["pan"] == pytest.approx(np.radians(4.0))


def test_a_joint_that_never_moved_shows_nothing_and_gets_the_default() -> None:
    velocity, acceleration = shown_limits(demonstrated("deg", None, None, name="main_pan"), profile())
    assert (velocity, acceleration) == ({"pan": None}, {"pan": None})
    one = limits(shown=(velocity["pan"], acceleration["pan"]))
    assert one.velocity.origin == "default (20% of the range per second)"
    assert one.acceleration.origin == "default (velocity / 0.3 s)"
    assert shown_limits(None, profile()) == ({}, {})


@pytest.mark.parametrize(("unit", "own"), [("m", "deg"), ("normalized", "deg"), ("unknown", "deg"), ("deg", "unknown")])
def test_what_demonstrations_show_in_a_unit_that_nothing_converts_is_refused(unit: str, own: str) -> None:
    with pytest.raises(UsageError, match=f"demonstrations have joint 'pan' in {unit}") as caught:
        shown_limits(demonstrated(unit), profile(unit=own))
    assert own in caught.value.expected
    assert "the profile that the policy was trained with" in caught.value.fix


def test_demonstrations_of_another_robot_are_refused() -> None:
    with pytest.raises(ProfileError, match="has no joint 'pam'") as caught:
        shown_limits(demonstrated("deg", name="pam"), profile())
    assert "pan" in caught.value.fix
