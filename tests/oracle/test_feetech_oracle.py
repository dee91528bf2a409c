"""Our driver of Feetech arms beside LeRobot's, unmodified, on the same emulated servos: the same script, and the bytes
of both on the bus. What differs is named in a table with its reason; what is not named fails."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.robots import Joint
from smolpilot.runtime.calibration import (
    FOLLOWERS,
    LEADERS,
    JointCalibration,
    calibration_folder,
    calibration_text,
    find_calibration,
)
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as r
from smolpilot.runtime.drivers.feetech.leader import FeetechLeader
from smolpilot.runtime.drivers.feetech.packets import Packet
from smolpilot.runtime.drivers.feetech.registers import Register
from smolpilot.runtime.drivers.feetech.scale import LAST, JointScale

from ..runtime.drivers.helpers_arm import CALIBRATION, PROFILE, Bench, bench, changes

pytestmark = pytest.mark.oracle

REGISTERS = {name: value for name, value in vars(r).items() if isinstance(value, Register) and name != "TELEMETRY"}
NAMES = {(register.address, register.size): name for name, register in REGISTERS.items()}
STANDING = (1000, 2900, 1500, 1000, 3500, 2100)
POSES = (  # steps from the middle of each range
    (100, -200, 50, -300, 700, 100),
    (110, -210, 45, -320, 690, 400),
    (-900, 800, -700, 600, -1500, -500),
)
BETWEEN = 0.25  # of a step, where the nearest and the one below are the same

THEIRS = {
    "read: one register": "it reads register by register; ours reads a servo's memory in three blocks",
    "write: as it was": "it writes its configuration at each connect; ours writes what differs, and spares the EEPROM",
    "write: torque off": "it switches torque off to configure, and the arm sags, and at disconnecting, and the arm "
    "falls; ours does neither",
    "write: torque on": "it switches torque on whatever goal is in the register; ours after goal := measured",
    "write: lock": "it opens the EEPROM with every torque off, and leaves it open at the end; ours opens it where it "
    "writes, and closes it",
    "sync read: position": "it reads the position alone; ours all 15 bytes of telemetry: faults, heat, load, current",
}
OURS = {
    "read: block": "a servo's memory in three blocks, and once more where something was written, to see that it holds",
    "sync read: telemetry": "all that the governor watches, in the one exchange of a tick",
    "sync read: before torque": "where the joints stand, and whether the goals are in the registers",
    "sync write: goal is where it stands": "before torque, so that nothing moves when it comes",
    "sync write: torque on": "all servos at once, after their goals",
    "write: torque limit": "the gripper's limit counts at once; MAX_TORQUE alone counts from the next power-up on",
}
OF_THEIR_LEADER = THEIRS.keys() - {"write: torque on", "sync read: position"} | {"write: acceleration"}
"""And the acceleration of motors that are off."""
OF_OUR_LEADER = {
    "read: block": OURS["read: block"],
    "sync write: torque off": "only where it was on",
    "sync read: torque": "and seen to be off before anything is configured",
    "write: lock closed": "the EEPROM is closed again",
}
AT_REST = packets.sync_write(42, {servo: r.GOAL_POSITION.encode(at) for servo, at in enumerate(STANDING, 1)})


def theirs(packet: Packet, before: dict[int, bytes]) -> str:
    """What a packet is that LeRobot sends and we do not. before: servo -> its memory as the script found it."""
    if packet.code == packets.READ:
        return "read: one register"
    if packet.code == packets.SYNC_READ and tuple(packet.data[:2]) == (56, 2):
        return "sync read: position"
    if packet.code != packets.WRITE:
        return f"unnamed: {packet}"
    (change,) = changes([packet])
    if change.of(r.LOCK):
        return "write: lock"
    if change.of(r.TORQUE_ENABLE):
        return "write: torque on" if change.raw[0] else "write: torque off"
    was = before[change.servo][change.address :][: len(change.raw)]
    return "write: as it was" if was == change.raw else f"unnamed: {packet}"


def ours(packet: Packet) -> str:
    """What a packet is that we send and LeRobot does not."""
    first, size = (packet.data[0], packet.data[1]) if len(packet.data) > 1 else (0, 0)
    if packet.code == packets.READ and (first, size) in ((0, 40), (40, 16), (85, 1)):
        return "read: block"
    if packet.code == packets.SYNC_READ and (first, size) == (56, 15):
        return "sync read: telemetry"
    if packet.code == packets.SYNC_READ and (first, size) in ((40, 10), (56, 2)):
        return "sync read: before torque"
    if packet.encode() == AT_REST:
        return "sync write: goal is where it stands"
    if packet.code == packets.SYNC_WRITE and first == 40 and all(change.raw == b"\x01" for change in changes([packet])):
        return "sync write: torque on"
    if packet.code == packets.WRITE and first == 48:
        return "write: torque limit"
    return f"unnamed: {packet}"


class Run:
    """What a driver did: its packets, what it read, and the servos afterwards."""

    def __init__(self, b: Bench) -> None:
        self._bench = b
        self.before = {servo.id: bytes(servo.memory) for servo in b.bus.servos.values()}
        self.read: list[dict[str, float]] = []
        self.asked: list[Packet] = []
        self.after: dict[str, bytes] = {}

    def end(self) -> None:
        self.asked = self._bench.since(0)
        self.after = {joint: bytes(servo.memory) for joint, servo in self._bench.bus.servos.items()}

    def goals(self) -> list[bytes]:
        """The packets that send goals, in order."""
        return [p.encode() for p in self.asked if p.code == packets.SYNC_WRITE and p.data[0] == 42]

    def writes(self) -> dict[str, set[int]]:
        """Register -> the values that were written to it."""
        found: dict[str, set[int]] = {}
        for change in changes(self.asked):
            name = NAMES[change.address, len(change.raw)]
            found.setdefault(name, set()).add(REGISTERS[name].decode(change.raw))
        return found


@contextmanager
def a_bench() -> Iterator[tuple[Bench, Run]]:
    """Servos in some pose, whose time stands still: both drivers find the same and move nothing meanwhile."""
    now = [100.0]
    with bench(clock=lambda: now[0]) as b:
        for joint, steps in zip(CALIBRATION, STANDING, strict=True):
            b.place(joint, steps)
            b.put(joint, r.RETURN_DELAY, 250)
            b.put(joint, r.PHASE, 0x0C | r.PHASE_MULTI_TURN)
        now[0] += 0.01
        b.bus.power_cycle()
        yield b, Run(b)


def poses() -> list[dict[str, float]]:
    scales = [JointScale.of(joint, CALIBRATION[joint.name]) for joint in PROFILE.joints]
    return [
        {s.joint: s.value(s.middle // 1 + step + BETWEEN) for s, step in zip(scales, pose, strict=True)}
        for pose in POSES
    ]


@pytest.fixture(scope="module")
def lerobots(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from lerobot.robots.so_follower import SO101Follower, SOFollowerRobotConfig

    folder = tmp_path_factory.mktemp("calibration")
    (folder / "arm.json").write_text(calibration_text(CALIBRATION))
    with a_bench() as (b, run):
        robot = SO101Follower(SOFollowerRobotConfig(id="arm", port=b.bus.port, calibration_dir=folder))
        robot.connect(calibrate=False)
        assert robot.is_calibrated
        for pose in poses():
            run.read.append({name.removesuffix(".pos"): value for name, value in robot.get_observation().items()})
            robot.send_action({f"{joint}.pos": value for joint, value in pose.items()})
        robot.get_observation()
        robot.disconnect()
        run.end()
        return run


@pytest.fixture(scope="module")
def smolpilots() -> Run:
    with a_bench() as (b, run):
        b.arm.connect()
        b.arm.engage()
        for pose in poses():
            run.read.append(dict(zip(b.arm.joints, b.arm.read().position.tolist(), strict=True)))
            b.arm.write(np.array(list(pose.values())))
        b.arm.read()
        b.arm.disconnect()
        run.end()
        return run


def test_the_same_goals_are_the_same_bytes(lerobots: Run, smolpilots: Run) -> None:
    assert len(lerobots.goals()) == len(POSES)
    assert smolpilots.goals() == [AT_REST, *lerobots.goals()]


def test_the_same_servos_are_read_as_the_same_positions(lerobots: Run, smolpilots: Run) -> None:
    for one, other in zip(lerobots.read, smolpilots.read, strict=True):
        assert one.keys() == other.keys()
        assert list(other.values()) == pytest.approx(list(one.values()), abs=1e-9)


def test_every_packet_is_the_same_or_a_named_difference(lerobots: Run, smolpilots: Run) -> None:
    a, b = (Counter(packet.encode() for packet in run.asked) for run in (lerobots, smolpilots))
    decoded = {packet.encode(): packet for run in (lerobots, smolpilots) for packet in run.asked}
    assert {theirs(decoded[raw], lerobots.before) for raw in a - b} == set(THEIRS)
    assert {ours(decoded[raw]) for raw in b - a} == set(OURS)
    assert sum(b.values()) < sum(a.values())


def test_every_register_that_either_writes_is_known(lerobots: Run, smolpilots: Run) -> None:
    one, other = lerobots.writes(), smolpilots.writes()
    as_they_should_be = {"MAX_ACCELERATION", "MODE", "I_GAIN", "D_GAIN"}
    assert one.keys() - other.keys() == as_they_should_be
    assert other.keys() - one.keys() == {"TORQUE_LIMIT"}
    assert other["TORQUE_ENABLE"] == {1}
    assert one["TORQUE_ENABLE"] == {0, 1}


def test_the_servos_are_configured_alike(lerobots: Run, smolpilots: Run) -> None:
    """All that lasts without power, byte for byte; of the rest what the drivers leave on purpose."""
    for joint in CALIBRATION:
        one, other = lerobots.after[joint], smolpilots.after[joint]
        assert one[: r.FIRST_RAM] == other[: r.FIRST_RAM]
        different = {at for at in range(r.FIRST_RAM, len(one)) if one[at] != other[at]}
        torque_limit = {48, 49} if joint == "gripper" else set()
        assert different == {r.TORQUE_ENABLE.address, r.LOCK.address, *torque_limit}
        assert (one[r.TORQUE_ENABLE.address], one[r.LOCK.address]) == (0, 0)
        assert (other[r.TORQUE_ENABLE.address], other[r.LOCK.address]) == (1, 1)


def test_a_leader_reads_the_same_and_writes_what_differs(tmp_path: Path) -> None:
    from lerobot.teleoperators.so_leader import SO101Leader, SOLeaderTeleopConfig

    (tmp_path / "arm.json").write_text(calibration_text(CALIBRATION))
    runs = []
    with a_bench() as (b, run):
        b.put("elbow_flex", r.TORQUE_ENABLE, 1)
        leader = SO101Leader(SOLeaderTeleopConfig(id="arm", port=b.bus.port, calibration_dir=tmp_path))
        leader.connect(calibrate=False)
        run.read.append({name.removesuffix(".pos"): value for name, value in leader.get_action().items()})
        leader.disconnect()
        run.end()
        runs.append(run)
    with a_bench() as (b, run):
        b.put("elbow_flex", r.TORQUE_ENABLE, 1)
        mine = FeetechLeader(PROFILE, b.bus.port, CALIBRATION, timeout=0.5)
        mine.connect()
        run.read.append(dict(mine.read().action))
        mine.disconnect()
        run.end()
        runs.append(run)
    assert runs[1].read[0] == pytest.approx(runs[0].read[0], abs=1e-9)
    a, b_ = (Counter(packet.encode() for packet in run.asked) for run in runs)
    decoded = {packet.encode(): packet for run in runs for packet in run.asked}
    named = {
        "write: acceleration" if decoded[raw].data == bytes([41, 254]) else theirs(decoded[raw], runs[0].before)
        for raw in a - b_
    }
    assert named == OF_THEIR_LEADER
    assert {of_our_leader(decoded[raw]) for raw in b_ - a} == OF_OUR_LEADER.keys()
    assert all(one[: r.FIRST_RAM] == runs[1].after[joint][: r.FIRST_RAM] for joint, one in runs[0].after.items())


def of_our_leader(packet: Packet) -> str:
    if packet.code == packets.SYNC_WRITE and packet.data == bytes([40, 1, 3, 0]):
        return "sync write: torque off"
    if packet.code == packets.SYNC_READ and packet.data == bytes([40, 1, 3]):
        return "sync read: torque"
    if packet.code == packets.WRITE and packet.data == bytes([r.LOCK.address, 1]):
        return "write: lock closed"
    return ours(packet)


def test_the_table_of_registers_is_lerobots() -> None:
    from lerobot.motors.feetech import tables

    known = tables.MODEL_CONTROL_TABLE["sts3215"]
    signs = {known[name]: bit for name, bit in tables.MODEL_ENCODING_TABLE["sts3215"].items() if name in known}
    places = set(known.values())
    for name, register in REGISTERS.items():
        place = (register.address, register.size)
        if name == "FIRMWARE":  # two registers there: major, minor
            assert {(0, 1), (1, 1)} <= places
            continue
        assert place in places, name
        if name == "PRESENT_CURRENT":  # no sign there; Feetech's own library reads one
            assert (register.sign, signs.get(place)) == (15, None)
            continue
        assert register.sign == signs.get(place), name
    assert tables.MODEL_NUMBER_TABLE["sts3215"] == r.MODEL
    assert tables.MODEL_RESOLUTION["sts3215"] == r.STEPS


def test_a_calibration_file_is_written_byte_for_byte(tmp_path: Path) -> None:
    import draccus
    from lerobot.motors import MotorCalibration

    content: Any = {joint: MotorCalibration(**asdict(entry)) for joint, entry in CALIBRATION.items()}
    with (tmp_path / "arm.json").open("w") as file, draccus.config_type("json"):
        draccus.dump(content, file, indent=4)
    assert calibration_text(CALIBRATION) == (tmp_path / "arm.json").read_text()
    assert json.loads(calibration_text(CALIBRATION)).keys() == CALIBRATION.keys()


def test_calibrations_are_looked_for_where_lerobot_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerobot.robots.so_follower import SO101Follower, SOFollowerRobotConfig
    from lerobot.teleoperators.so_leader import SO101Leader, SOLeaderTeleopConfig
    from lerobot.utils.constants import HF_LEROBOT_CALIBRATION

    assert calibration_folder() == HF_LEROBOT_CALIBRATION
    makers: tuple[tuple[Callable[..., Any], Callable[..., Any], tuple[str, ...]], ...] = (
        (SO101Follower, SOFollowerRobotConfig, FOLLOWERS),
        (SO101Leader, SOLeaderTeleopConfig, LEADERS),
    )
    for make, config, folders in makers:
        folder = tmp_path / folders[0]
        arm = make(config(id="mine", port="/dev/null", calibration_dir=folder))
        assert folder.name == arm.name
        arm.calibration_fpath.write_text("{}")
        monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
        assert find_calibration("mine", folders) == arm.calibration_fpath
        monkeypatch.delenv("HF_LEROBOT_CALIBRATION")
        arm.calibration_fpath.unlink()


UNITS = (
    ("DEGREES", "deg", (-100.0, 100.0)),
    ("RANGE_0_100", "normalized", (0.0, 100.0)),
    ("RANGE_M100_100", "normalized", (-100.0, 100.0)),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(UNITS), st.integers(0, LAST), st.integers(0, LAST), st.integers(0, 1),
    st.integers(-100, LAST + 100), st.floats(0, 1),
)  # fmt: skip
def test_units_are_lerobots_but_for_rounding(
    unit: tuple[str, str, tuple[float, float]], one: int, other: int, drive_mode: int, steps: int, share: float
) -> None:
    """LeRobot cuts a goal's fraction off, so that a position that was read and is sent back may be a step lower; ours
    takes the nearest step. Beyond the calibration it goes on in degrees, where ours refuses."""
    from lerobot.motors import Motor, MotorCalibration, MotorNormMode
    from lerobot.motors.feetech import FeetechMotorsBus

    low, high = min(one, other), max(one, other)
    if low == high:
        return
    mode, name, limits = unit
    bus = FeetechMotorsBus(
        "/dev/null", {"one": Motor(1, "sts3215", MotorNormMode[mode])},
        {"one": MotorCalibration(1, drive_mode, 0, low, high)},
    )  # fmt: skip
    joint = Joint.model_validate({"name": "one", "unit": name, "position_limits": limits, "velocity_limit": None})
    scale = JointScale.of(joint, JointCalibration(1, drive_mode, 0, low, high))
    assert scale.value(steps) == pytest.approx(bus._normalize({1: steps})[1], abs=1e-9)
    first, last = scale.bounds()
    value = min(last, max(first, first + share * (last - first)))
    cut, nearest = bus._unnormalize({1: value})[1], scale.steps(value)
    assert nearest - cut in (0, 1)
    exact = scale.middle + (value - (scale.low + scale.high) / 2) / scale.per_step
    assert abs(nearest - exact) <= 0.5 + 1e-6
