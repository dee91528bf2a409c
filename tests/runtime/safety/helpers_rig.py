"""A governed SO-101 on an emulated bus: real bytes on a pty, and time that a test lets pass."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import Camera, SentAction
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import default_calibration
from smolpilot.runtime.control_loop import LoopEnd, Source, run_loop
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.drivers.feetech.arm import FeetechArm
from smolpilot.runtime.emulator.bus import SO101, EmulatedBus
from smolpilot.runtime.emulator.options import FaultOptions, ServoOptions
from smolpilot.runtime.emulator.plants import ServoPlant
from smolpilot.runtime.governed_robot import GovernedRobot
from smolpilot.runtime.governor import GovernorOptions, Request
from smolpilot.runtime.limits import OperatingLimit

PROFILE = RobotProfile.load("so101")
RATE = PROFILE.rate
TICK = 1 / RATE
JOINTS = tuple(joint.name for joint in PROFILE.action_joints)
PAN, LIFT, ELBOW, GRIPPER = (JOINTS.index(name) for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "gripper"))
SPEEDS = {name: OperatingLimit(velocity=60.0, acceleration=200.0) for name in JOINTS}
_PATIENCE = 0.2  # seconds for an exchange: a busy machine is no silent servo
HOME = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 50.0])


class MarkingArm(FeetechArm):
    """Remembers how many packets the bus had seen before it wrote goals; -1 before it has."""

    mark = -1
    emulated: EmulatedBus

    def write(self, goals: npt.NDArray[np.float64]) -> float:
        before = len(self.emulated.log)
        at = super().write(goals)
        if len(self.deaf) < len(self.joints):
            self.mark = before
        return at


class Rig:
    """`with Rig() as rig:` an arm that is connected and held; `rig.tick(action)` is one tick of a control loop.

    Attributes: `bus` (servos, plant, faults, log), `arm` (the driver), `robot` (behind the governor), `now`.
    """

    def __init__(
        self,
        *,
        limits: Mapping[str, OperatingLimit] | None = None,
        options: GovernorOptions | None = None,
        servos: ServoOptions | None = None,
        faults: FaultOptions | None = None,
        gravity: Mapping[str, float] | None = None,
        cameras: Mapping[str, Camera] | None = None,
        connect: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """clock: other than the rig's own, for an arm that another process moves."""
        self.now = 1000.0
        self.calibration = default_calibration(PROFILE)
        middles = {name: (one.range_min + one.range_max) / 2 for name, one in self.calibration.items()}
        self.plant = ServoPlant(middles, gravity=gravity)
        self.bus = EmulatedBus(SO101, self.plant, clock=clock or self.clock, options=servos, faults=faults)
        for name, one in self.calibration.items():
            servo = self.bus.servos[name]
            servo.set(reg.MIN_POSITION, one.range_min)
            servo.set(reg.MAX_POSITION, one.range_max)
            servo.set(reg.RETURN_DELAY, 0)
        self.bus.start()
        self.arm = MarkingArm(PROFILE, self.bus.port, self.calibration, timeout=_PATIENCE, clock=self.clock)
        self.arm.emulated = self.bus
        self.robot = GovernedRobot(
            PROFILE,
            self.arm,
            cameras,
            operating_limits=SPEEDS if limits is None else limits,
            options=options,
            clock=self.clock,
        )
        self._connect = connect
        self.sent: list[SentAction] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass, once the bus has done what it was told."""
        self.settle()
        self.now += seconds

    def settle(self) -> None:
        """Wait until the last goals are in the servos: they are not acknowledged."""
        with contextlib.suppress(DeviceError):  # unplugged
            for _ in range(10_000):
                if self.arm.mark < 0 or not self.bus.port or self.goal_writes(self.arm.mark):
                    break
                time.sleep(0.0001)
        self.arm.mark = -1

    def __enter__(self) -> Self:
        if self._connect:
            self.robot.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.robot.disconnect()
        self.bus.close()

    def tick(self, action: Any, **request: Any) -> SentAction:
        """Read the joints, ask for `action` (None: nobody asks), and let a tick pass."""
        self.robot.read()
        asked = None if action is None else Request(**({"action": action, "asked_at": self.now} | request))
        made = self.robot.ask(asked)
        self.sent.append(made)
        self.sleep(TICK)
        return made

    def run(self, action: Any, ticks: int, **request: Any) -> SentAction:
        """So many ticks of the same."""
        for _ in range(ticks):
            self.tick(action, **request)
        return self.sent[-1]

    def reach(self, action: npt.ArrayLike) -> None:
        """Ask for `action` until commands have arrived there."""
        for _ in range(3000):
            made = self.tick(action)
            if made.stop is not None:
                raise AssertionError(made.stop.reason)
            if np.abs(made.commanded - np.asarray(action)).max() < 1e-4 and self.robot.governor.at_rest:
                return
        raise AssertionError("never arrived")

    def loop(self, source: Source, **options: Any) -> LoopEnd:
        """The project's own loop, in the rig's time."""
        try:
            return run_loop(
                self.robot, source, clock=self.clock, sleep=self.sleep, **({"on_tick": self.sent.append} | options)
            )
        finally:
            self.settle()

    # What was on the bus

    def goal_writes(self, since: int = 0) -> list[tuple[float, dict[str, int]]]:
        """(time, joint -> goal in steps) of every packet that wrote goals, from the `since`-th packet on."""
        names = {number: name for name, number in SO101.items()}
        found = []
        for logged in list(self.bus.log)[since:]:
            packet, _ = packets.first_packet(logged.request)
            assert packet is not None
            goals = {
                names[servo]: reg.GOAL_POSITION.decode(data) for servo, data in _written(packet, reg.GOAL_POSITION)
            }
            if goals:
                found.append((logged.time, goals))
        return found

    def goals(self, since: int = 0) -> npt.NDArray[np.float64]:
        """Goals on the bus in the profile's units [n, A], each packet one row."""
        scales = {scale.joint: scale for scale in self.arm.scales}
        last: dict[str, int] = {}
        rows = []
        for _, goals in self.goal_writes(since):
            last |= goals
            if len(last) == len(JOINTS):
                rows.append([scales[name].value(last[name]) for name in JOINTS])
        return np.array(rows).reshape(-1, len(JOINTS))

    def writes_of(self, register: reg.Register, since: int = 0) -> list[tuple[int, dict[int, int]]]:
        """(index of the packet in the log, servo -> value) of every packet that wrote that register."""
        found = []
        for i, logged in enumerate(list(self.bus.log)[since:], since):
            packet, _ = packets.first_packet(logged.request)
            assert packet is not None
            if values := {servo: register.decode(data) for servo, data in _written(packet, register)}:
                found.append((i, values))
        return found

    @property
    def steps(self) -> npt.NDArray[np.float64]:
        """What a step of each servo is in its joint's unit [A]."""
        return np.array([abs(scale.per_step) for scale in self.arm.scales])

    def positions(self) -> npt.NDArray[np.float64]:
        """Where the joints really are, in the profile's units [A]."""
        self.bus.advance()
        here = [self.bus.servo(name).get(reg.PRESENT_POSITION) for name in JOINTS]
        return np.array([scale.value(at) for scale, at in zip(self.arm.scales, here, strict=True)])

    def check_bytes(self, since: int = 0) -> int:
        """Every goal on the bus is within position, velocity and acceleration of the goals before it; how many.

        Goals are whole steps, so a speed may be one step per tick off, and a change of speed two.
        """
        limits, scales = self.robot.limits, {scale.joint: scale for scale in self.arm.scales}
        writes = self.goal_writes(since)
        for i, name in enumerate(JOINTS):
            told = [(at, scales[name].value(goals[name])) for at, goals in writes if name in goals]
            times, goals = np.array(told).T
            assert limits.low[i] - 1e-6 <= goals.min()
            assert goals.max() <= limits.high[i] + 1e-6
            elapsed, moved = np.diff(times), np.diff(goals)
            assert (np.abs(moved) <= limits.velocity[i] * elapsed + self.steps[i] + 1e-6).all(), name
            regular = np.concatenate([[True], elapsed < 1.5 * TICK])
            moved = np.concatenate([[0.0], moved])
            changes = np.diff(moved)[regular[1:] & regular[:-1]]
            assert (np.abs(changes) <= limits.acceleration[i] * TICK * TICK + 2 * self.steps[i] + 1e-6).all(), name
        return len(writes)


def _written(packet: packets.Packet, register: reg.Register) -> list[tuple[int, bytes]]:
    """(servo, bytes) that a packet writes into a register; a packet may write several registers at once."""
    data = packet.data
    if packet.code == packets.WRITE:
        blocks = [(packet.servo, data[0], data[1:])]
    elif packet.code == packets.SYNC_WRITE:
        size = data[1]
        each = [data[at : at + size + 1] for at in range(2, len(data), size + 1)]
        blocks = [(one[0], data[0], one[1:]) for one in each]
    else:
        return []
    found = []
    for servo, address, values in blocks:
        start = register.address - address
        if start >= 0 and start + register.size <= len(values):
            found.append((servo, values[start : start + register.size]))
    return found


def calibration_file(rig: Rig, folder: Path) -> Path:
    """The rig's calibration in LeRobot's form."""
    from smolpilot.runtime.calibration import write_calibration

    path = folder / "arm.json"
    write_calibration(path, rig.calibration)
    return path
