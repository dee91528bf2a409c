"""Servo: an STS3215 as its registers and the quirks of its firmware, without time, bus or motor of its own.

Facts: Feetech's memory table and manual of the STS series; what LeRobot's users found (its issues 3373, 3585). Where
nobody says what the firmware does, the docstrings here say what this one does.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection

from smolpilot.runtime.drivers.feetech import registers as reg

from .options import ServoOptions
from .plants import JointCommand, JointState
from .settings import Settings

SIZE = 128
_STALL_CURRENT = 2.7  # A at full drive, 12 V
_IDLE_CURRENT = 0.02
_MEASURED = struct.Struct("<HHHBBxBBxxH")
"""PRESENT_POSITION, _SPEED, _LOAD, _VOLTAGE, _TEMPERATURE, STATUS, MOVING, PRESENT_CURRENT: the bytes from 56 on."""
_LIMP = JointCommand(None, 0.0, 0.0)
_WARMTH, _COOLING = 60.0, 300.0  # degrees above ambient at full load, in the end; seconds
_COOLER = 5.0  # degrees below MAX_TEMPERATURE where torque is allowed again
_CALIBRATE_MIDDLE = 128  # of TORQUE_ENABLE
_READ_ONLY = frozenset([*range(5), *range(56, 71)])
_OVERLOAD, _CURRENT, _TEMPERATURE, _ENCODER, _VOLTAGE = 0x20, 0x08, 0x04, 0x02, 0x01

# Feetech's table of the STS3215, but for the voltage: of the 12 V model. Those without a name are only kept.
_EEPROM: tuple[tuple[reg.Register, int], ...] = (
    (reg.Register(19), 0x2C),  # which bits of STATUS take torque away
    (reg.Register(20), 0x2F),  # which blink
    (reg.Register(24, 2), 16),  # least drive to start with
    (reg.Register(26), 1),  # dead zones
    (reg.Register(27), 1),
    (reg.Register(30), 1),  # angular resolution
    (reg.Register(37), 10),  # gains of mode 1
    (reg.Register(39), 10),
    (reg.FIRMWARE, 3 | 10 << 8),
    (reg.MODEL_NUMBER, reg.MODEL),
    (reg.RESPONSE_LEVEL, 1),
    (reg.MAX_POSITION, reg.STEPS - 1),
    (reg.MAX_TEMPERATURE, 70),
    (reg.MAX_VOLTAGE, 140),
    (reg.MIN_VOLTAGE, 40),
    (reg.MAX_TORQUE, reg.FULL_LOAD),
    (reg.P_GAIN, 32),
    (reg.D_GAIN, 32),
    (reg.PROTECTION_CURRENT, 500),
    (reg.PROTECTIVE_TORQUE, 20),
    (reg.PROTECTION_TIME, 200),
    (reg.OVERLOAD_TORQUE, 80),
    (reg.OVER_CURRENT_TIME, 200),
)


class Servo:
    """128 bytes of registers, changed by `write` and `set` alone: the bus calls `read` and `write`, and time `command`
    and `update`.

    - Writing GOAL_POSITION switches torque on (an option). The goal that counts is clamped to MIN_POSITION and
      MAX_POSITION where these are a range; the register keeps what was written.
    - Writes below address 40 are ignored without a word while LOCK is not 0 (Feetech's table says that they hold until
      power goes: an option), those to what is measured always. At power-up LOCK is 0.
    - More torque than OVERLOAD_TORQUE for PROTECTION_TIME, or more current than PROTECTION_CURRENT for
      OVER_CURRENT_TIME, sets its bit of STATUS and leaves PROTECTIVE_TORQUE, until a goal on the other side is written
      or torque is off.
    - Above MAX_TEMPERATURE torque goes off, and nothing switches it on again before the servo is 5 degrees cooler.
    - At power-up GOAL_POSITION is where the servo stands (the table says 0, where no arm drives). There is no watchdog:
      the last goal is held for ever.
    - Modes other than 0 (position) are not emulated: the joint stands without force.
    """

    def __init__(self, number: int, *, position: float = 2048.0, options: ServoOptions | None = None) -> None:
        """number: the id on the bus. position: of the encoder, in steps."""
        self.options = options or ServoOptions()
        self.memory, self._kept = bytearray(SIZE), bytearray(reg.FIRST_RAM)
        self.voltage = self.options.voltage
        self.temperature = self.options.ambient
        self.encoder_fault = self._hot = False
        self._decoded: Settings | None = None  # anew when it is asked for after a change
        self._state = JointState(position, 0.0, 0.0, 0.0)
        for register, value in _EEPROM:
            self.set(register, value)
        self.set(reg.ID, number)
        self.set(reg.PHASE, self.options.phase)
        self.power_up()

    # Registers

    def get(self, register: reg.Register) -> int:
        """The value of a register now."""
        return register.decode(self.read(register.address, register.size))

    def set(self, register: reg.Register, value: int) -> None:
        """Put a value into a register past the firmware, as a factory would."""
        self._store(range(register.address, register.address + register.size), register.encode(value), keep=True)

    def read(self, address: int, size: int) -> bytes:
        """Bytes as the bus reads them; what lies beyond the memory is 0."""
        if address + size > reg.PRESENT_POSITION.address:
            self._measure()
        return bytes(self.memory[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Bytes as the bus writes them."""
        locked, torque = self.get(reg.LOCK) != 0, self.get(reg.TORQUE_ENABLE)
        written = range(address, address + len(data))
        ignored = _READ_ONLY.union(range(reg.FIRST_RAM) if locked and not self.options.locked_eeprom_is_ram else ())
        self._store(written, data, keep=not locked, ignored=ignored)
        if reg.TORQUE_ENABLE.address in written:
            self._torque_written(torque)
        if reg.GOAL_POSITION.address in written or reg.GOAL_POSITION.address + 1 in written:
            self._goal_written()

    def power_up(self) -> None:
        """RAM as it is after power comes; EEPROM and the position stay, whole turns are forgotten."""
        self.memory[:] = self._kept + bytes(SIZE - reg.FIRST_RAM)
        self._decoded = None
        self._trip, self._trip_direction = 0, 0.0
        self._overloaded_for = self._over_current_for = 0.0
        self._setpoint, self._speed, self._timed_speed = self._state.position, 0.0, math.inf
        self._turns = math.floor(self._state.position / reg.STEPS) * reg.STEPS
        self.set(reg.MAX_ACCELERATION, 254)
        self.set(reg.TORQUE_LIMIT, min(reg.FULL_LOAD, self.get(reg.MAX_TORQUE)))
        self.set(reg.GOAL_POSITION, self._present())
        self.set(reg.TORQUE_ENABLE, int(self.options.torque_at_power_up))

    @property
    def id(self) -> int:
        return self.memory[reg.ID.address]

    @property
    def status(self) -> int:
        """The bits of STATUS: also the error byte of every reply."""
        low, high = self._set.voltage
        outside = not low <= round(self.voltage / reg.VOLTS) <= high
        return self._trip | _VOLTAGE * outside | _ENCODER * self.encoder_fault | _TEMPERATURE * self._hot

    @property
    def torque(self) -> bool:
        """Whether the motor is driven."""
        return self._set.torque

    # Time

    def command(self, dt: float) -> JointCommand:
        """What the motor is asked for `dt` seconds later."""
        settings = self._set
        if not settings.torque:
            self._setpoint, self._speed = self._state.position, 0.0
            return _LIMP
        self._approach(self._target(), dt)
        return JointCommand(self._setpoint, settings.protective_force if self._trip else settings.force, settings.gain)

    def update(self, dt: float, state: JointState) -> None:
        """What the motor did in `dt` seconds: heat, protections and what is measured follow from it."""
        self._state, settings = state, self._set
        torque = abs(state.torque)
        self.temperature += (_WARMTH * torque**2 + self.options.ambient - self.temperature) * -math.expm1(
            -dt / _COOLING
        )
        self._hot = self.temperature > settings.most_temperature - (_COOLER if self._hot else 0.0)
        if self._hot and settings.torque:
            self.set(reg.TORQUE_ENABLE, 0)
        self._overloaded_for = self._overloaded_for + dt if torque > settings.overload else 0.0
        if self._overloaded_for > 0 and self._overloaded_for >= settings.overload_time:
            self._tripped(_OVERLOAD)
        self._over_current_for = self._over_current_for + dt if self._current() > settings.most_current else 0.0
        if self._over_current_for > 0 and self._over_current_for >= settings.over_current_time:
            self._tripped(_CURRENT)

    # The firmware

    def _store(self, written: range, data: bytes, *, keep: bool, ignored: Collection[int] = ()) -> None:
        """keep: what goes to the EEPROM outlives power."""
        for at, byte in zip(written, data, strict=True):
            if at < SIZE and at not in ignored:
                self.memory[at] = byte
                if keep and at < reg.FIRST_RAM:
                    self._kept[at] = byte
        self._decoded = None

    @property
    def _set(self) -> Settings:
        if self._decoded is None:
            self._decoded = Settings.of(self.memory)
        return self._decoded

    def _base(self) -> int:
        """Steps of the encoder where the position that is told begins to count."""
        offset = self._set.offset
        if self._set.multi_turn:
            return offset + self._turns
        return offset + (round(self._state.position) - offset) // reg.STEPS * reg.STEPS

    def _present(self) -> int:
        return max(-0x7FFF, min(0x7FFF, round(self._state.position) - self._base()))

    def _target(self) -> float:
        """The goal that counts, in steps of the encoder. The way there is the direct one, not around a wrap."""
        return float(self._set.goal + self._base())

    def _approach(self, target: float, dt: float) -> None:
        """Move the setpoint towards the target, as speed and acceleration allow."""
        speed, acceleration = min(self._set.speed, self._timed_speed), self._set.acceleration
        distance = target - self._setpoint
        if distance == 0 or (math.isinf(acceleration) and math.isinf(speed)):
            self._setpoint, self._speed = target, 0.0
            return
        # As fast as it may be and still stop at the target.
        wanted = math.copysign(min(speed, math.sqrt(2 * acceleration * abs(distance))), distance)
        change = acceleration * dt
        self._speed += max(-change, min(change, wanted - self._speed))
        step = self._speed * dt
        if step * distance >= 0 and abs(step) >= abs(distance):
            self._setpoint, self._speed = target, 0.0
        else:
            self._setpoint += step

    def _goal_written(self) -> None:
        if self.options.goal_enables_torque and not self._hot and self.memory[reg.TORQUE_ENABLE.address] != 1:
            self.set(reg.TORQUE_ENABLE, 1)
        if not self.torque:
            return
        distance = self._target() - self._state.position
        if distance * self._trip_direction < 0:
            self._recover()
        time = self.get(reg.GOAL_TIME)
        self._timed_speed = abs(self._target() - self._setpoint) / (time / 1000) if time else math.inf

    def _torque_written(self, before: int) -> None:
        value = self.memory[reg.TORQUE_ENABLE.address]
        if value == _CALIBRATE_MIDDLE:  # "here is the middle": it sets the offset, locked or not
            offset = round(self._state.position) % reg.STEPS - reg.STEPS // 2
            self.set(reg.HOMING_OFFSET, max(-2047, offset))
            self.set(reg.TORQUE_ENABLE, before)
        elif value == 0 or self._hot:
            self.set(reg.TORQUE_ENABLE, 0)
            self._recover()

    def _tripped(self, bit: int) -> None:
        if not self._trip:
            self._trip_direction = math.copysign(1.0, self._state.torque)
        self._trip |= bit

    def _recover(self) -> None:
        self._trip, self._trip_direction = 0, 0.0
        self._overloaded_for = self._over_current_for = 0.0

    def _current(self) -> float:
        return _IDLE_CURRENT + _STALL_CURRENT * abs(self._state.torque)

    def _measure(self) -> None:
        """Write what is measured into its registers."""
        state, settings, at = self._state, self._set, reg.PRESENT_POSITION.address
        speed = max(-0x7FFF, min(0x7FFF, round(state.velocity / settings.speed_unit)))
        moving = settings.torque and (self._setpoint != self._target() or abs(state.velocity) > 1)
        self.memory[at : at + _MEASURED.size] = _MEASURED.pack(
            _signed(self._present(), reg.PRESENT_POSITION.sign),
            _signed(speed, reg.PRESENT_SPEED.sign),
            _signed(round(state.load * reg.FULL_LOAD), reg.PRESENT_LOAD.sign),
            round(self.voltage / reg.VOLTS),
            max(0, min(255, round(self.temperature))),
            self.status,
            moving,
            round(self._current() / reg.AMPERES),
        )


def _signed(value: int, bit: int | None) -> int:
    """Sign and magnitude, as `Register.encode` has them."""
    return value if value >= 0 else -value | 1 << (bit or 0)
