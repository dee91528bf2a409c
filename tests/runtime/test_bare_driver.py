"""GovernedRobot with a driver of somebody else, who says nothing that the contract does not ask for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.contracts import Driver, DriverLimits, JointReadings, Joints
from smolpilot.robots import RobotProfile
from smolpilot.runtime.governed_robot import GovernedRobot
from smolpilot.runtime.governor import Phase
from smolpilot.runtime.limits import OperatingLimit

PROFILE = RobotProfile.load("so101")


class Bare:
    """Positions and their time, in the reverse order of the profile, and None everywhere else."""

    joints = tuple(joint.name for joint in PROFILE.action_joints)[::-1]

    def __init__(self) -> None:
        self.now = 50.0
        self.goals = np.array([50.0, 5.0, 4.0, 3.0, 2.0, 1.0])
        self.open = False

    def connect(self) -> None:
        self.open = True

    def limits(self) -> Mapping[str, DriverLimits]:
        return {}

    def read(self) -> JointReadings:
        return JointReadings(self.goals.copy(), self.now)

    def engage(self) -> Joints:
        return self.goals.copy()

    def write(self, goals: Joints) -> float:
        self.goals = goals.copy()
        return self.now

    def release(self) -> None:
        return

    def disconnect(self) -> None:
        self.open = False


_: type[Driver] = Bare


def test_a_driver_that_says_nothing_else_is_governed_all_the_same() -> None:
    driver = Bare()
    robot = GovernedRobot(PROFILE, driver, clock=lambda: driver.now)
    robot.connect()
    assert [joint.torque for joint in robot.limits.joints] == [None] * 6, "a limit that nobody holds is not shown"
    target = np.array([11.0, 2.0, 3.0, 4.0, 5.0, 50.0])
    for _ in range(200):
        robot.read()
        before = driver.goals
        made = robot.command(target)
        assert made.stop is None
        assert (np.abs(driver.goals - before) <= robot.limits.velocity[::-1] / robot.spec.rate + 1e-9).all()
        driver.now += 1 / robot.spec.rate
    np.testing.assert_allclose(driver.goals, target[::-1])
    robot.disconnect()
    assert not driver.open


def test_a_torque_limit_that_the_driver_cannot_hold_is_refused() -> None:
    driver = Bare()
    robot = GovernedRobot(PROFILE, driver, operating_limits={"gripper": OperatingLimit(torque=0.3)})
    with pytest.raises(UsageError, match="limits the torque of joint 'gripper'; this arm's driver cannot"):
        robot.open()
    assert not driver.open


def test_what_goes_wrong_at_opening_closes_the_arm() -> None:
    driver = Bare()
    robot = GovernedRobot(PROFILE, driver, demonstrated_velocity={"gripper": 0.0})
    with pytest.raises(UsageError, match="The demonstrations give joint 'gripper' velocity 0"):
        robot.connect()
    assert not driver.open


def test_a_joint_that_hardly_moved_in_the_demonstrations_costs_no_memory() -> None:
    driver = Bare()
    slow = {"gripper": 1e-9}
    robot = GovernedRobot(
        PROFILE, driver, demonstrated_velocity=slow, demonstrated_acceleration=slow, clock=lambda: driver.now
    )
    robot.connect()
    robot.command(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 60.0]))
    assert robot.governor.phase is Phase.RAMP
    assert driver.goals[0] == pytest.approx(50.0, abs=1e-6)
