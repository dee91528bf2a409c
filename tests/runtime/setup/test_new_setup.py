"""A new setup: refused where something that it names is not there; its comments are keys that read back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import default_calibration, write_calibration
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.setup.new_setup import SetupDraft, camera_entry, needed_options, setup_text, write_setup
from smolpilot.runtime.setup.robot_setup import RobotSetup

from ..cameras.helpers_video import write_video

SO101 = RobotProfile.load("so101")
EMULATED = SetupDraft("so101", {"type": "emulated"})


def uncommented(text: str) -> str:
    """The file with the keys that stand in comments, too; what is no key stays a comment."""
    return re.sub(
        r"^# (?=( +\w+: )|((cameras|operating_limits):$)|(start_pose: )|(governor: ))", "", text, flags=re.MULTILINE
    )


def test_what_is_written_reads_back_and_reaches_the_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_calibration(Path("arm.json"), default_calibration(SO101))
    write_video(Path("front.mp4"))
    with EmulatedBus() as bus:
        driver = {"type": "feetech", "port": bus.port, "calibration": "arm.json"}
        cameras = {"front": camera_entry(SO101, "front", "file:front.mp4")}
        setup, notes = write_setup(Path("setups/arm.yaml").absolute(), SetupDraft("so101", driver, cameras))
        assert notes == []
        monkeypatch.chdir("/")
        arm = RobotSetup.load(tmp_path / "setups" / "arm.yaml").make_driver()
        assert arm.joints == tuple(joint.name for joint in SO101.joints)
    own = setup.cameras["front"].options.model_dump()
    assert (own["width"], own["height"], own["fps"]) == (64, 48, 10), "the video's, not the profile's"


def test_paths_are_written_as_they_are_from_the_setups_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arms").mkdir()
    monkeypatch.chdir(tmp_path)
    write_video(Path("arms/front.mp4"), 1)
    entry = camera_entry(SO101, "front", "file:arms/front.mp4")
    write_setup(Path("arms/one.yaml"), SetupDraft("so101", {"type": "emulated"}, {"front": entry}))
    text = Path("arms/one.yaml").read_text(encoding="utf-8")
    assert "device: front.mp4," in text
    assert str(tmp_path) not in text.partition("profile:")[2]


@pytest.mark.parametrize("name", ["so101", "tabletop", "pusht", "kuavo", "unitree_g1_inspire"])
def test_keys_in_comments_are_the_defaults_and_read_back(name: str) -> None:
    profile = RobotProfile.load(name)
    text = uncommented(setup_text(SetupDraft(name, {"type": "emulated"}), profile, Path("arm.yaml")))
    text = re.sub(r"\n  # (?=\w)", "\n  ", re.sub(r".*LOWEST, HIGHEST.*\n", "", text))
    setup = RobotSetup.from_yaml(text)
    known = [joint.name for joint in profile.action_joints if joint.position_limits is not None]
    assert [joint for joint in setup.operating_limits if joint in known] == known
    assert setup.start_pose.keys() == {joint.name for joint in profile.action_joints}
    assert setup.governor.model_fields_set == {"max_state_age", "max_image_age"}


def test_the_file_says_why_each_key_is_there() -> None:
    driver = {"type": "feetech", "port": "/dev/ttyACM0", "calibration": "my_arm"}
    text = setup_text(SetupDraft("so101", driver), SO101, Path("my_arm.yaml"))
    for part in ("robot check my_arm.yaml", "port: /dev/ttyACM0   # smolpilot robot find", "LeRobot's: the id", "deg"):
        assert part in text


def test_nothing_is_written_over_a_file_and_nothing_where_a_part_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    path = tmp_path / "arm.yaml"
    port = {"type": "feetech", "port": str(tmp_path / "no_port"), "calibration": "x"}
    for draft, match in (
        (SetupDraft("so101", port), "There is no port"),
        (SetupDraft("so101", {**port, "port": "/dev/null"}), "no calibration of an arm 'x'"),
        (SetupDraft("so101", EMULATED.driver, {"front": camera_entry(SO101, "front", "file:no.mp4")}), "no.mp4, does"),
        (SetupDraft("so101", {"type": "emulated", "plnt": "servo"}), "Did you mean 'plant'"),
    ):
        with pytest.raises(UsageError, match=match):
            write_setup(path, draft)
        assert not path.exists()
    write_setup(path, EMULATED)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"arm\.yaml"):
        write_setup(path, EMULATED)
    assert path.read_bytes() == before


def test_a_calibration_of_another_arm_is_refused(tmp_path: Path) -> None:
    write_calibration(tmp_path / "other.json", default_calibration(RobotProfile.load("tabletop")))
    draft = SetupDraft("so101", {"type": "feetech", "port": "/dev/null", "calibration": str(tmp_path / "other.json")})
    with pytest.raises(UsageError, match=r"other\.json lacks joint"):
        write_setup(tmp_path / "arm.yaml", draft)


def test_a_camera_in_its_short_form_has_the_profiles_size_and_rate() -> None:
    assert camera_entry(SO101, "front", "file:a:b.mp4") == {
        "type": "file", "device": "a:b.mp4", "width": 640, "height": 480, "fps": 30,
    }  # fmt: skip
    assert "device" not in camera_entry(RobotProfile.load("tabletop"), "top", "environment")
    with pytest.raises(DeviceError, match="cannot be opened as a video"):
        camera_entry(SO101, "front", f"file:{__file__}")
    with pytest.raises(UsageError, match=r"has no camera 'frnt'(.|\n)*Did you mean 'front'"):
        camera_entry(SO101, "frnt", "file:a.mp4")
    with pytest.raises(UsageError, match=r"begins with no camera type(.|\n)*file"):
        camera_entry(SO101, "front", "front.mp4")


def test_what_a_driver_cannot_do_without() -> None:
    assert needed_options("feetech") == ["port", "calibration"]
    assert needed_options("emulated") == []
