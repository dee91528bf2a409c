"""`look` at an emulated arm that has one thing wrong after another: the line that says so, and its fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smolpilot.contracts import CameraSpec
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.drivers.feetech.bus import Bus
from smolpilot.runtime.inspection.check_report import CheckLine, CheckReport, Verdict
from smolpilot.runtime.inspection.look import look
from smolpilot.runtime.setup.robot_setup import RobotSetup

from ..cameras.helpers_video import write_video
from ..helpers_setups import slow_profile, write_setup
from ..safety.helpers_rig import JOINTS, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An arm that is well, and that nobody has connected."""
    with Rig(connect=False) as made:
        yield made


@pytest.fixture
def seen(rig: Rig, tmp_path: Path) -> Callable[..., dict[str, CheckLine]]:
    """Looks at the arm, and gives the lines by subject; parts: of its setup."""

    def looked(**parts: Any) -> dict[str, CheckLine]:
        return {line.subject: line for line in report_of(rig, tmp_path, **parts).lines}

    return looked


def report_of(rig: Rig, folder: Path, **parts: Any) -> CheckReport:
    setup = RobotSetup.load(write_setup(rig, folder, **({"profile": slow_profile(folder)} | parts)))
    report, _ = look(setup, seconds=0.3)
    return report


def camera(folder: Path, **options: Any) -> dict[str, Any]:
    """The camera `front` of a setup: a small video."""
    video = write_video(folder / "front.mp4", 10)
    return {"front": {"type": "file", "device": str(video), "width": 64, "height": 48, "fps": 10} | options}


def failed(line: CheckLine, found: str, fix: str, verdict: Verdict = Verdict.FAIL) -> bool:
    assert (line.verdict, found in line.found, fix in line.fix) == (verdict, True, True), line
    return True


def test_an_arm_that_is_well_is_told_line_by_line_and_nothing_of_it_is_moved(rig: Rig, tmp_path: Path) -> None:
    report = report_of(rig, tmp_path, start_pose={"shoulder_pan": 10.0})
    lines = {line.subject: line for line in report.lines}
    assert [line for line in report.lines if line.verdict is not Verdict.OK] == []
    assert list(lines) == [
        "servos", "firmware", "voltage", "temperature", "status", "calibration", "configuration", "torque",
        "read rate", *(f"limits {name}" for name in JOINTS), "start pose", "cameras",
    ]  # fmt: skip
    assert report.verdict is Verdict.OK
    assert report.summary() == "arm: all is well."
    assert "2 are needed" in lines["read rate"].found
    assert "velocity 43.99 per s [default (20% of the range per second)]" in lines["limits shoulder_pan"].found
    assert "torque 50% [default of a gripper]" in lines["limits gripper"].found
    assert lines["torque"].found == "off: the joints can be moved by hand"
    assert lines["start pose"].found == "within the limits, 1 joints"
    assert "front, wrist" in lines["cameras"].found
    assert not rig.goal_writes()
    assert not rig.writes_of(reg.TORQUE_ENABLE)
    Bus(rig.bus.port).open()  # and the port is free again


def test_servos_that_are_not_well_are_named(rig: Rig, seen: Callable[..., dict[str, CheckLine]]) -> None:
    servos = rig.bus.servos
    servos["shoulder_pan"].voltage, servos["shoulder_lift"].voltage = 4.3, 3.7
    servos["elbow_flex"].temperature, servos["wrist_flex"].temperature = 62.0, 71.0
    servos["wrist_roll"].encoder_fault = True
    rig.now += 0.1  # the firmware takes notice
    lines = seen()
    assert failed(lines["voltage shoulder_pan"], "4.3 V is near the lowest, 4 V", "power supply", Verdict.WARN)
    assert failed(lines["voltage shoulder_lift"], "3.7 V is outside 4 .. 14 V", "power supply")
    assert failed(lines["temperature elbow_flex"], "62 °C; it switches off at 70 °C", "rest", Verdict.WARN)
    assert failed(lines["temperature wrist_flex"], "71 °C; it switches off at 70 °C", "cool down")
    assert failed(lines["status wrist_roll"], "the servo reports encoder", "replace it")
    assert failed(lines["status shoulder_lift"], "the servo reports voltage", "power supply")
    assert lines["servos"].verdict is Verdict.OK


def test_a_silent_servo_fails_once_and_the_rest_is_still_looked_at(
    rig: Rig, seen: Callable[..., dict[str, CheckLine]]
) -> None:
    rig.bus.faults.silent.add("elbow_flex")
    lines = seen()
    assert failed(lines["servo elbow_flex"], "no answer from id 3", "check the cable to this servo")
    assert lines["voltage"].verdict is Verdict.OK
    assert [subject for subject, line in lines.items() if line.verdict is Verdict.FAIL] == ["servo elbow_flex"]


