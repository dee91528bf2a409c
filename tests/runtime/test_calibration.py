"""LeRobot's calibration files, read, found and written."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import ProfileError, UsageError
from smolpilot.robots import Joint, RobotProfile
from smolpilot.runtime.calibration import (
    LEADERS,
    JointCalibration,
    calibration_folder,
    default_calibration,
    find_calibration,
    read_calibration,
    write_calibration,
)

PROFILE = RobotProfile.load("so101")
NAMES = [joint.name for joint in PROFILE.joints]
FILE: dict[str, Any] = {
    name: {"id": i, "drive_mode": 0, "homing_offset": 100 - i, "range_min": 700 + i, "range_max": 3300 + i}
    for i, name in enumerate(NAMES, 1)
}


def written(folder: Path, content: object) -> Path:
    path = folder / "arm.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_file_is_read_in_the_order_of_the_profile_and_written_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, {name: FILE[name] for name in reversed(NAMES)})
    calibration = read_calibration(path, PROFILE)
    assert list(calibration) == NAMES
    assert calibration["elbow_flex"] == JointCalibration(3, 0, 97, 703, 3303)
    write_calibration(path, calibration)
    assert path.read_text() == json.dumps(FILE, indent=4)
    assert read_calibration(path, PROFILE) == calibration


def test_a_joint_may_go_by_its_alias(tmp_path: Path) -> None:
    path = written(tmp_path, {f"main_{name}": entry for name, entry in FILE.items()})
    assert list(read_calibration(path, PROFILE)) == NAMES


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(FILE)
    change(content)
    return content


WRONG: list[tuple[object, str]] = [
    ("{", "is no calibration"),
    ("[]", "no JSON object"),
    ({}, "lacks joint 'shoulder_pan'"),
    (changed(lambda f: f.pop("gripper")), "lacks joint 'gripper'"),
    (changed(lambda f: f.update(griper=f["gripper"])), "has joint 'griper'.*\n.*\n.*Did you mean 'gripper'"),
    (changed(lambda f: f.update(main_gripper=f["gripper"])), "has joint 'gripper' twice"),
    (changed(lambda f: f.update(gripper=[1])), r"joint 'gripper' is \[1\]"),
    (changed(lambda f: f["gripper"].pop("range_min")), "joint 'gripper' lacks 'range_min'"),
    (changed(lambda f: f["gripper"].update(rangemin=1)), "has the key 'rangemin'.\nFix: Did you mean 'range_min'"),
    (changed(lambda f: f["gripper"].update(id=1)), "'shoulder_pan' and 'gripper' both have servo 1"),
    (changed(lambda f: f["gripper"].update(id=254)), "id is 254, and must be 0 to 253"),
    (changed(lambda f: f["gripper"].update(drive_mode=2)), "drive_mode is 2"),
    (changed(lambda f: f["gripper"].update(homing_offset=-2048)), "homing_offset is -2048"),
    (changed(lambda f: f["gripper"].update(range_max=4096)), "range_max is 4096"),
    (changed(lambda f: f["gripper"].update(range_min=3306)), "range_min 3306 is not below range_max 3306"),
    (changed(lambda f: f["gripper"].update(range_min=700.0)), "range_min is 700.0, a float"),
    (changed(lambda f: f["gripper"].update(range_min=True)), "range_min is True, a bool"),
    (changed(lambda f: f["gripper"].update(range_min="700")), "range_min is '700', a str"),
]


@pytest.mark.parametrize(("content", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UsageError, match=rf"(?s)my arm.*{message}"):
        read_calibration(written(tmp_path, content), PROFILE, "my arm")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: A file or folder is not there"):
        read_calibration(tmp_path / "none.json", PROFILE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    for name in ("robots/so_follower/black", "robots/so101_follower/white", "teleoperators/so_leader/red"):
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_an_id_is_found_where_lerobot_keeps_it(home: Path) -> None:
    assert find_calibration("black") == home / "robots/so_follower/black.json"
    assert find_calibration("white") == home / "robots/so101_follower/white.json"
    assert find_calibration("red", LEADERS) == home / "teleoperators/so_leader/red.json"
    newer = home / "robots/so_follower/white.json"
    newer.write_text("calibrated again, by the LeRobot of now")
    assert find_calibration("white") == newer


def test_a_path_is_that_file(home: Path) -> None:
    path = home / "robots/so_follower/black.json"
    assert find_calibration(str(path)) == path
    with pytest.raises(UsageError, match=r"other\.json does not exist"):
        find_calibration(str(home / "other.json"))


def test_an_unknown_id_lists_those_that_are_there(home: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)no calibration of an arm 'blck' in .*so_follower.*Did you mean 'black'"):
        find_calibration("blck")
    with pytest.raises(UsageError, match="Known: black, white"):
        find_calibration("zzzzzzz")
    with pytest.raises(UsageError, match=r"Calibrate the arm with LeRobot"):
        find_calibration("black", ("robots/none",))


def test_lerobots_variables_say_where_its_folder_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_LEROBOT_CALIBRATION", "HF_LEROBOT_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    found = [calibration_folder()]
    for name, value in (
        ("XDG_CACHE_HOME", "/cache"), ("HF_HOME", "/hub"), ("HF_LEROBOT_HOME", "/home"),
        ("HF_LEROBOT_CALIBRATION", "/c"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
        found.append(calibration_folder())
    default = Path.home() / ".cache/huggingface/lerobot/calibration"
    rest = ["/cache/huggingface/lerobot/calibration", "/hub/lerobot/calibration", "/home/calibration", "/c"]
    assert found == [default, *map(Path, rest)]


def test_an_arm_that_nobody_built_has_the_limits_of_its_profile() -> None:
    made = default_calibration(PROFILE)
    assert made["shoulder_pan"] == JointCalibration(1, 0, 0, 796, 3300)  # 110 deg are 1251.25 steps
    assert made["gripper"] == JointCalibration(6, 0, 0, 1024, 3072)
    tabletop = default_calibration(RobotProfile.load("tabletop"))
    reach = math.ceil(2.6 / (2 * math.pi) * 4095)  # zero stays in the middle, whatever the other limit is
    assert tabletop["elbow_flex"] == JointCalibration(3, 0, 0, 2048 - reach, 2048 + reach)


def test_a_joint_that_no_servo_turns_is_refused() -> None:
    joint = Joint(name="lift", unit="mm", position_limits=(0.0, 100.0), velocity_limit=None)
    profile = RobotProfile(name="crane", description="a test", rate=10.0, joints=[joint])
    with pytest.raises(ProfileError, match="Joint 'lift' is in 'mm'"):
        default_calibration(profile)
