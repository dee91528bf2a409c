"""Robot profiles: the shipped ones, the schema, and what a person reads when a file is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from smolpilot.common.errors import ProfileError
from smolpilot.robots import Joint, RobotProfile, list_profiles

DIMENSIONS = {"so101": 6, "koch": 6, "parol6": 6, "kuavo": 16, "aloha": 14, "unitree_g1_inspire": 26, "pusht": 2}

VALID = """\
name: mine
description: a test arm
rate: 20
joints:
  - {name: base, unit: rad, position_limits: [-1.5, 1.5], velocity_limit: 2, aliases: [base.pos]}
  - {name: hand, unit: normalized, position_limits: [0, 1], velocity_limit: unknown}
gripper: [hand]
cameras:
  - {name: front, width: 64, height: 48, role: front}
"""


@dataclass
class Size:
    width: int
    height: int


@pytest.mark.parametrize("name", DIMENSIONS)
def test_shipped_profiles_load_with_their_dimensions(name: str) -> None:
    profile = RobotProfile.load(name)
    assert name in list_profiles()
    assert profile.name == name
    assert len(profile.state_joints) == len(profile.action_joints) == DIMENSIONS[name]
    assert profile.cameras


@pytest.mark.parametrize("name", DIMENSIONS)
def test_shipped_profiles_survive_yaml(name: str) -> None:
    profile = RobotProfile.load(name)
    assert RobotProfile.from_yaml(profile.to_yaml()) == profile


@pytest.mark.parametrize("name", DIMENSIONS)
def test_shipped_profiles_say_where_their_limits_come_from(name: str) -> None:
    folder = resources.files("smolpilot.robots") / "profiles"
    comment = [line for line in (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    assert "limits" in " ".join(comment).lower() or "rad/s" in " ".join(comment)
    assert any(word in " ".join(comment) for word in (".urdf", ".py", "data sheet", "e-manual"))


def test_kuavo_is_seven_joints_and_a_hand_per_side_left_first() -> None:
    names = [joint.name for joint in RobotProfile.load("kuavo").joints]
    assert [n[:6] for n in names[:7]] == ["zarm_l"] * 7
    assert [n[:6] for n in names[8:15]] == ["zarm_r"] * 7
    assert (names[7], names[15]) == ("left_claw", "right_claw")


def test_parol6_standby_is_inside_its_limits_and_all_zero_is_not() -> None:
    joints = RobotProfile.load("parol6").joints

    def outside(pose: list[float]) -> list[str]:
        pairs = zip(joints, pose, strict=True)
        return [j.name for j, v in pairs if j.position_limits and not j.position_limits[0] <= v <= j.position_limits[1]]

    assert outside([0, -90, 180, 0, 0, 180]) == []
    assert outside([0] * 6) == ["joint_2", "joint_3"]


def test_bimanual_limits_mirror_between_the_arms() -> None:
    """Roll and yaw joints of the right arm have the left's limits negated and swapped; pitch joints the same."""
    joints = {joint.name: joint for joint in RobotProfile.load("unitree_g1_inspire").joints}
    left, right = joints["left_shoulder_roll"].position_limits, joints["right_shoulder_roll"].position_limits
    assert left is not None
    assert right == (-left[1], -left[0])
    assert joints["left_elbow"].position_limits == joints["right_elbow"].position_limits


def test_joint_is_found_by_alias_and_the_nearest_is_proposed() -> None:
    profile = RobotProfile.load("so101")
    assert profile.joint("shoulder_pan.pos").name == "shoulder_pan"
    with pytest.raises(ProfileError, match="Did you mean 'shoulder_pan'"):
        profile.joint("shoulder_pn")


def test_unknown_limits_are_none_and_are_written_as_unknown() -> None:
    profile = RobotProfile.from_yaml(VALID)
    assert profile.joint("hand").velocity_limit is None
    assert profile.joint("base").position_limits == (-1.5, 1.5)
    assert "velocity_limit: unknown" in profile.to_yaml()


