"""Switching torque on so that nothing moves, and off so that nothing is left on.

A servo drives to the goal in its register as soon as its torque is on, and switches it on by itself when a goal is
written. So the goal comes first, is where the joint stands, and is read back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from smolpilot.common.errors import DeviceError

from . import registers as r
from .bus import PATIENT, Bus
from .registers import Register
from .scale import LAST, JointScale
from .servos import Memory, Servos

TOLERANCE = 24
"""Steps (2.1 degrees) that a joint may stand beyond its range, pressed against its stop: its goal is the end then."""
STILL = 12
"""Steps (1 degree) that a joint may have moved while its goal was set: an arm without torque sinks."""
ROUNDS = 3

_HELD = Register(r.TORQUE_ENABLE.address, 10)  # torque, acceleration, goal, time, speed, torque limit
_ACCELERATION = 254
_FASTEST = 3400  # steps per second, for servos whose goal speed 0 does not mean that
_TRIES = 3


def engage(bus: Bus, servos: Servos, scales: Sequence[JointScale], torque: Mapping[str, float]) -> dict[str, int]:
    """Set each goal to where the joint is, read it back, see that the joint is still there, and switch torque on.

    torque: joint -> share of the motor's torque that was asked for. Joint -> goal in steps. DeviceError, and torque off
    where it was off before, when one of them fails.
    """
    ids = {scale.joint: scale.calibration.id for scale in scales}
    off = [joint for joint, held in _read(bus, ids, _HELD).items() if not held[r.TORQUE_ENABLE]]
    at = _positions(bus, ids)
    goals = _goals(scales, at)
    try:
        for _ in range(ROUNDS):
            bus.sync_write(r.GOAL_POSITION, {ids[joint]: goal for joint, goal in goals.items()})
            _refuse_other_goals(_read(bus, ids, _HELD), goals)
            before, at = at, _positions(bus, ids)
            moved = [scale.joint for scale in scales if _way(scale, before, at) > STILL]
            if not moved:
                break
            goals = _goals(scales, at)
        else:
            raise DeviceError(
                f"Joint '{moved[0]}' does not keep still, so torque was not switched on.",
                expected=f"an arm that moves less than {STILL} steps while its goals are set",
                fix="Let the arm come to rest, or hold it, and try again.",
            )
        _set_pace(bus, servos, ids, torque)
        bus.sync_write(r.TORQUE_ENABLE, dict.fromkeys(ids.values(), 1))
        limp = [joint for joint, held in _read(bus, ids, _HELD).items() if not held[r.TORQUE_ENABLE]]
        if limp:
            raise DeviceError(
                f"Joint '{limp[0]}' (servo {ids[limp[0]]}) does not switch its torque on.",
                fix="`smolpilot robot check SETUP` shows what the servo reports against itself.",
            )
    except DeviceError as error:
        _undo(bus, ids, off, error)
        raise
    except BaseException:
        with contextlib.suppress(DeviceError):
            switch_off(bus, ids, off)
        raise
    return goals


def _undo(bus: Bus, ids: Mapping[str, int], off: Sequence[str], error: DeviceError) -> None:
    """Switch torque off again where it was off; an error that says so where that cannot be seen."""
    try:
        switch_off(bus, ids, off)
    except DeviceError as left:
        raise type(error)(f"{error.found} {left.found}", expected=error.expected, fix=left.fix) from error


def switch_off(bus: Bus, ids: Mapping[str, int], joints: Iterable[str]) -> None:
    """Switch the torque of these joints off; DeviceError that names those that may still hold.

    ids: joint -> servo.
    """
    holding = list(joints)
    for _ in range(_TRIES):
        if not holding:
            return
        bus.sync_write(r.TORQUE_ENABLE, {ids[joint]: 0 for joint in holding})
        replies, _ = bus.sync_read([ids[joint] for joint in holding], r.TORQUE_ENABLE, timeout=PATIENT)
        holding = [j for j in holding if ids[j] not in replies or any(replies[ids[j]].data)]
    if holding:
        raise DeviceError(
            f"The torque of {', '.join(holding)} may still be on: it could not be read to be off.",
            fix="Hold the arm and switch its power off.",
        )


def torque_limit(memory: Memory, share: float | None) -> int:
    """TORQUE_LIMIT for a share of what the motor can give; never more than the servo's own limit."""
    most = memory[r.MAX_TORQUE]
    return most if share is None else min(most, round(share * r.FULL_LOAD))


