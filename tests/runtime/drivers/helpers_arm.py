"""An SO-101 on an emulated bus, calibrated as an arm that somebody has built."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import JointCalibration
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as r
from smolpilot.runtime.drivers.feetech.arm import FeetechArm
from smolpilot.runtime.drivers.feetech.packets import Packet
from smolpilot.runtime.drivers.feetech.registers import Register
from smolpilot.runtime.emulator.bus import EmulatedBus, LoggedPacket
from smolpilot.runtime.emulator.plants import ServoPlant

PROFILE = RobotProfile.load("so101")
CALIBRATION = {
    "shoulder_pan": JointCalibration(1, 0, -1183, 760, 3391),
    "shoulder_lift": JointCalibration(2, 0, 912, 801, 3190),
    "elbow_flex": JointCalibration(3, 0, 144, 901, 3096),
    "wrist_flex": JointCalibration(4, 0, -1531, 858, 3210),
    "wrist_roll": JointCalibration(5, 0, 0, 0, 4095),
    "gripper": JointCalibration(6, 0, 1402, 2033, 3497),
}
SLOW = 0.5  # seconds for an exchange: a busy machine is no silent servo


@dataclass(frozen=True)
class Change:
    """A register that a packet has written, or a part of one. raw: its bytes."""

    servo: int
    address: int
    raw: bytes

    def of(self, register: Register) -> bool:
        return self.address == register.address


class Bench:
    """A bus and the arm's driver on it."""

    def __init__(self, bus: EmulatedBus, plant: ServoPlant, arm: FeetechArm) -> None:
        self.bus, self.plant, self.arm = bus, plant, arm

    def place(self, joint: str, steps: int) -> None:
        """Put a joint where its servo tells this position."""
        self.plant.place(joint, steps + self.arm.calibration[joint].homing_offset)

    def position(self, joint: str) -> int:
        """What its servo tells now."""
        return self.bus.servo(joint).get(r.PRESENT_POSITION)

    def value(self, joint: str, register: Register) -> int:
        return self.bus.servo(joint).get(register)

    def values(self, register: Register) -> list[int]:
        return [self.value(joint, register) for joint in self.arm.joints]

    def put(self, joint: str, register: Register, value: int) -> None:
        self.bus.servos[joint].set(register, value)

    def since(self, start: int) -> list[Packet]:
        """The requests that the bus got after the first `start` ones."""
        return requests(list(self.bus.log)[start:])


def requests(log: list[LoggedPacket]) -> list[Packet]:
    found = []
    for entry in log:
        packet, _ = packets.first_packet(entry.request)
        assert packet is not None
        found.append(packet)
    return found


def changes(asked: list[Packet]) -> list[Change]:
    """All that these packets have written, in order."""
    found = []
    for packet in asked:
        if packet.code == packets.WRITE:
            found.append(Change(packet.servo, packet.data[0], packet.data[1:]))
        if packet.code == packets.SYNC_WRITE:
            address, size = packet.data[:2]
            for at in range(2, len(packet.data), size + 1):
                found.append(Change(packet.data[at], address, packet.data[at + 1 : at + 1 + size]))
    return found


def calibrate(bus: EmulatedBus, calibration: Mapping[str, JointCalibration] = CALIBRATION) -> None:
    """Put a calibration into the servos, as it is after calibrating."""
    for joint, entry in calibration.items():
        servo = bus.servos[joint]
        servo.set(r.HOMING_OFFSET, entry.homing_offset)
        servo.set(r.MIN_POSITION, entry.range_min)
        servo.set(r.MAX_POSITION, entry.range_max)
        servo.power_up()


@contextmanager
def bench(
    *,
    profile: RobotProfile = PROFILE,
    calibration: Mapping[str, JointCalibration] = CALIBRATION,
    calibrated: bool = True,
    timeout: float = SLOW,
    gravity: Mapping[str, float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Bench]:
    """An arm in the middle of its ranges. clock: of the servos."""
    middle = {j: (c.range_min + c.range_max) // 2 + c.homing_offset for j, c in calibration.items()}
    plant = ServoPlant(middle, gravity=gravity)
    with EmulatedBus({joint: entry.id for joint, entry in calibration.items()}, plant, clock=clock) as bus:
        if calibrated:
            calibrate(bus, calibration)
        arm = FeetechArm(profile, bus.port, calibration, timeout=timeout)
        try:
            yield Bench(bus, plant, arm)
        finally:
            arm.disconnect()
