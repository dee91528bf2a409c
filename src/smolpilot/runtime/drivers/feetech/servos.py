"""The servos of one arm before anything moves: who they are, how they are calibrated and configured.

What is written to a servo is read first, and only what differs is written. A servo keeps its configuration without
power and wears out by writing; what LeRobot writes at each connect (so_follower.py `configure`) is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smolpilot.common.errors import DeviceError
from smolpilot.runtime.calibration import Calibration

from . import registers as r
from .bus import PATIENT, Bus
from .registers import Register

MODELS = {777: "STS3215", 2825: "STS3250", 11272: "SM8512BL", 1284: "SCS0009"}
PING_TIMEOUT = PATIENT

# What a servo holds still by: with its torque on, a change would move it, or let it sag.
_HOLDING = {"PHASE", "P_GAIN", "I_GAIN", "D_GAIN", "MODE", "HOMING_OFFSET", "MIN_POSITION", "MAX_POSITION"}
_BLOCKS = (Register(0, r.FIRST_RAM), Register(r.TORQUE_ENABLE.address, 16), r.MAX_ACCELERATION)

CONFIGURATION = {
    "RESPONSE_LEVEL": 1,  # every write is acknowledged
    "RETURN_DELAY": 0,
    "MAX_ACCELERATION": 254,
    "MODE": 0,  # position
    "P_GAIN": 16,
    "I_GAIN": 0,
    "D_GAIN": 32,
}
"""Of every servo, register -> value; and PHASE without its multi-turn bit, so that positions are 0 to 4095."""
GRIPPER_CONFIGURATION = {"MAX_TORQUE": 500, "PROTECTION_CURRENT": 250, "OVERLOAD_TORQUE": 25}
"""Of a gripper beside it: half of the torque and current, and a quarter of the torque once it is overloaded."""
LEADER_CONFIGURATION = {
    key: CONFIGURATION[key] for key in ("RESPONSE_LEVEL", "RETURN_DELAY", "MAX_ACCELERATION", "MODE")
}
"""Of the servos of a leader, which only tell where they are."""


class Memory:
    """What a servo's registers held when they were read."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}

    def put(self, register: Register, data: bytes) -> None:
        self._bytes.update(enumerate(data, register.address))

    def __getitem__(self, register: Register) -> int:
        addresses = range(register.address, register.address + register.size)
        return register.decode(bytes(self._bytes[address] for address in addresses))


@dataclass(frozen=True)
class Difference:
    """A register that holds something else than it should."""

    joint: str
    servo: int
    name: str
    register: Register
    found: int
    wanted: int

    def __str__(self) -> str:
        return f"{self.joint} (servo {self.servo}): {self.name} is {self.found}, not {self.wanted}"