def test_an_arm_without_power_is_told_once(rig: Rig, seen: Callable[..., dict[str, CheckLine]]) -> None:
    rig.bus.faults.silent |= set(JOINTS)
    lines = seen()
    assert failed(lines["servos"], "none of the 6 servos answers", "switch the arm's power on")
    assert "read rate" not in lines


def test_another_arms_calibration_names_what_differs(rig: Rig, seen: Callable[..., dict[str, CheckLine]]) -> None:
    rig.bus.servos["wrist_flex"].set(reg.MIN_POSITION, 900)
    lines = seen()
    line = lines["calibration"]
    assert failed(line, "wrist_flex (servo 4): MIN_POSITION is 900, not", "--write-calibration")
    assert "limits wrist_flex" not in lines, "limits of another calibration are none"


def test_a_port_that_another_program_has_and_one_that_is_not_there(
    rig: Rig, seen: Callable[..., dict[str, CheckLine]], tmp_path: Path
) -> None:
    other = Bus(rig.bus.port)
    other.open()
    try:
        lines = seen()
    finally:
        other.close()
    assert failed(lines["bus"], f"{rig.bus.port} is in use by this process", "End the other program first")
    assert list(lines) == ["bus", "cameras"]
    nowhere = {"type": "feetech", "port": "/dev/nothing", "calibration": "./arm.json"}
    assert failed(seen(driver=nowhere)["bus"], "There is no port /dev/nothing", "smolpilot robot find")


def test_lost_replies_show_in_the_rate(rig: Rig, seen: Callable[..., dict[str, CheckLine]]) -> None:
    rig.bus.faults.corrupt = 0.04
    line = seen()["read rate"]
    assert failed(line, "of 100 were asked for again", "check plugs and cable of the bus", Verdict.WARN)


def test_torque_that_is_on_stays_on(rig: Rig, seen: Callable[..., dict[str, CheckLine]]) -> None:
    rig.robot.connect()
    rig.robot.disconnect()
    before = len(rig.bus.log)
    line = seen()["torque"]
    assert (line.verdict, line.found) == (Verdict.OK, "on: the joints are held")
    assert all(servo.torque for servo in rig.bus.servos.values())
    assert not rig.goal_writes(before)


def test_limits_that_exclude_each_other_and_a_start_pose_out_of_reach(rig: Rig, tmp_path: Path) -> None:
    for name, low, high in (("shoulder_pan", 1800, 2200), ("elbow_flex", 1900, 2100)):
        rig.calibration[name] = type(rig.calibration[name])(rig.calibration[name].id, 0, 0, low, high)
        rig.bus.servos[name].set(reg.MIN_POSITION, low)
        rig.bus.servos[name].set(reg.MAX_POSITION, high)
    report = report_of(rig, tmp_path, start_pose={"elbow_flex": 60.0})
    lines = {line.subject: line for line in report.lines}
    assert failed(lines["start pose"], "'elbow_flex' cannot go to 60 deg", "docs/troubleshooting.md")
    assert "(calibration)" in lines["start pose"].found
    assert "[calibration]" in lines["limits elbow_flex"].found
    report = report_of(rig, tmp_path, operating_limits={"shoulder_pan": {"position": [50.0, 90.0]}})
    line = next(line for line in report.lines if line.subject == "limits")
    assert failed(line, "'shoulder_pan' may nowhere be", "check the calibration")
    assert report.verdict is Verdict.FAIL


def test_a_camera_that_works_is_on_the_sheet(rig: Rig, tmp_path: Path) -> None:
    setup = RobotSetup.load(write_setup(rig, tmp_path, profile=slow_profile(tmp_path), cameras=camera(tmp_path)))
    report, (tile,) = look(setup, seconds=1.0)
    line = next(line for line in report.lines if line.subject == "camera front")
    assert tile.image is not None
    assert tile.image.shape == (48, 64, 3)
    assert tile.details.spec == CameraSpec("front", 48, 64, 10.0)
    assert "64x48" in line.found
    assert "the profile says 640x480" in line.found or line.verdict is not Verdict.WARN
    assert tile.details.fps == pytest.approx(10.0, rel=0.5)


def test_a_frozen_camera_and_one_that_is_missing_fail_with_what_to_do(
    seen: Callable[..., dict[str, CheckLine]], tmp_path: Path
) -> None:
    frozen = camera(tmp_path, freeze_after=0.05)
    line = seen(cameras=frozen, governor={"max_image_age": 0.1})["camera front"]
    assert failed(line, "at most 100 ms are allowed", "the governor would stop the arm")
    line = seen(cameras=camera(tmp_path, device="nothing.mp4"))["camera front"]
    assert failed(line, "nothing.mp4", "Check `device`")
    line = seen(cameras=camera(tmp_path, width=640, height=480))["camera front"]
    assert failed(line, "has 64x48 pixels", "width and height")
