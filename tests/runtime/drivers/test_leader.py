"""FeetechLeader on an emulated bus."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from smolpilot.common.errors import DeviceError, DeviceGoneError
from smolpilot.contracts.registry import TELEOPERATORS
from smolpilot.runtime.drivers.feetech import registers as r
from smolpilot.runtime.drivers.feetech.leader import FeetechLeader

from ...contracts.helpers_devices import check_teleoperator
from .helpers_arm import CALIBRATION, PROFILE, Bench, bench, changes

STEP = 360 / 4095


@pytest.fixture
def hand() -> Iterator[Bench]:
    with bench() as b:
        yield b


def leader(b: Bench) -> FeetechLeader:
    return FeetechLeader(PROFILE, b.bus.port, CALIBRATION, timeout=0.5)


def test_it_is_a_teleoperator_and_goes_by_its_name(hand: Bench) -> None:
    check_teleoperator(leader(hand), time.monotonic)
    assert TELEOPERATORS.get("feetech") is FeetechLeader


def test_readings_are_what_the_person_holds_in_the_followers_units(hand: Bench) -> None:
    arm = leader(hand)
    arm.connect()
    hand.place("shoulder_pan", 3391)
    hand.place("gripper", 2033)
    reading = arm.read()
    arm.disconnect()
    assert arm.spec.units == {joint.name: joint.unit for joint in PROFILE.joints}
    assert reading.action["shoulder_pan"] == pytest.approx((3391 - 760) / 2 * STEP)
    assert reading.action["gripper"] == 0.0


def test_torque_is_switched_off_where_it_is_on_and_no_goal_is_sent(hand: Bench) -> None:
    hand.put("elbow_flex", r.TORQUE_ENABLE, 1)
    hand.put("elbow_flex", r.MODE, 1)
    arm = leader(hand)
    arm.connect()
    arm.disconnect()
    assert hand.values(r.TORQUE_ENABLE) == [0] * 6
    assert hand.value("elbow_flex", r.MODE) == 0
    written = changes(hand.since(0))
    assert [change.servo for change in written if change.of(r.TORQUE_ENABLE)] == [3]
    assert not any(change.of(r.GOAL_POSITION) for change in written)
    assert hand.values(r.P_GAIN) == [32] * 6


def test_a_turn_of_the_roll_is_no_jump(hand: Bench) -> None:
    arm = leader(hand)
    arm.connect()
    seen = []
    for steps in (4080, 4100):
        hand.place("wrist_roll", steps)
        seen.append(arm.read().action["wrist_roll"])
    arm.disconnect()
    assert seen[1] - seen[0] == pytest.approx(20 * STEP)


def test_a_silent_servo_is_an_error_and_not_a_value(hand: Bench) -> None:
    arm = leader(hand)
    arm.connect()
    arm.bus.timeout = 0.05
    hand.bus.faults.silent = {"wrist_flex"}
    with pytest.raises(DeviceError, match=r"No reply on .* from servo 4 \(wrist_flex\)"):
        arm.read()
    hand.bus.unplug()
    with pytest.raises(DeviceGoneError, match="is gone"):
        arm.read()
    arm.disconnect()


def test_another_calibration_is_refused_and_written_when_asked_to(hand: Bench) -> None:
    hand.put("gripper", r.MAX_POSITION, 3000)
    arm = leader(hand)
    with pytest.raises(DeviceError, match=r"gripper \(servo 6\): MAX_POSITION is 3000"):
        arm.connect()
    assert len(arm.write_calibration()) == 1
    arm.connect()
    arm.disconnect()


def test_a_leader_is_made_of_options_with_its_own_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "teleoperators/so_leader/red.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({joint: asdict(entry) for joint, entry in CALIBRATION.items()}))
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    arm = FeetechLeader.from_options(PROFILE, FeetechLeader.Options(port="/dev/ttyACM9", calibration="red"))
    assert (arm.bus.port, arm.calibration) == ("/dev/ttyACM9", CALIBRATION)
