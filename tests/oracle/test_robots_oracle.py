"""The shipped profiles against LeRobot's robots: the names they record under, their joints, and their default units."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest

from smolpilot.robots import RobotProfile, choose_profile

pytestmark = pytest.mark.oracle


def motors(robot: Any) -> list[str]:
    """The motors that a robot's source names; making one needs the servos' own libraries."""
    return re.findall(r'"(\w+)": Motor\(', inspect.getsource(robot.__init__))


def degrees_by_default(config: Any) -> bool:
    return next(bool(field.default) for field in dataclasses.fields(config) if field.name == "use_degrees")


def chosen(robot_type: str, names: list[str]) -> RobotProfile:
    found = choose_profile(None, robot_type=robot_type, state_names=names, action_names=names, notes=[])
    assert found is not None, robot_type
    return found


def test_arms_are_found_by_what_lerobot_records() -> None:
    from lerobot.robots.bi_so_follower import BiSOFollower
    from lerobot.robots.koch_follower import KochFollower, KochFollowerConfig
    from lerobot.robots.so_follower import SOFollower, SOFollowerRobotConfig

    arms = ((SOFollower, SOFollowerRobotConfig, "so101"), (KochFollower, KochFollowerConfig, "koch"))
    for robot, config, name in arms:
        names = [f"{motor}.pos" for motor in motors(robot)]
        assert len(names) == 6
        profile = chosen(robot.name, names)
        assert profile.name == name
        # lerobot-record writes the arm's name; the type of its configuration was written before.
        units = {joint.unit for joint in profile.joints if joint.name not in profile.gripper}
        assert units == ({"deg"} if degrees_by_default(config) else {"normalized"})
    both = [f"{side}_{motor}.pos" for side in ("left", "right") for motor in motors(SOFollower)]
    assert chosen(BiSOFollower.name, both).name == "bi_so_follower"


def test_lekiwi_is_found_by_what_lerobot_records() -> None:
    from lerobot.robots.lekiwi import LeKiwi, LeKiwiClient, LeKiwiConfig

    names = list(LeKiwi._state_ft.fget(None))
    for robot in (LeKiwi, LeKiwiClient):
        profile = chosen(robot.name, names)
        assert profile.name == "lekiwi"
        assert [joint.name for joint in profile.joints] == [name.removesuffix(".pos") for name in names]
    assert degrees_by_default(LeKiwiConfig)
    assert {joint.unit for joint in profile.joints if joint.name.startswith("arm_")} == {"deg", "normalized"}


def test_every_type_of_the_arms_configurations_is_known() -> None:
    from lerobot.robots.config import RobotConfig
    from lerobot.robots.so_follower import SOFollower

    names = [f"{motor}.pos" for motor in motors(SOFollower)]
    types = [name for name in RobotConfig.get_known_choices() if re.fullmatch(r"so\d*_follower", name)]
    assert {"so100_follower", "so101_follower"} <= set(types)
    for name in types:
        assert chosen(name, names).name == name.removesuffix("_follower")