class Servos:
    """The servos of an arm on an open bus, by joint. configuration: joint -> register's name -> value."""

    def __init__(self, bus: Bus, calibration: Calibration, configuration: Mapping[str, Mapping[str, int]]) -> None:
        self.bus = bus
        self.calibration = calibration
        self._configuration = configuration
        self.memory: dict[str, Memory] = {}

    def answering(self) -> dict[str, bool]:
        """Joint -> whether its servo answers."""
        return {joint: self.answers(joint) for joint in self.calibration}

    def answers(self, joint: str) -> bool:
        """Whether a servo answers; on a bus that is given more time than usual it has that time, too."""
        timeout = max(PING_TIMEOUT, min(PATIENT, self.bus.timeout))
        return self.bus.ping(self.calibration[joint].id, timeout=timeout) is not None

    def identify(self) -> None:
        """See that every servo answers, is an STS3215, and read its memory. DeviceError where one does not."""
        silent = [joint for joint, there in self.answering().items() if not there]
        if silent:
            raise self._silent(silent)
        for joint in self.calibration:
            memory = self.load(joint)
            if (model := memory[r.MODEL_NUMBER]) != r.MODEL:
                raise DeviceError(
                    f"Servo {self.calibration[joint].id} ({joint}) on {self.bus.port} is {_model(model)}.",
                    expected=f"{_model(r.MODEL)}, as SO-100 and SO-101 have",
                    fix="Is this the arm's port? `smolpilot robot find` shows what answers on each.",
                )

    def load(self, joint: str) -> Memory:
        """Read a servo's memory anew."""
        memory = Memory()
        for block in _BLOCKS:
            memory.put(block, self.bus.read(self.calibration[joint].id, block, timeout=PATIENT).data)
        self.memory[joint] = memory
        return memory

    def has_torque(self, joint: str) -> bool:
        """Whether a servo's torque was on when its memory was read."""
        return self.memory[joint][r.TORQUE_ENABLE] != 0

    def calibration_differences(self, joints: Iterable[str] | None = None) -> list[Difference]:
        """Where the servos are calibrated otherwise than the file says, as their memory was read."""
        found = []
        for joint in self.calibration if joints is None else joints:
            entry = self.calibration[joint]
            wanted = {
                "HOMING_OFFSET": entry.homing_offset,
                "MIN_POSITION": entry.range_min,
                "MAX_POSITION": entry.range_max,
            }
            found += self._differences(joint, wanted)
        return found

    def configuration_differences(self, joints: Iterable[str] | None = None) -> list[Difference]:
        """Where the servos are configured otherwise than this arm's are, as their memory was read."""
        found = []
        for joint in self.calibration if joints is None else joints:
            phase = self.memory[joint][r.PHASE] & ~r.PHASE_MULTI_TURN
            found += self._differences(joint, {**self._configuration[joint], "PHASE": phase})
        return found

    def refuse_other_calibration(self) -> None:
        """DeviceError where the file is another arm's, or the servos were calibrated since."""
        if not (different := self.calibration_differences()):
            return
        more = f" ({len(different) - 1} more differ)" if len(different) > 1 else ""
        raise DeviceError(
            f"The servos are calibrated otherwise than the file says: {different[0]}{more}. "
            "Positions would not be what they seem.",
            expected="the file of this arm, from its last calibration",
            fix="Name the file of this arm. If it is the right one: `smolpilot robot check SETUP --write-calibration` "
            "writes it to the servos.",
        )

    def configure(self) -> list[Difference]:
        """Write what differs from the configuration, torque left as it is; what was written.

        DeviceError, and nothing written, where torque is on and the change would move the joint.
        """
        different = self.configuration_differences()
        self._write_all(different)
        return different

    def write_calibration(self) -> list[Difference]:
        """Write the calibration file to the servos, where they differ; what was written. DeviceError as `configure`."""
        different = self.calibration_differences()
        self._write_all(different)
        return different

    def close_locks(self) -> None:
        """Lock the memory that lasts without power, where a program has left it open."""
        for joint, memory in self.memory.items():
            if memory[r.LOCK] != 1:
                self.bus.write(self.calibration[joint].id, r.LOCK, 1, timeout=PATIENT)

    def _write_all(self, different: list[Difference]) -> None:
        held = [one for one in different if one.name in _HOLDING and self.has_torque(one.joint)]
        if held:
            raise DeviceError(
                f"{held[0]}, and its torque is on: the change would move the arm.",
                expected="servos whose torque is off while they are configured",
                fix="Hold the arm, switch its power off and on again, and start anew.",
            )
        for joint in dict.fromkeys(one.joint for one in different):
            self._write(joint, [one for one in different if one.joint == joint])

    def _write(self, joint: str, changes: list[Difference]) -> None:
        """Write registers of one servo's lasting memory, and read that they hold it."""
        servo = self.calibration[joint].id
        self._answer_all(servo, changes)
        self.bus.write(servo, r.LOCK, 0, timeout=PATIENT)
        try:
            for change in changes:
                self.bus.write(servo, change.register, change.wanted, timeout=PATIENT)
        except BaseException:
            with contextlib.suppress(DeviceError):
                self.bus.write(servo, r.LOCK, 1, timeout=PATIENT)
            raise
        self.bus.write(servo, r.LOCK, 1, timeout=PATIENT)
        memory = self.load(joint)
        for change in changes:
            if (found := memory[change.register]) != change.wanted:
                raise DeviceError(
                    f"{joint} (servo {servo}) does not keep {change.name}: {change.wanted} was written, "
                    f"{found} is read.",
                    fix="Switch the arm's power off and on again. If that does not help, the servo is broken.",
                )

    def _answer_all(self, servo: int, changes: list[Difference]) -> None:
        """A servo that acknowledges no writes is told to, unseen; later writes tell whether it does."""
        if change := next((one for one in changes if one.name == "RESPONSE_LEVEL"), None):
            for register, value in ((r.LOCK, 0), (change.register, change.wanted)):
                self.bus.sync_write(register, {servo: value})

    def _differences(self, joint: str, wanted: Mapping[str, int]) -> list[Difference]:
        memory, servo, found = self.memory[joint], self.calibration[joint].id, []
        for name, value in wanted.items():
            register: Register = getattr(r, name)
            if memory[register] != value:
                found.append(Difference(joint, servo, name, register, memory[register], value))
        return found

    def _silent(self, joints: list[str]) -> DeviceError:
        if len(joints) < len(self.calibration):
            return self.bus.silent([self.calibration[joint].id for joint in joints])
        return DeviceError(
            f"No servo of the arm answers on {self.bus.port}.",
            expected=f"servos {', '.join(str(entry.id) for entry in self.calibration.values())}",
            fix="Is the arm's power on, and is this its port? `smolpilot robot find` shows what answers on each.",
        )


def _model(number: int) -> str:
    return f"{MODELS[number]} (model {number})" if number in MODELS else f"of model {number}"