def _goals(scales: Sequence[JointScale], at: Mapping[str, int]) -> dict[str, int]:
    """Where each joint stands, as a goal; DeviceError for one that its servo would drive away from there.

    In the servo's own count: it does not know that 4095 and 0 are neighbors, and would go the long way.
    """
    goals = {}
    for scale in scales:
        steps, low, high = at[scale.joint], scale.calibration.range_min, scale.calibration.range_max
        if not low - TOLERANCE <= steps <= high + TOLERANCE:
            ends = sorted((_plain_value(scale, low), _plain_value(scale, high)))
            counted = scale.unwrapped(steps, None)
            raise DeviceError(
                f"Joint '{scale.joint}' stands at {_plain_value(scale, counted):.1f} {scale.unit}, beyond its "
                f"calibrated range of {ends[0]:.1f} to {ends[1]:.1f}: with torque on it would move there at once.",
                expected="every joint within its range before torque is switched on",
                fix="Move the joint by hand into its range. If it is there, calibrate the arm anew.",
            )
        goals[scale.joint] = min(high, max(low, steps))
    return goals


def _plain_value(scale: JointScale, steps: int) -> float:
    """The value of a position, not held within the scale's ends."""
    return (scale.high + scale.low) / 2 + (steps - scale.middle) * scale.per_step


def _way(scale: JointScale, before: Mapping[str, int], at: Mapping[str, int]) -> int:
    """Steps between two positions, the short way."""
    return abs(scale.unwrapped(at[scale.joint], before[scale.joint]) - before[scale.joint])


def _set_pace(bus: Bus, servos: Servos, ids: Mapping[str, int], torque: Mapping[str, float]) -> None:
    """Let goals be followed as fast as the servo can, whatever another program has left: the governor sets the pace.

    After the goals are where the joints stand, so that nothing speeds up.
    """
    for joint, held in _read(bus, ids, _HELD).items():
        memory = servos.memory[joint]
        fine = bool(memory[r.PHASE] & r.PHASE_FINE_SPEED)
        fastest = 0 if memory[r.PHASE] & r.PHASE_ZERO_IS_FASTEST else _FASTEST // r.SPEED_STEPS[fine]
        wanted = {
            r.ACCELERATION: _ACCELERATION,
            r.GOAL_TIME: 0,
            r.GOAL_SPEED: fastest,
            r.TORQUE_LIMIT: torque_limit(memory, torque.get(joint)),
        }
        for register, value in wanted.items():
            if held[register] != value:
                bus.write(ids[joint], register, value, timeout=PATIENT)


def _refuse_other_goals(held: Mapping[str, Memory], goals: Mapping[str, int]) -> None:
    for joint, goal in goals.items():
        if (found := held[joint][r.GOAL_POSITION]) != goal:
            raise DeviceError(
                f"Joint '{joint}' does not take its goal: {goal} was written, {found} is read.",
                expected=f"0 to {LAST}, as it was written",
                fix="Is another program on this bus? Switch the arm's power off and on, and start anew.",
            )


def _positions(bus: Bus, ids: Mapping[str, int]) -> dict[str, int]:
    found = _read(bus, ids, r.PRESENT_POSITION)
    return {joint: memory[r.PRESENT_POSITION] for joint, memory in found.items()}


def _read(bus: Bus, ids: Mapping[str, int], block: Register) -> dict[str, Memory]:
    """Registers of all servos; DeviceError when one is silent."""
    replies, _ = bus.sync_read(list(ids.values()), block, timeout=PATIENT)
    if silent := [servo for servo in ids.values() if servo not in replies]:
        raise bus.silent(silent)
    found = {}
    for joint, servo in ids.items():
        found[joint] = Memory()
        found[joint].put(block, replies[servo].data)
    return found
