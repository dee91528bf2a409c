"""`smolpilot robot check`, `watch`, `move` and `park` as a user runs them, on an arm of the emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smolpilot.cli.main import main
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.drivers.feetech.bus import Bus

from ..runtime.cameras.helpers_video import write_video
from ..runtime.helpers_setups import living_arm, slow_profile, write_setup
from ..runtime.safety.helpers_rig import JOINTS, PAN, Rig

QUICK = {"shoulder_pan": {"velocity": 120.0, "acceleration": 600.0}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the verbs are run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An arm without torque, in real time."""
    with living_arm() as made:
        yield made


def setup(rig: Rig, here: Path, **parts: Any) -> str:
    return write_setup(rig, here, **({"operating_limits": QUICK} | parts)).name


def slow(rig: Rig, here: Path, **parts: Any) -> str:
    """A setup for which a busy machine reads often enough."""
    return setup(rig, here, profile=slow_profile(here), **parts)


def torques(rig: Rig) -> list[bool]:
    return [rig.bus.servos[name].torque for name in JOINTS]


def pan(rig: Rig) -> float:
    return float(rig.positions()[PAN])


# check


def test_check_of_an_arm_that_is_well(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(here / "front.mp4")
    cameras = {"front": {"type": "file", "device": str(video), "width": 64, "height": 48, "fps": 2}}
    name = slow(rig, here, cameras=cameras, governor={"max_image_age": 30.0})
    assert main(["robot", "check", name]) == 0
    out = capsys.readouterr().out
    for part in ("6 answer, ids 1, 2, 3, 4, 5, 6; STS3215", "limits shoulder_pan", "velocity 120 per s [setup]",
                 "camera front", "Images of all cameras: arm-cameras.png"):  # fmt: skip
        assert part in out
    assert "fail" not in out
    with Image.open(here / "arm-cameras.png") as sheet:
        assert (sheet.format, sheet.size) == ("PNG", (424, 398))
        assert sheet.getpixel((212, 150)) != (255, 255, 255)
    assert not any(torques(rig))
    assert not rig.goal_writes()


def test_check_as_json_and_its_exit_code(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = slow(rig, here)
    assert main(["robot", "check", name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["verdict"], document["contact_sheet"]) == ("arm", "ok", None)
    assert {line["verdict"] for line in document["lines"]} == {"ok"}
    assert not list(here.glob("*.png")), "no cameras, no sheet"
    rig.bus.servos["elbow_flex"].temperature = 75.0
    assert main(["robot", "check", name, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    line = next(line for line in document["lines"] if line["subject"] == "temperature elbow_flex")
    assert (document["verdict"], line["verdict"], line["found"]) == ("fail", "fail", "75 °C; it switches off at 70 °C")
    assert main(["robot", "check", name]) == 1
    out = capsys.readouterr().out
    assert "fix: let the arm cool down without power" in out
    assert "arm: 2 failed," in out


def test_check_writes_a_calibration_when_it_is_asked_to(
    rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = slow(rig, here)
    rig.bus.servos["wrist_flex"].set(reg.MIN_POSITION, 900)
    assert main(["robot", "check", name]) == 1
    assert "--write-calibration" in capsys.readouterr().out
    rig.bus.servos["gripper"].set(reg.TORQUE_ENABLE, 1)
    rig.bus.servos["wrist_flex"].set(reg.TORQUE_ENABLE, 1)
    assert main(["robot", "check", name, "--write-calibration"]) == 1
    told = capsys.readouterr()
    assert (told.out, "its torque is on: the change would move the arm" in told.err) == ("", True)
    assert "Traceback" not in told.err
    assert rig.bus.servos["wrist_flex"].get(reg.MIN_POSITION) == 900
    for joint in JOINTS:
        rig.bus.servos[joint].set(reg.TORQUE_ENABLE, 0)
    assert main(["robot", "check", name, "--write-calibration"]) == 0
    told = capsys.readouterr()
    held = rig.calibration["wrist_flex"].range_min
    assert f"calibration written: wrist_flex (servo 4): MIN_POSITION 900 -> {held}\n" in told.err
    assert rig.bus.servos["wrist_flex"].get(reg.MIN_POSITION) == rig.calibration["wrist_flex"].range_min
    assert main(["robot", "check", name, "--write-calibration"]) == 0
    assert "calibration written: nothing" in capsys.readouterr().err


def test_check_tells_all_of_it_where_the_images_cannot_be_written(
    rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = {
        "front": {"type": "file", "device": str(write_video(here / "front.mp4")), "width": 48, "height": 64, "fps": 2}
    }
    assert main(["robot", "check", slow(rig, here, cameras=cameras), "--out", str(here)]) == 2
    told = capsys.readouterr()
    assert "limits shoulder_pan" in told.out
    assert "has 64x48 pixels (expected 48x64, as camera 'front' is said to have)" in " ".join(told.out.split())
    assert "is a folder" in told.err


# watch


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_watch_takes_a_time_above_0(seconds: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "watch", "so101-emulated", "--seconds", seconds]) == 2
    assert f"--seconds is {seconds}." in capsys.readouterr().err


def test_watch_without_a_terminal_is_one_table(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(here / "front.mp4", 5)
    cameras = {"front": {"type": "file", "device": str(video), "width": 64, "height": 48, "fps": 10}}
    rig.plant.place("shoulder_pan", rig.arm.scales[PAN].steps(33.0))
    assert main(["robot", "watch", setup(rig, here, cameras=cameras)]) == 0
    out = capsys.readouterr().out
    assert all(out.count(name) == 1 for name in JOINTS)
    assert "32.97" in out or "33.0" in out
    assert "front" in out
    assert not any(torques(rig))


def test_watch_as_json(rig: Rig, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig.plant.place("shoulder_pan", rig.arm.scales[PAN].steps(33.0))
    rig.bus.servos["elbow_flex"].encoder_fault = True
    assert main(["robot", "watch", setup(rig, here), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    joints = {one["joint"]: one for one in document["joints"]}
    assert list(joints) == list(JOINTS)
    assert joints["shoulder_pan"]["position"] == pytest.approx(33.0, abs=0.1)
    assert joints["shoulder_pan"]["unit"] == "deg"
    assert joints["shoulder_pan"]["high"] == pytest.approx(110.0, abs=0.1)
    assert joints["shoulder_pan"]["voltage"] == pytest.approx(12.1)
    assert joints["elbow_flex"]["faults"] == ["encoder"]
    assert document["cameras"] == {}
    assert 0 <= document["age"] < 10


# move


def test_move_arrives_and_holds(rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "move", setup(rig, here), "shoulder_pan=15", "--speed", "1"]) == 0
    told = capfd.readouterr()
    assert "arm: shoulder_pan to 15 deg; about" in told.err
    assert "Ctrl-C stops and holds." in told.err
    assert "Arrived; torque is on, the servos hold this pose." in told.out
    assert "15.0" in told.out
    assert pan(rig) == pytest.approx(15.0, abs=4.5)
    assert all(torques(rig))
    moved = rig.goals()[:, PAN]
    assert abs(moved[1:] - moved[:-1]).max() <= 120 / 30 + 0.2


def test_move_as_json(rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "move", setup(rig, here), "shoulder_pan=-5", "main_gripper=52", "--json"]) == 0
    told = capfd.readouterr()
    document = json.loads(told.out)
    joints = {one["joint"]: one for one in document["joints"]}
    assert (document["stop"], document["released"], document["clamped"]) == (None, False, {})
    assert (joints["shoulder_pan"]["target"], joints["gripper"]["target"]) == (-5.0, 52.0)
    assert joints["shoulder_pan"]["commanded"] == -5.0


def test_a_joint_that_is_blocked_stops_the_move(rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rig.plant.block("shoulder_pan", rig.arm.scales[PAN].steps(5.0))
    limits = {"shoulder_pan": {"velocity": 120.0, "acceleration": 600.0, "tracking_error": 6.0}}
    assert main(["robot", "move", setup(rig, here, operating_limits=limits), "shoulder_pan=60", "--speed", "1"]) == 1
    told = capfd.readouterr()
    assert "Stopped: 'shoulder_pan' is at 5.0 deg, commanded" in told.out
    assert "The servos hold their last goal. When you have looked at the arm, run the command again." in told.out
    assert rig.goals()[-1][PAN] == pytest.approx(5.0, abs=1.0), "it gave way"
    assert all(torques(rig))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["arm.yaml", "shoulder_pan=111"], ["'shoulder_pan' cannot go to 111 deg", "-110 (profile) to 110 (profile)"]),
        (["arm.yaml", "shoulder_pam=1"], ["no joint 'shoulder_pam'", "Did you mean 'shoulder_pan'?"]),
        (["arm.yaml"], ["JOINT=VALUE"]),
        (["arm.yaml", "shoulder_pan"], ["does not say where to move a joint"]),
        (["arm.yaml", "shoulder_pan=1", "--speed", "0"], ["--speed is 0.0", "a number above 0"]),
        (["arm.yaml", "shoulder_pan=1", "--speed", "1.5"], ["--speed is 1.5", "at most 1"]),
        (["arm.yaml", "shoulder_pan=1", "--speed", "nan"], ["--speed is nan"]),
        (["so101", "shoulder_pan=1"], ["'so101' is a robot profile", "not a robot setup", "so101-emulated"]),
        (["nothing.yaml", "shoulder_pan=1"], ["nothing.yaml does not exist"]),
    ],
)
def test_what_cannot_be_moved_exits_2_and_moves_nothing(
    words: list[str], parts: list[str], rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    setup(rig, here)
    assert main(["robot", "move", *words]) == 2
    told = capfd.readouterr()
    assert all(part in told.err for part in parts), told.err
    assert "Traceback" not in told.err
    assert not rig.goal_writes()
    assert not any(torques(rig))


def test_an_arm_that_another_program_has_is_left_to_it(rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = setup(rig, here)
    other = Bus(rig.bus.port)
    other.open()
    try:
        assert main(["robot", "move", name, "shoulder_pan=1"]) == 1
    finally:
        other.close()
    err = capfd.readouterr().err
    assert "is in use by" in err
    assert "End the other program first" in err


# park


def test_park_goes_to_the_start_pose_and_holds(rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = setup(rig, here, start_pose={"shoulder_pan": -10.0})
    assert main(["robot", "park", name, "--speed", "1"]) == 0
    told = capfd.readouterr()
    assert "arm: shoulder_pan to -10 deg" in told.err
    assert rig.goals()[-1][PAN] == pytest.approx(-10.0, abs=0.1)
    assert all(torques(rig))


def test_park_with_release_switches_torque_off_there(rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = setup(rig, here, start_pose={"shoulder_pan": -10.0})
    assert main(["robot", "park", name, "--speed", "1", "--release", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["released"]
    assert not any(torques(rig))
    assert main(["robot", "park", name, "--release"]) == 0
    assert "Arrived; torque is off." in capfd.readouterr().out
    assert not any(torques(rig))


def test_park_without_a_start_pose_says_how_to_get_one(rig: Rig, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "park", setup(rig, here)]) == 2
    err = capfd.readouterr().err
    assert "The setup 'arm' has no start pose" in err
    assert "smolpilot robot watch SETUP" in err
    assert not rig.bus.log, "nobody was asked"