def test_state_and_action_may_name_some_of_the_joints() -> None:
    profile = RobotProfile.from_yaml(VALID + "state: [hand, base]\naction: [base]\n")
    assert [joint.name for joint in profile.state_joints] == ["hand", "base"]
    assert [joint.name for joint in profile.action_joints] == ["base"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("rate: 20", "rat: 20", ["mine.yaml:3: unknown key 'rat'", "Did you mean 'rate'?"]),
        ("unit: rad", "unit: radians", ["joints[0].unit", "'radians'", "Did you mean 'rad'?", ":5"]),
        ("velocity_limit: 2", "velocity: 2", ["'joints[0].velocity", "velocity_limit"]),
        ("[-1.5, 1.5]", "[1.5, -1.5]", ["joint 'base'", "minimum 1.5 is not below maximum -1.5", ":5"]),
        ("[-1.5, 1.5]", "[1.5]", ["joints[0].position_limits", "`unknown`"]),
        ("[-1.5, 1.5]", "wide", ["joints[0].position_limits", "'wide'", "`unknown`"]),
        ("[-1.5, 1.5]", "[.nan, 1.5]", ["joints[0].position_limits"]),
        ("velocity_limit: 2", "velocity_limit: -2", ["velocity_limit of joint 'base'", "above 0"]),
        ("velocity_limit: 2", "velocity_limit: 1.0e-320", ["velocity_limit of joint 'base'", "above 0"]),
        ("name: hand, ", "name: base, ", ["'base' is used twice"]),
        ("aliases: [base.pos]", "aliases: [hand]", ["'hand' is used twice"]),
        ("gripper: [hand]", "gripper: [hnad]", ["'gripper' names joint 'hnad'", "Did you mean 'hand'?"]),
        ("gripper: [hand]", "gripper: [hand, hand]", ["gripper joint 'hand' is listed twice"]),
        ("role: front", "role: font", ["cameras[0].role", "Did you mean 'front'?"]),
        ("width: 64", "width: '64'", ["cameras[0].width", "'64'", "integer"]),
        ("width: 64", "width: 0", ["cameras[0].width", "greater than 0"]),
        ("rate: 20", "rate: fast", ["key 'rate' is 'fast'", "number"]),
        ("rate: 20", "rate: 20\nrate: 30", [":4: key 'rate' appears twice", "line 3"]),
        ("rate: 20\n", "", ["key 'rate' is missing", "add 'rate'"]),
        ("gripper: [hand]", "state: []", ["must name at least one joint"]),
        ("[-1.5, 1.5]", "[-1.5, 1.5", ["mine.yaml", "not valid YAML"]),
        ("rate: 20", "rate: !fast 20", ["mine.yaml:3 is not valid YAML", "!fast"]),
    ],
)
def test_errors_name_file_line_key_and_the_fix(tmp_path: Path, before: str, after: str, expected: list[str]) -> None:
    assert before in VALID
    path = tmp_path / "mine.yaml"
    path.write_text(VALID.replace(before, after), encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        RobotProfile.load(path)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "mine.yaml" in message
    for part in expected:
        assert part in message
    assert "pydantic" not in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_a_file_without_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match="holds no robot profile"):
        RobotProfile.load(path)


def test_unknown_names_and_paths_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="Did you mean 'so101'"):
        RobotProfile.load("so10")
    with pytest.raises(ProfileError, match="does not exist"):
        RobotProfile.load(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ProfileError, match="not a text file"):
        RobotProfile.load(binary)


def test_profiles_are_frozen() -> None:
    profile = RobotProfile.from_yaml(VALID)
    with pytest.raises(ValueError, match="frozen"):
        profile.name = "other"


def test_a_profile_derived_from_a_dataset_says_unknown() -> None:
    cameras = {"cam_left_wrist": Size(640, 480), "top": Size(320, 240)}
    profile = RobotProfile.from_features(["a", "left_gripper"], cameras, 29.97, action_names=["left_gripper", "b"])
    assert [joint.name for joint in profile.joints] == ["a", "left_gripper", "b"]
    assert {joint.unit for joint in profile.joints} == {"unknown"}
    assert {joint.position_limits for joint in profile.joints} == {None}
    assert [joint.name for joint in profile.state_joints] == ["a", "left_gripper"]
    assert [joint.name for joint in profile.action_joints] == ["left_gripper", "b"]
    assert [(c.name, c.width, c.height, c.role) for c in profile.cameras] == [
        ("cam_left_wrist", 640, 480, "left_wrist"),
        ("top", 320, 240, "top"),
    ]
    assert profile.gripper == ["left_gripper"]
    assert profile.rate == 29.97
    assert RobotProfile.from_yaml(profile.to_yaml()) == profile


def test_a_dataset_with_equal_names_cannot_be_derived() -> None:
    with pytest.raises(ProfileError, match=r"(?s)not unique.*`smolpilot dataset repair SRC DST` numbers equal names"):
        RobotProfile.from_features(["a", "a"], {}, 30)


def test_the_json_form_is_plain() -> None:
    values = json.loads(RobotProfile.load("so101").model_dump_json())
    assert values["joints"][0]["position_limits"] == [-110.0, 110.0]
    assert Joint(name="x", unit="m", position_limits=None, velocity_limit=None).aliases == []
