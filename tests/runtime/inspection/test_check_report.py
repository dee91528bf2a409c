"""The report of a check: what a person reads of an arm, from an emulated bus that has one thing wrong after another."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from smolpilot.contracts import CameraSpec, JointReadings
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import default_calibration
from smolpilot.runtime.drivers.feetech import registers
from smolpilot.runtime.drivers.feetech.arm import FeetechArm
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.inspection.check_report import CheckLine, CheckReport, Verdict
from smolpilot.runtime.inspection.check_rules import CameraDetails, camera_lines, limit_lines, rate_line
from smolpilot.runtime.inspection.contact_sheet import SheetTile, contact_sheet
from smolpilot.runtime.inspection.live_cells import BAR, position_bar
from smolpilot.runtime.inspection.live_table import WatchTable
from smolpilot.runtime.inspection.servo_rules import servo_lines
from smolpilot.runtime.limits import OperatingLimit, effective_limits

SO101 = RobotProfile.load("so101")
FRONT = CameraSpec("front", 480, 640, 30)
GOOD = CameraDetails(FRONT, (640, 480), 29.8, 0.02)


@pytest.fixture
def bus() -> Iterator[EmulatedBus]:
    """Servos of an arm that is calibrated."""
    with EmulatedBus() as found:
        FeetechArm(SO101, found.port, default_calibration(SO101)).write_calibration()
        yield found


def lines(bus: EmulatedBus) -> dict[str, CheckLine]:
    arm = FeetechArm(SO101, bus.port, default_calibration(SO101))
    arm.connect()
    limits = arm.limits()
    arm.disconnect()
    return {line.subject: line for line in servo_lines(arm.details(), limits, models={777: "STS3215"})}


def details(bus: EmulatedBus) -> dict[str, CheckLine]:
    """Of an arm that cannot connect."""
    arm = FeetechArm(SO101, bus.port, default_calibration(SO101))
    return {line.subject: line for line in servo_lines(arm.details(), {})}


def test_an_arm_without_any_trouble_is_a_line_for_each_subject_and_all_are_ok(bus: EmulatedBus) -> None:
    found = lines(bus)
    assert list(found) == ["servos", "firmware", "voltage", "temperature", "status", "calibration", "configuration",
                           "torque"]  # fmt: skip
    assert {line.verdict for line in found.values()} == {Verdict.OK}
    assert found["servos"].found == "6 answer, ids 1, 2, 3, 4, 5, 6; STS3215"
    assert found["voltage"].found == "12.1 V"


def test_each_trouble_fails_by_its_own_line_with_a_fix(bus: EmulatedBus) -> None:
    bus.servo("elbow_flex").set(registers.FIRMWARE, 0x0903)
    bus.servo("shoulder_pan").set(registers.MIN_VOLTAGE, 119)
    bus.servo("wrist_roll").set(registers.MAX_TEMPERATURE, 35)
    found = lines(bus)
    assert found["firmware"].verdict is Verdict.WARN
    assert "3.9 in elbow_flex" in found["firmware"].found
    assert (found["voltage shoulder_pan"].verdict, found["temperature wrist_roll"].verdict) == (Verdict.WARN,) * 2
    assert all(line.fix for line in found.values() if line.verdict is not Verdict.OK)


def test_a_silent_servo_and_one_of_another_model_are_named(bus: EmulatedBus) -> None:
    bus.servo("gripper").set(registers.ID, 77)
    bus.servo("wrist_flex").set(registers.MODEL_NUMBER, 2825)
    found = details(bus)
    assert (found["servo gripper"].verdict, found["servo gripper"].found) == (Verdict.FAIL, "no answer from id 6")
    assert "model 2825" in found["servo wrist_flex"].found
    assert "servos" not in found


def test_an_arm_without_power_is_one_line() -> None:
    with EmulatedBus({"far": 99}) as bus:
        found = details(bus)
    assert list(found) == ["servos"]
    assert "none of the 6 servos answers" in found["servos"].found


def test_another_arms_calibration_fails_and_names_the_first_differences() -> None:
    with EmulatedBus() as bus:  # as it came from the factory
        found = details(bus)["calibration"]
    assert found.verdict is Verdict.FAIL
    assert "MIN_POSITION is 0, not 796" in found.found
    assert "and 9 more" in found.found


@pytest.mark.parametrize(
    ("durations", "retries", "verdict"),
    [
        ([0.002] * 50, 0, Verdict.OK),
        ([0.002] * 50, 5, Verdict.WARN),
        ([0.05] * 50, 0, Verdict.FAIL),
        ([], 0, Verdict.FAIL),
    ],
)
def test_the_rate_of_reading_is_held_against_the_profiles(
    durations: list[float], retries: int, verdict: Verdict
) -> None:
    assert rate_line(durations, 30, retries=retries).verdict is verdict


@pytest.mark.parametrize(
    ("camera", "verdict", "part"),
    [
        (GOOD, Verdict.OK, "640x480, 29.8 fps of 30, newest image 20 ms old"),
        (CameraDetails(FRONT, (640, 480), 20, 0.02), Verdict.WARN, "20.0 fps of 30"),
        (CameraDetails(FRONT, (640, 480), 10, 0.02), Verdict.FAIL, "10.0 fps of 30"),
        (CameraDetails(FRONT, (640, 480), 30, 0.7), Verdict.FAIL, "at most 500 ms"),
        (CameraDetails(FRONT, (320, 240), 30, 0.02), Verdict.WARN, "the profile says 640x480"),
        (CameraDetails(FRONT, problem="It is in use."), Verdict.FAIL, "It is in use."),
    ],
)
def test_a_camera_is_judged_by_rate_size_and_age(camera: CameraDetails, verdict: Verdict, part: str) -> None:
    (line,) = camera_lines([camera], SO101, max_age=0.5)
    assert (line.subject, line.verdict) == ("camera front", verdict)
    assert part in line.found
    assert (line.fix != "") == (verdict is not Verdict.OK)


def test_a_camera_that_the_setup_leaves_out_is_said() -> None:
    (line,) = camera_lines([], SO101, max_age=0.5, missing=["wrist"])
    assert (line.verdict, "wrist" in line.found) == (Verdict.OK, True)


def test_every_limit_is_shown_with_its_origin() -> None:
    setup = {"shoulder_pan": OperatingLimit(position=(-90, 200), velocity=60)}
    found = {line.subject: line.found for line in limit_lines(effective_limits(SO101, {}, setup))}
    pan = found["limits shoulder_pan"]
    for part in ("-90 [setup] .. 110 [profile] deg", "velocity 60 per s [setup]", "acceleration 200 per s² [default"):
        assert part in pan
    assert "torque 50% [default" in found["limits gripper"]


def test_the_report_as_text_and_as_json() -> None:
    report = CheckReport.of("my_arm", [CheckLine("a", Verdict.OK, "well"),
                                       CheckLine("long", Verdict.WARN, "word " * 40, "mend it")])  # fmt: skip
    text = [line for _, line in report.text(80)]
    assert text[0] == "ok    a     well"
    assert max(map(len, text)) <= 80
    assert text[-2].strip() == "fix: mend it"
    assert text[-1] == "my_arm: 1 warning, 1 ok."
    document = json.loads(json.dumps(report.document()))
    assert (document["verdict"], document["lines"][1]["fix"]) == ("warn", "mend it")
    assert CheckReport.of("x", [CheckLine("a", Verdict.FAIL, ""), report.lines[1]]).verdict is Verdict.FAIL
    assert CheckReport.of("x", report.lines[:1]).summary() == "x: all is well."


def test_the_contact_sheet_shows_each_camera_and_grows_with_them() -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    one = Image.open(io.BytesIO(contact_sheet([SheetTile(GOOD, red)], "my_arm")))
    assert one.format == "PNG"
    pixels = np.asarray(one)
    share = (pixels == (255, 0, 0)).all(-1).mean()
    assert share > 0.5
    assert (pixels[-60:] < 128).any(), "the caption below"
    gone = CameraDetails(FRONT, problem="no image within 5 s")
    four = np.asarray(Image.open(io.BytesIO(contact_sheet([SheetTile(GOOD, red)] * 3 + [SheetTile(gone, None)], "x"))))
    assert four.shape[0] > 1.8 * one.height
    assert four.shape[1] > 1.8 * one.width
    assert (four[-250:, -300:] == 225).all(-1).mean() > 0.4, "gray where no image came"


def test_a_bar_shows_where_a_joint_is_between_its_limits() -> None:
    assert position_bar(0, -1, 1).index("●") == BAR // 2
    assert (position_bar(-1, -1, 1)[1], position_bar(1, -1, 1)[-2]) == ("●", "●")
    assert ("◀" in position_bar(-1.1, -1, 1), "▶" in position_bar(1.1, -1, 1)) == (True, True)
    for value in (-5, -1, -0.999, 0, 0.999, 1, 5, math.nan):
        assert len(position_bar(value, -1, 1)) == BAR


def test_the_live_table_has_every_joint_and_says_what_is_missing() -> None:
    limits = effective_limits(SO101, {}, {})
    position = np.array([0.0, -100, 50, math.nan, 0, 30])
    reading = JointReadings(position, 9.9, temperature=np.full(6, 41.0), load=np.full(6, 0.25),
                            faults={"elbow_flex": ("overload",)})  # fmt: skip
    console = Console(file=io.StringIO(), width=140)
    console.print(WatchTable(reading, limits, {"front": 9.5, "wrist": None}, 10.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert set(limits.names) <= set(rows)
    assert "no answer" in rows["wrist_flex"]
    assert "overload" in rows["elbow_flex"]
    for part in ("-100.00", "deg", "-100 ├●", "41", "25%", "100 ms"):
        assert part in rows["shoulder_lift"]
    assert ("500 ms" in rows["front"], "no image" in rows["wrist"]) == (True, True)


@pytest.mark.parametrize(("width", "shown"), [(120, "tVage"), (80, "tage"), (60, "t"), (40, "")])
def test_the_live_table_cuts_no_number_off_on_a_narrow_terminal(width: int, shown: str) -> None:
    limits = effective_limits(SO101, {}, {})
    reading = JointReadings(np.full(6, -89.25), 9.9, temperature=np.full(6, 41.0), voltage=np.full(6, 12.1),
                            load=np.full(6, 0.25), faults={"gripper": ("overload",)})  # fmt: skip
    console = Console(file=io.StringIO(), width=width)
    console.print(WatchTable(reading, limits, {"front": 9.5}, 10.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for name in limits.names:
        (row,) = [line for line in text.splitlines() if name in line.split()]
        assert "-89.25" in row
        assert ("41" in row, "12.1" in row, "100 ms" in row) == ("t" in shown, "V" in shown, "age" in shown)
    assert "overload" in text
