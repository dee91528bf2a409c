"""What an emulated arm is, said in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import JointCalibration, default_calibration, write_calibration
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.spec import EmulatorSpec, make_bus

from .helpers_bus import Clock, read

SO101 = RobotProfile.load("so101")


def test_a_spec_survives_json_with_a_profile_by_name_or_whole() -> None:
    spec = EmulatorSpec.model_validate_json('{"profile": "so101", "start": {"gripper": 20}, "faults": {"drop": 0.1}}')
    assert spec.profile == SO101
    again = EmulatorSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    own = SO101.model_copy(update={"name": "mine"})
    assert EmulatorSpec.model_validate_json(EmulatorSpec(profile=own).model_dump_json()).profile == own


def test_servos_hold_the_calibration_and_joints_stand_where_they_are_said_to(tmp_path: Path) -> None:
    calibration = dict(default_calibration(SO101)) | {
        "elbow_flex": JointCalibration(3, 0, -150, 1000, 3000),
        "gripper": JointCalibration(9, 1, 20, 1500, 2500),
    }
    path = tmp_path / "arm.json"
    write_calibration(path, calibration)
    spec = EmulatorSpec(profile=SO101, calibration=str(path), start={"elbow_flex": 30.0, "gripper": 20.0})
    bus = make_bus(spec, clock=Clock())
    held = [read(bus, "elbow_flex", one) for one in (reg.HOMING_OFFSET, reg.MIN_POSITION, reg.MAX_POSITION)]
    assert held == [-150, 1000, 3000]
    at = {joint: read(bus, joint, reg.PRESENT_POSITION) for joint in ("shoulder_pan", "elbow_flex", "gripper")}
    assert at == {"shoulder_pan": 2048, "elbow_flex": 2000 + round(30 * 4095 / 360), "gripper": 2500 - 200}
    assert read(bus, "elbow_flex", reg.GOAL_POSITION) == at["elbow_flex"]
    assert bus.servo("gripper").id == 9


def test_servos_may_be_as_they_come_from_the_factory() -> None:
    bus = make_bus(EmulatorSpec(profile=SO101, calibrated=False))
    assert (bus.servo("gripper").get(reg.MIN_POSITION), bus.servo("gripper").get(reg.MAX_POSITION)) == (0, 4095)


def test_gravity_and_the_options_of_servos_and_faults_arrive() -> None:
    clock = Clock()
    values: dict[str, Any] = {"servos": {"voltage": 7.0}, "faults": {"silent": ["gripper"]}}
    bus = make_bus(EmulatorSpec(profile=SO101, gravity={"shoulder_lift": -0.05}, **values), clock=clock)
    clock.pass_(1.0)
    assert read(bus, "shoulder_lift", reg.PRESENT_POSITION) == pytest.approx(2048 - 154, abs=1)
    assert read(bus, "shoulder_lift", reg.PRESENT_VOLTAGE) == 70
    assert bus.faults.silent == {"gripper"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": {"elbow": 1.0}}, "'start' names joint 'elbow'.*\n.*'elbow_flex'"),
        ({"gravity": {"x": 0.1}}, "'gravity' names joint 'x'"),
        ({"faults": {"silent": ["griper"]}}, "'silent' names joint 'griper'.*\n.*'gripper'"),
        ({"plant": "clay"}, "There is no plant 'clay'"),
        ({"plant": "environment:"}, "There is no plant 'environment:'"),
        ({"plant": "environment:tabletop", "gravity": {"gripper": 0.1}}, "which has its own"),
        ({"plant": "environment:tabletop", "start": {"gripper": 0.1}}, "whose episodes have their own"),
        ({"calibration": "nobody's"}, "no calibration of an arm"),
    ],
)
def test_what_does_not_fit_is_refused(
    values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    with pytest.raises(UsageError, match=message):
        make_bus(EmulatorSpec(profile=SO101, **values))


@pytest.mark.parametrize("values", [{"plants": "servo"}, {"seed": -1}, {"faults": {"drop": 2}}, {"servos": {"x": 1}}])
def test_a_spec_is_strict(values: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(values))):
        EmulatorSpec.model_validate_json(json.dumps({"profile": "so101", **values}))
