"""Registers of an STS3215 servo that this project reads or writes: address, bytes, sign; units of what they tell.

Source: Feetech's memory table of the STS series; LeRobot's motors/feetech/tables.py agrees (tests/oracle), but for the
sign of the current, which Feetech's own library has.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL = 777
"""What `MODEL_NUMBER` of an STS3215 reads."""
STEPS = 4096
"""Of a turn."""
AMPERES = 0.0065
"""Of a unit of PRESENT_CURRENT."""
VOLTS = 0.1
"""Of a unit of PRESENT_VOLTAGE and of the voltage limits."""
FULL_LOAD = 1000
"""PRESENT_LOAD, MAX_TORQUE_LIMIT and TORQUE_LIMIT when the motor gives all it can."""
SPEED_STEPS = {False: 50, True: 1}
"""Steps per second of a unit of speed, by PHASE_FINE_SPEED: servos differ by a factor of 50."""

PHASE_FINE_SPEED = 0x04
PHASE_ZERO_IS_FASTEST = 0x08
PHASE_MULTI_TURN = 0x10

STATUS_BITS = {
    0x01: "voltage",
    0x02: "encoder",
    0x04: "temperature",
    0x08: "current",
    0x20: "overload",
}
"""Bits of STATUS, and of the error byte of every reply."""


@dataclass(frozen=True)
class Register:
    """`size` bytes at `address`, little endian; `sign`: the bit that means below zero (sign and magnitude), if any."""

    address: int
    size: int = 1
    sign: int | None = None

    def decode(self, data: bytes) -> int:
        """The number in these `size` bytes."""
        value = int.from_bytes(data, "little")
        if self.sign is not None and value >> self.sign & 1:
            return -(value & (1 << self.sign) - 1)
        return value

    def encode(self, value: int) -> bytes:
        """The bytes of a number; ValueError when they cannot hold it."""
        most = 8 * self.size if self.sign is None else self.sign
        if not (0 <= abs(value) < 1 << most) or (value < 0 and self.sign is None):
            raise ValueError(f"{value} does not fit into the {self.size} bytes of register {self.address}")
        stored = value if value >= 0 or self.sign is None else -value | 1 << self.sign
        return stored.to_bytes(self.size, "little")


# EEPROM: written only while LOCK is 0, and kept without power.
FIRMWARE = Register(0, 2)  # major, minor
MODEL_NUMBER = Register(3, 2)
ID = Register(5)
BAUD_RATE = Register(6)
RETURN_DELAY = Register(7)
RESPONSE_LEVEL = Register(8)
MIN_POSITION = Register(9, 2)
MAX_POSITION = Register(11, 2)
MAX_TEMPERATURE = Register(13)
MAX_VOLTAGE = Register(14)
MIN_VOLTAGE = Register(15)
MAX_TORQUE = Register(16, 2)
PHASE = Register(18)
P_GAIN = Register(21)
D_GAIN = Register(22)
I_GAIN = Register(23)
PROTECTION_CURRENT = Register(28, 2)
HOMING_OFFSET = Register(31, 2, sign=11)
MODE = Register(33)
PROTECTIVE_TORQUE = Register(34)
PROTECTION_TIME = Register(35)
OVERLOAD_TORQUE = Register(36)
OVER_CURRENT_TIME = Register(38)
FIRST_RAM = 40

# RAM: set anew at each power-up.
TORQUE_ENABLE = Register(40)
ACCELERATION = Register(41)
GOAL_POSITION = Register(42, 2, sign=15)
GOAL_TIME = Register(44, 2)
GOAL_SPEED = Register(46, 2, sign=15)
TORQUE_LIMIT = Register(48, 2)
LOCK = Register(55)
PRESENT_POSITION = Register(56, 2, sign=15)
PRESENT_SPEED = Register(58, 2, sign=15)
PRESENT_LOAD = Register(60, 2, sign=10)
PRESENT_VOLTAGE = Register(62)
PRESENT_TEMPERATURE = Register(63)
STATUS = Register(65)
MOVING = Register(66)
PRESENT_CURRENT = Register(69, 2, sign=15)
MAX_ACCELERATION = Register(85)

TELEMETRY = Register(56, 15)
"""PRESENT_POSITION to PRESENT_CURRENT: all that a tick needs to know, in one exchange."""
