"""LeRobot's own SO-101 classes, unmodified, on the emulated bus: what they take for an arm is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import JointCalibration, write_calibration
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.bus import SO101, EmulatedBus
from smolpilot.runtime.emulator.spec import EmulatorSpec, make_bus

STEP = 360 / 4095  # degrees

CALIBRATION = {
    joint: JointCalibration(number, 0, 100 - 40 * number, 700 + 10 * number, 3300 - 10 * number)
    for joint, number in SO101.items()
}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bus(clock: Clock) -> Iterator[EmulatedBus]:
    """Servos as they come from the factory."""
    with EmulatedBus(clock=clock) as made:
        yield made


def follower(bus: EmulatedBus, folder: Path) -> Any:
    from lerobot.robots.so_follower import SO101Follower, SOFollowerRobotConfig

    write_calibration(folder / "arm.json", CALIBRATION)
    return SO101Follower(SOFollowerRobotConfig(id="arm", port=bus.port, calibration_dir=folder))


def instructions(bus: EmulatedBus, first: int = 0) -> list[int]:
    return [packet.request[4] for packet in list(bus.log)[first:]]


def test_it_writes_its_calibration_and_finds_it_again(
    bus: EmulatedBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = follower(bus, tmp_path)
    monkeypatch.setattr("builtins.input", lambda _: "")  # "use the file"
    robot.connect(calibrate=True)
    assert robot.is_calibrated
    held = {
        joint: tuple(servo.get(one) for one in (reg.HOMING_OFFSET, reg.MIN_POSITION, reg.MAX_POSITION))
        for joint, servo in bus.servos.items()
    }
    assert held == {joint: (one.homing_offset, one.range_min, one.range_max) for joint, one in CALIBRATION.items()}
    robot.disconnect()
    bus.power_cycle()
    again = follower(bus, tmp_path)
    again.connect(calibrate=False)
    assert again.is_calibrated
    again.disconnect()


def test_it_reads_and_moves_the_arm(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "arm.json"
    write_calibration(path, CALIBRATION)
    start = {"shoulder_pan": 10.0, "elbow_flex": -20.0, "gripper": 30.0}
    spec = EmulatorSpec(profile=RobotProfile.load("so101"), calibration=str(path), start=start)
    with make_bus(spec, clock=clock) as bus:
        robot = follower(bus, tmp_path)
        robot.connect(calibrate=True)  # asks nothing: the servos hold what the file says
        found = robot.get_observation()
        expected = dict.fromkeys(SO101, 0.0) | start
        assert {name.removesuffix(".pos"): value for name, value in found.items()} == pytest.approx(expected, abs=0.1)

        first = len(bus.log)
        goal = {"shoulder_pan.pos": 25.0, "shoulder_lift.pos": -15.0, "elbow_flex.pos": 40.0, "wrist_flex.pos": 5.0,
                "wrist_roll.pos": -60.0, "gripper.pos": 80.0}  # fmt: skip
        robot.send_action(goal)
        on_the_way = robot.get_observation()
        assert on_the_way == found  # no time has passed for the servos
        clock.now += 2.0
        bus.advance()  # so that the first to ask does not wait for two seconds of motion to be computed
        assert robot.get_observation() == pytest.approx(goal, abs=2 * STEP)
        assert instructions(bus, first) == [packets.SYNC_WRITE, packets.SYNC_READ, packets.SYNC_READ]
        robot.disconnect()
        assert [servo.get(reg.TORQUE_ENABLE) for servo in bus.servos.values()] == [0] * 6


def test_the_middle_that_it_sets_is_the_middle(bus: EmulatedBus, clock: Clock, tmp_path: Path) -> None:
    """Its own calibration: it writes offsets by which every joint is at half a turn."""
    robot = follower(bus, tmp_path)
    robot.connect(calibrate=False)
    robot.bus.disable_torque()
    plant: Any = bus.plant
    for number, joint in enumerate(SO101):
        plant.place(joint, 500 + 600 * number)
    clock.now += 1.0
    offsets = robot.bus.set_half_turn_homings()
    assert offsets == {joint: 500 + 600 * number - 2047 for number, joint in enumerate(SO101)}
    assert set(robot.bus.sync_read("Present_Position", normalize=False).values()) == {2047}
    robot.disconnect()


def test_the_leader_reads_the_arm_that_a_hand_moves(bus: EmulatedBus, clock: Clock, tmp_path: Path) -> None:
    from lerobot.teleoperators.so_leader import SO101Leader, SOLeaderTeleopConfig

    (tmp_path / "hand.json").write_text(
        json.dumps({
            joint: {"id": number, "drive_mode": 0, "homing_offset": 0, "range_min": 1024, "range_max": 3072}
            for joint, number in SO101.items()
        })
    )  # fmt: skip
    leader = SO101Leader(SOLeaderTeleopConfig(id="hand", port=bus.port, calibration_dir=tmp_path))
    leader.connect(calibrate=False)
    plant: Any = bus.plant
    plant.place("elbow_flex", 2048 + 512)
    plant.place("gripper", 1024)
    clock.now += 0.1
    found = leader.get_action()
    assert (found["elbow_flex.pos"], found["gripper.pos"]) == (pytest.approx(512 * STEP), 0.0)
    assert [servo.get(reg.TORQUE_ENABLE) for servo in bus.servos.values()] == [0] * 6
    leader.disconnect()


def test_it_asks_again_for_a_corrupted_reply_and_gives_up_after_three_lost_ones(
    bus: EmulatedBus, tmp_path: Path
) -> None:
    robot = follower(bus, tmp_path)
    robot.connect(calibrate=False)
    bus.faults.corrupt_next = 1
    first = len(bus.log)
    assert len(robot.get_observation()) == 6
    assert instructions(bus, first) == [packets.SYNC_READ] * 2
    bus.faults.drop_next = 3
    with pytest.raises(ConnectionError, match="Failed to sync read"):
        robot.get_observation()
    robot.disconnect()


def test_an_unplugged_cable_is_an_error_of_the_port(bus: EmulatedBus, tmp_path: Path) -> None:
    import termios

    robot = follower(bus, tmp_path)
    robot.connect(calibrate=False)
    bus.unplug()
    with pytest.raises(termios.error, match="Input/output error"):
        robot.get_observation()
    with pytest.raises(termios.error, match="Input/output error"):
        robot.disconnect()
    robot.bus.port_handler.is_open = False  # or its destructor tries the same again
