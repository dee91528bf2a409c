"""Settings: what a servo's registers tell its firmware, decoded once for each change and not for each instant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from smolpilot.runtime.drivers.feetech import registers as reg

_GAIN = 1 / 150 / 32  # share of the drive for each step of distance and unit of P_GAIN
_ACCELERATION = 100.0  # steps/s² of a unit of ACCELERATION
_MOST_ACCELERATION = 254


@dataclass(frozen=True, slots=True)
class Settings:
    """Positions in steps as the servo tells them, speeds in steps/s, forces as shares of the full drive, seconds, A.

    goal: clamped. speed, acceleration: infinite where nothing bounds them.
    """

    torque: bool
    goal: int
    offset: int
    multi_turn: bool
    speed_unit: int
    speed: float
    acceleration: float
    force: float
    gain: float
    protective_force: float
    overload: float
    overload_time: float
    most_current: float
    over_current_time: float
    most_temperature: int
    voltage: tuple[int, int]

    @classmethod
    def of(cls, memory: bytearray) -> Self:
        """Of a servo's 128 bytes."""

        def get(register: reg.Register) -> int:
            return register.decode(bytes(memory[register.address : register.address + register.size]))

        goal, low, high = get(reg.GOAL_POSITION), get(reg.MIN_POSITION), get(reg.MAX_POSITION)
        phase = get(reg.PHASE)
        unit = reg.SPEED_STEPS[bool(phase & reg.PHASE_FINE_SPEED)]
        speed = float(abs(get(reg.GOAL_SPEED)) * unit)
        if speed == 0 and phase & reg.PHASE_ZERO_IS_FASTEST:
            speed = math.inf
        acceleration = min(get(reg.ACCELERATION) or math.inf, get(reg.MAX_ACCELERATION) or math.inf)
        return cls(
            torque=get(reg.TORQUE_ENABLE) == 1 and get(reg.MODE) == 0,
            goal=max(low, min(high, goal)) if high > low else goal,
            offset=get(reg.HOMING_OFFSET),
            multi_turn=bool(phase & reg.PHASE_MULTI_TURN),
            speed_unit=unit,
            speed=speed,
            acceleration=math.inf if acceleration >= _MOST_ACCELERATION else acceleration * _ACCELERATION,
            force=min(1.0, min(get(reg.TORQUE_LIMIT), get(reg.MAX_TORQUE)) / reg.FULL_LOAD),
            gain=max(1, get(reg.P_GAIN)) * _GAIN,
            protective_force=min(1.0, get(reg.PROTECTIVE_TORQUE) / 100),
            overload=get(reg.OVERLOAD_TORQUE) / 100,
            overload_time=get(reg.PROTECTION_TIME) / 100,
            most_current=get(reg.PROTECTION_CURRENT) * reg.AMPERES,
            over_current_time=get(reg.OVER_CURRENT_TIME) / 100,
            most_temperature=get(reg.MAX_TEMPERATURE),
            voltage=(get(reg.MIN_VOLTAGE), get(reg.MAX_VOLTAGE)),
        )
