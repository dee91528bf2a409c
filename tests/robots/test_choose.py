"""Which profile a dataset's robot gets: by robot_type, by joint names, in the recorded unit; and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from smolpilot.common.errors import ProfileError
from smolpilot.robots import RobotProfile, choose_profile, list_profiles

SO = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
POS = [f"{name}.pos" for name in SO]
MAIN = [f"main_{name}" for name in SO]


def choose(
    robot_type: str | None, names: list[str], robot: str | None = None, ends: tuple[float, float] | None = None
) -> tuple[str | None, str]:
    notes: list[str] = []
    ranges = None
    if ends is not None:
        low, high = np.array([*[ends[0]] * 5, 0.0]), np.array([*[ends[1]] * 5, 100.0])
        ranges = {"observation.state": (low, high)}
    found = choose_profile(
        robot, robot_type=robot_type, state_names=names, action_names=names, notes=notes, ranges=ranges
    )
    return (found.name if found is not None else None), " ".join(notes)


@pytest.mark.parametrize(
    ("robot_type", "names", "profile"),
    [
        ("so_follower", POS, "so101"),
        ("so101_follower", POS, "so101"),
        ("so100_follower", POS, "so100"),
        ("SO-101", SO, "so101"),
        ("so100", MAIN, "so100_legacy"),
        ("so101", MAIN, "so100_legacy"),
        ("koch", MAIN, "koch_legacy"),
        ("koch", SO, "koch"),
        ("koch_follower", POS, "koch"),
        ("bi_so_follower", [f"{side}_{name}" for side in ("left", "right") for name in POS], "bi_so_follower"),
        ("Unitree_G1_Inspire", [joint.name for joint in RobotProfile.load("unitree_g1_inspire").joints],
         "unitree_g1_inspire"),
    ],
)  # fmt: skip
def test_by_robot_type(robot_type: str, names: list[str], profile: str) -> None:
    assert choose(robot_type, names) == (profile, f"robot: {profile}, by the dataset's robot_type {robot_type}")


def test_by_joint_names_where_one_fits_and_named_where_several_do() -> None:
    aloha = [joint.name for joint in RobotProfile.load("aloha").joints]
    assert choose("my_robot", aloha) == ("aloha", "robot: aloha, by its joint names")
    found, said = choose("my_robot", POS)
    assert found is None
    assert "fit koch, so100, so101: --robot NAME" in said
    # Numbered names are every robot's.
    assert choose("my_robot", ["motor_0", "motor_1"])[0] is None
    assert choose("my_robot", [f"joint_{i}" for i in range(1, 7)])[0] is None


def test_the_nearest_is_named_where_none_fits() -> None:
    found, said = choose("my_robot", [*SO[:5], "hand"])
    assert found is None
    assert "nearest by joint names: koch, 5 of 6, not hand" in said
    found, said = choose("so101_follower", ["pan.pos", "lift.pos"])
    assert found is None
    assert "'so101' of so101_follower does not fit" in said


def test_names_that_are_missing_match_by_place_and_that_is_said() -> None:
    found, said = choose("so101", [f"joint_{i}" for i in range(6)])
    assert found == "so101"
    assert "by their places" in said


def test_the_recorded_unit_decides_only_where_it_is_certain() -> None:
    found, said = choose("so_follower", POS, ends=(-100.0, 100.0))
    assert found == "so101_normalized"
    assert "not so101" in said
    assert choose("so_follower", POS, ends=(-99.0, 99.0))[0] == "so101"
    assert choose("koch_follower", POS, ends=(-140.0, 100.0))[0] == "koch_degrees"
    # What the user names stays.
    assert choose("so_follower", POS, robot="so101", ends=(-100.0, 100.0))[0] == "so101"


def test_none_switches_profiles_off() -> None:
    found, said = choose("so101", SO, robot="none")
    assert found is None
    assert "--robot none" in said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SO101", "so101"),
        ("so-101", "so101"),
        ("so101_follower", "so101"),
        ("koch_folower", "koch"),
        ("Aloah", "aloha"),
    ],
)
def test_a_misspelled_robot_gets_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(ProfileError, match=f"Did you mean '{meant}"):
        choose(None, SO, robot=name)


def test_every_other_unit_is_a_shipped_profile_of_the_same_joints() -> None:
    for name in list_profiles():
        profile = RobotProfile.load(name)
        if profile.other_units is not None:
            other = RobotProfile.load(profile.other_units)
            assert [joint.name for joint in other.joints] == [joint.name for joint in profile.joints], name


def test_a_unit_in_its_british_spelling_of_before_is_read() -> None:
    joint = "{name: hand, unit: %s, position_limits: [0, 1], velocity_limit: 1}"
    text = f"name: a\ndescription: b\nrate: 10\njoints:\n- {joint}\n"
    before, after = (RobotProfile.from_yaml(text % unit) for unit in ("normalised", "normalized"))
    assert before == after
    assert after.joints[0].unit == "normalized"
    assert "unit: normalized" in before.to_yaml()
