"""FeetechArm: a follower arm of STS3215 servos (SO-100, SO-101) behind the driver contract."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from smolpilot.common.errors import DeviceError, UsageError, did_you_mean
from smolpilot.common.text import shown
from smolpilot.contracts.driver import DriverLimits, JointReadings, Joints
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import (
    FOLLOWERS,
    Calibration,
    JointCalibration,
    find_calibration,
    read_calibration,
)

from . import engaging
from . import registers as r
from .bus import TIMEOUT, Bus
from .options import BusOptions
from .packets import Packet
from .scale import JointScale
from .servos import CONFIGURATION, GRIPPER_CONFIGURATION, Difference, Servos

LOST_POWER, LOST_CONTACT = "lost power", "lost contact"
"""Of `JointReadings.faults`, beside the words of STATUS_BITS."""
_FAR_BEHIND = 5  # readings without an answer, after which a servo is too far behind to be told the newest goal


@dataclass(frozen=True)
class ServoDetails:
    """What one servo says of itself; all but joint and id None where it does not answer, or is of another model.

    firmware: as "3.10". voltage in V, temperature in degrees Celsius, position in the profile's unit. faults: what it
    reports against itself. limits: what the servo is held to. calibration: as the servo holds it.
    calibration_differences and configuration_differences: where that is not what the file says, and what `connect`
    would change.
    """

    joint: str
    id: int
    model: int | None = None
    firmware: str | None = None
    voltage: float | None = None
    temperature: int | None = None
    position: float | None = None
    faults: tuple[str, ...] = ()
    torque: bool | None = None
    limits: DriverLimits | None = None
    calibration: JointCalibration | None = None
    calibration_differences: tuple[Difference, ...] = ()
    configuration_differences: tuple[Difference, ...] = ()

    @property
    def answers(self) -> bool:
        return self.model is not None


class FeetechArm:
    """The joints of a profile's actions, each on one servo. Not for several threads at once: who shares one, locks it.

    A servo that has not answered two readings in a row is told nothing. One whose torque is off when it answers again
    has lost its power and sunk, and one that was silent for longer is far behind: neither gets a goal, which would make
    it jump, before the next `engage`, and their readings say `lost power` or `lost contact`.

    Positions that wrap are counted on: a joint that passes from step 4095 to 0 goes on, and no reading jumps by a turn.
    `connect` and `engage` count anew, from the middle of the calibrated range.
    """

    Options = BusOptions

    def __init__(
        self,
        profile: RobotProfile,
        port: str,
        calibration: Calibration,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """calibration: of every joint of the profile's actions. timeout: seconds that an exchange may take at most."""
        self.joints = tuple(joint.name for joint in profile.action_joints)
        self.calibration: dict[str, JointCalibration] = {name: calibration[name] for name in self.joints}
        self.scales = tuple(JointScale.of(joint, calibration[joint.name]) for joint in profile.action_joints)
        self.bus = Bus(port, names={entry.id: joint for joint, entry in self.calibration.items()}, timeout=timeout)
        grippers = set(profile.gripper)
        wanted = {j: CONFIGURATION | (GRIPPER_CONFIGURATION if j in grippers else {}) for j in self.joints}
        self.servos = Servos(self.bus, self.calibration, wanted)
        self._ids = [entry.id for entry in self.calibration.values()]
        self._clock = clock
        self._last: list[int | None] = [None] * len(self.joints)  # steps, counted on
        self._torque: dict[str, float] = {}  # joint -> share that was asked for
        self._silent: dict[int, int] = {}  # servo -> readings in a row
        self._lost: dict[int, str] = {}  # servo -> LOST_POWER or LOST_CONTACT
        self._connected = self._engaged = False

    @classmethod
    def from_options(
        cls, profile: RobotProfile, options: BusOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> FeetechArm:
        """The arm that a setup means; UsageError for a calibration that is not there or does not fit."""
        calibration = read_calibration(find_calibration(options.calibration, FOLLOWERS), profile)
        return cls(profile, options.port, calibration, timeout=options.timeout, clock=clock)

    def connect(self) -> None:
        """Open the port; see that every servo answers, is an STS3215 and is calibrated as the file says; configure it.

        Moves nothing. DeviceError that says what is wrong, the port closed again.
        """
        if self._connected:
            return
        self.bus.open()
        try:
            self.servos.identify()
            self.servos.refuse_other_calibration()
            self.servos.configure()
            self.servos.close_locks()
        except BaseException:
            self.bus.close()
            raise
        self._last = [None] * len(self.joints)
        self._connected, self._engaged = True, False

    def limits(self) -> Mapping[str, DriverLimits]:
        """What the servos hold each joint to; after `connect`."""
        self._require_connected()
        return {scale.joint: self._limits(scale) for scale in self.scales}

    def read(self) -> JointReadings:
        """One reading of all joints. Those of a silent one are NaN; DeviceError when none answers."""
        self._require_connected()
        at = self._clock()
        replies, retries = self.bus.sync_read(self._ids, r.TELEMETRY)
        self._note_silence(replies)
        if not replies:
            raise self.bus.silent(self._ids)
        position, velocity, load, current, temperature, voltage = np.full((6, len(self.joints)), np.nan)
        faults = {}
        for i, scale in enumerate(self.scales):
            if (reply := replies.get(self._ids[i])) is None:
                continue
            position[i] = scale.value(self._count_on(i, _value(reply, r.PRESENT_POSITION)))
            upwards = 1.0 if scale.per_step > 0 else -1.0
            fine = bool(self.servos.memory[scale.joint][r.PHASE] & r.PHASE_FINE_SPEED)
            velocity[i] = _value(reply, r.PRESENT_SPEED) * r.SPEED_STEPS[fine] * scale.per_step
            load[i] = _value(reply, r.PRESENT_LOAD) / r.FULL_LOAD * upwards
            current[i] = abs(_value(reply, r.PRESENT_CURRENT)) * r.AMPERES
            temperature[i] = _value(reply, r.PRESENT_TEMPERATURE)
            voltage[i] = _value(reply, r.PRESENT_VOLTAGE) * r.VOLTS
            words = _faults(_value(reply, r.STATUS) | reply.code)
            if lost := self._lost.get(self._ids[i]):
                words = (*words, lost)
            if words:
                faults[scale.joint] = words
        return JointReadings(position, at, velocity, load, current, temperature, voltage, faults, retries)

    def engage(self) -> Joints:
        """Hold each joint where it is, and switch torque on; the goals [A].

        DeviceError when a joint is silent, stands beyond its calibrated range, does not keep still or does not take its
        goal. Servos whose torque was off are switched off again then: they switch it on with the goal by themselves.
        """
        self._require_connected()
        self._engaged = False
        goals = engaging.engage(self.bus, self.servos, self.scales, self._torque)
        self._last = [None] * len(self.joints)
        self._silent, self._lost = {}, {}
        self._engaged = True
        return np.array([scale.value(goals[scale.joint]) for scale in self.scales])

    def write(self, goals: Joints) -> float:
        """Send the goals [A]; when. DeviceError for what is not finite, of wrong length or beyond the calibration, and
        before `engage`: a servo that gets a goal switches its torque on."""
        self._require_connected()
        if not self._engaged:
            raise DeviceError(
                "A goal was to be sent to an arm that is not engaged.", expected="engage() before the first goal"
            )
        values = np.asarray(goals, dtype=np.float64)
        if values.shape != (len(self.joints),):
            raise DeviceError(f"{list(values.shape)} goals were to be sent.", expected=f"[{len(self.joints)}]")
        steps = [scale.steps(float(value)) for scale, value in zip(self.scales, values, strict=True)]
        at = self._clock()
        deaf = self.deaf
        if told := {servo: goal for servo, goal in zip(self._ids, steps, strict=True) if servo not in deaf}:
            self.bus.sync_write(r.GOAL_POSITION, told)
        return at

    def set_torque_limit(self, joint: str, share: float) -> None:
        """How much of what its motor can give a joint may use, above 0 to 1, as for a gripper's force.

        At once, and again at each `engage`; never more than the servo's own limit.
        """
        self._require_connected()
        if joint not in self.calibration:
            raise UsageError(f"The arm has no joint '{joint}'.", fix=did_you_mean(joint, self.joints))
        if not 0 < share <= 1:
            raise UsageError(f"The torque of joint '{joint}' was to be {shown(share)}.", expected="above 0, at most 1")
        self._torque[joint] = share
        limit = engaging.torque_limit(self.servos.memory[joint], share)
        self.bus.write(self.calibration[joint].id, r.TORQUE_LIMIT, limit)

    def release(self) -> None:
        """Switch torque off: the arm falls. DeviceError that names the joints that may still hold."""
        self._require_connected()
        self._engaged = False
        ids = {joint: entry.id for joint, entry in self.calibration.items()}
        engaging.switch_off(self.bus, ids, self.joints)

    def disconnect(self) -> None:
        """Close the port and leave torque as it is: servos with power hold their last goal. Never raises."""
        self._connected = self._engaged = False
        self.bus.close()

    def details(self) -> tuple[ServoDetails, ...]:
        """What the servos say of themselves, also of an arm that `connect` refuses. Writes nothing.

        Opens the port where it is not open, and closes it again. DeviceError when it cannot be opened.
        """
        with self._opened():
            return tuple(self._details(scale) for scale in self.scales)

    def calibration_difference(self) -> tuple[Difference, ...]:
        """Where the servos are calibrated otherwise than the file says. Opens the port as `details` does."""
        with self._opened():
            self.servos.identify()
            return tuple(self.servos.calibration_differences())

    def write_calibration(self) -> tuple[Difference, ...]:
        """Write the calibration to the servos, where they differ; what was written. Opens the port as `details` does.

        DeviceError for a servo whose torque is on: it would move.
        """
        with self._opened():
            self.servos.identify()
            written = self.servos.write_calibration()
        self._last = [None] * len(self.joints)
        return tuple(written)

    def _limits(self, scale: JointScale) -> DriverLimits:
        """Of a servo whose memory was read."""
        memory = self.servos.memory[scale.joint]
        return DriverLimits(
            position=scale.bounds(),
            step=abs(scale.per_step),
            temperature=float(memory[r.MAX_TEMPERATURE]),
            voltage=(memory[r.MIN_VOLTAGE] * r.VOLTS, memory[r.MAX_VOLTAGE] * r.VOLTS),
        )

    def _details(self, scale: JointScale) -> ServoDetails:
        joint, servo = scale.joint, self.calibration[scale.joint].id
        if not self.servos.answers(joint):
            return ServoDetails(joint, servo)
        memory = self.servos.load(joint)
        if memory[r.MODEL_NUMBER] != r.MODEL:
            return ServoDetails(joint, servo, memory[r.MODEL_NUMBER])
        reply = self.bus.read(servo, r.TELEMETRY)
        held: JointCalibration | None = None
        with contextlib.suppress(ValueError):  # a servo that was never calibrated may hold what is no range
            drive_mode = scale.calibration.drive_mode
            ends = memory[r.MIN_POSITION], memory[r.MAX_POSITION]
            held = JointCalibration(servo, drive_mode, memory[r.HOMING_OFFSET], *ends)
        firmware = memory[r.FIRMWARE]
        return ServoDetails(
            joint, servo, memory[r.MODEL_NUMBER],
            firmware=f"{firmware & 0xFF}.{firmware >> 8}",
            voltage=_value(reply, r.PRESENT_VOLTAGE) * r.VOLTS,
            temperature=_value(reply, r.PRESENT_TEMPERATURE),
            position=scale.value(scale.unwrapped(_value(reply, r.PRESENT_POSITION), None)),
            faults=_faults(_value(reply, r.STATUS) | reply.code),
            torque=self.servos.has_torque(joint),
            limits=self._limits(scale),
            calibration=held,
            calibration_differences=tuple(self.servos.calibration_differences([joint])),
            configuration_differences=tuple(self.servos.configuration_differences([joint])),
        )  # fmt: skip

    @property
    def deaf(self) -> set[int]:
        """The servos that are told nothing."""
        return {servo for servo, readings in self._silent.items() if readings > 1} | self._lost.keys()

    def _note_silence(self, replies: Mapping[int, Packet]) -> None:
        """Who does not answer; and who answers again, and has no torque any more, or is far behind."""
        before = self._silent
        self._silent = {servo: before.get(servo, 0) + 1 for servo in self._ids if servo not in replies}
        if not self._engaged:
            return
        self._lost |= dict.fromkeys((s for s, n in self._silent.items() if n >= _FAR_BEHIND), LOST_CONTACT)
        if not (back := sorted(before.keys() & replies.keys())):
            return
        torque, _ = self.bus.sync_read(back, r.TORQUE_ENABLE)
        # Who does not say so now is told nothing, and asked again at the next reading.
        self._silent |= {servo: before[servo] + 1 for servo in back if servo not in torque}
        self._lost |= {servo: LOST_POWER for servo, reply in torque.items() if not any(reply.data)}

    def _count_on(self, index: int, steps: int) -> int:
        counted = self.scales[index].unwrapped(steps, self._last[index])
        self._last[index] = counted
        return counted

    def _require_connected(self) -> None:
        if not self._connected:
            raise DeviceError(f"The arm on {self.bus.port} is not connected.")

    @contextmanager
    def _opened(self) -> Iterator[None]:
        was_open = self.bus.is_open
        self.bus.open()
        try:
            yield
        finally:
            if not was_open:
                self.bus.close()


def _value(reply: Packet, register: r.Register) -> int:
    """A register's value within a reply to TELEMETRY."""
    start = register.address - r.TELEMETRY.address
    return register.decode(reply.data[start : start + register.size])


def _faults(bits: int) -> tuple[str, ...]:
    return tuple(word for bit, word in r.STATUS_BITS.items() if bits & bit)
