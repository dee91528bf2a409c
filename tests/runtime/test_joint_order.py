"""JointOrder: what a source calls its numbers is turned into what the robot wants, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import UsageError
from smolpilot.robots import Joint, RobotProfile
from smolpilot.runtime.joint_order import JointOrder, StateOrder

ROBOT = RobotProfile(
    name="toy", description="a test", rate=30.0, gripper=["grip"], state=["pan", "lift", "grip", "wheel"],
    action=["lift", "pan", "grip"],
    joints=[
        Joint(name="pan", unit="deg", position_limits=(-90.0, 90.0), velocity_limit=None, aliases=["main_pan"]),
        Joint(name="lift", unit="rad", position_limits=(-1.5, 1.5), velocity_limit=None),
        Joint(name="grip", unit="normalized", position_limits=(0.0, 100.0), velocity_limit=None),
        Joint(name="wheel", unit="m", position_limits=None, velocity_limit=None),
    ],
    cameras=[],
)  # fmt: skip
NAMES, UNITS = ["lift", "pan", "grip"], ["rad", "deg", "normalized"]


def test_the_robots_own_order_and_units_pass_as_they_are() -> None:
    action = np.array([0.5, -30.0, 70.0])
    np.testing.assert_array_equal(JointOrder(ROBOT, NAMES, UNITS)(action), action)


def test_angles_and_scales_are_converted_and_joints_found_by_other_names() -> None:
    order = JointOrder(ROBOT, ["grip.pos", "main_pan", "lift"], ["fraction", "rad", "deg"])
    np.testing.assert_allclose(order(np.array([0.25, np.pi / 6, 45.0])), [np.pi / 4, 30.0, 25.0])


@settings(deadline=None)
@given(st.permutations(range(3)), st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_any_order_is_put_right(order: list[int], values: list[float]) -> None:
    turned = JointOrder(ROBOT, [NAMES[i] for i in order], [UNITS[i] for i in order])
    np.testing.assert_array_equal(turned(np.array(values)[order]), values)


@pytest.mark.parametrize(
    ("names", "units", "words"),
    [
        (["lift", "pam", "grip"], UNITS, "Robot 'toy' has no joint 'pam'"),
        (["lift", "pan", "wheel"], ["rad", "deg", "m"], "has no joint 'wheel'"),
        (["lift", "pan", "main_pan"], ["rad", "deg", "deg"], "Joint 'pan' is commanded twice"),
        (["lift", "pan"], UNITS[:2], "Nothing commands the joint 'grip'"),
        ([], [], "Nothing commands the joint 'lift'"),
        (NAMES, ["m", "deg", "normalized"], "Joint 'lift' is commanded in the unit 'm'"),
        (NAMES, ["rad", "unknown", "normalized"], "Joint 'pan' is commanded in the unit 'unknown'"),
        (NAMES, ["rad", "normalized", "normalized"], "Joint 'pan' is commanded in the unit 'normalized'"),
        (NAMES, ["rad", "deg", "deg"], "Joint 'grip' is commanded in the unit 'deg'"),
    ],
)
def test_what_is_not_known_is_refused_and_never_guessed(names: list[str], units: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        JointOrder(ROBOT, names, units)
    assert caught.value.expected or caught.value.fix


def test_a_robot_whose_own_unit_nobody_knows_takes_no_command_by_name() -> None:
    joint = Joint(name="pan", unit="unknown", position_limits=(-1.0, 1.0), velocity_limit=None)
    robot = ROBOT.model_copy(update={"joints": [joint], "state": None, "action": None})
    with pytest.raises(UsageError, match="commanded in the unit 'deg'"):
        JointOrder(robot, ["pan"], ["deg"])
    with pytest.raises(UsageError, match="commanded in the unit 'unknown'"):
        JointOrder(robot, ["pan"], ["unknown"])


def test_a_state_reaches_the_policy_in_its_own_order_and_units() -> None:
    """The way back: the robot's degrees are the policy's radians, by name."""
    order = StateOrder(ROBOT, ["grip", "lift", "main_pan"], ["normalized", "deg", "rad"])
    state = np.array([90.0, np.pi / 4, 70.0, 5.0])  # pan in deg, lift in rad, grip, wheel
    np.testing.assert_allclose(order(state), [70.0, 45.0, np.pi / 2])


def test_a_state_that_the_robot_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"reads no joint 'pann'\."):
        StateOrder(ROBOT, ["pann"], ["deg"])
    with pytest.raises(UsageError, match="reads joint 'pan' in the unit 'm'"):
        StateOrder(ROBOT, ["pan"], ["m"])
