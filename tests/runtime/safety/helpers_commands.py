"""Faults of what is asked for: promises 1 to 4 and 6 of docs/safety.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.contracts import Flag, StopCategory
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.options import ServoOptions
from smolpilot.runtime.governor import GovernorOptions, Phase
from smolpilot.runtime.joint_order import JointOrder
from smolpilot.runtime.moves import Move

from .helpers_case import away, case, stays, stopped
from .helpers_rig import HOME, JOINTS, LIFT, PAN, PROFILE, TICK, Rig

# 1. Nothing that is no action reaches the bus


class _NoArray:
    """As a tensor with a gradient."""

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


_NO_ACTIONS: tuple[Any, ...] = (
    np.full(6, np.nan), np.full(6, np.inf), [np.nan, 0, 0, 0, 0, 50], [0, 0, 0, 0, 0, -np.inf], [], [1.0],
    np.zeros(5), np.zeros(7), np.zeros((1, 6)), np.zeros((6, 1)), "stop", [None] * 6, [1e39] * 6, [10**400] * 6,
    np.zeros(6, dtype="datetime64[s]"), ["1"] * 6, [True] * 6, {"shoulder_pan": 1.0}, object(), [[0] * 6, [0] * 5],
    _NoArray(),
)  # fmt: skip


@case(1, "NaN, infinity, wrong length, wrong type")
def no_actions() -> int:
    with Rig() as rig:
        rig.reach(HOME + 10)
        before = len(rig.bus.log)
        for bad in _NO_ACTIONS:
            made = rig.tick(bad)
            assert {Flag.NOT_FINITE, Flag.WRONG_LENGTH} & set(made.flags), bad
            rig.tick(HOME + 10)
        goals = rig.goals(before)
        assert np.abs(goals - (HOME + 10)).max() <= rig.steps.max(), "it held, and never went to zero"
    return len(_NO_ACTIONS)


@case(1, "three in a row")
def no_actions_in_a_row() -> int:
    with Rig() as rig:
        rig.reach(HOME + 10)
        made = rig.run(np.full(6, np.nan), 3)
        stopped(made, "3 requests in a row were not finite")
        stays(rig)
    return 1


@case(1, "1e9 and other positions far outside")
def far_outside() -> int:
    tries = 0
    for joint in range(6):
        for value in (1e9, -1e9, 3e38):
            with Rig() as rig:
                rig.reach(HOME)
                action = HOME.copy()
                action[joint] = value
                stopped(rig.tick(action), f"'{JOINTS[joint]}' is asked to go to")
                rig.run(HOME, 5)
                assert np.abs(rig.goals() - HOME).max() <= 2 * rig.steps.max()
            tries += 1
    return tries


@case(1, "unknown units, joints in another order")
def units() -> int:
    names, own = list(JOINTS), [joint.unit for joint in PROFILE.action_joints]
    for bad in (["unknown"] * 6, ["furlong", *own[1:]], ["m", *own[1:]]):
        with pytest.raises(UsageError, match="is commanded in the unit"):
            JointOrder(PROFILE, names, bad)
    order = JointOrder(PROFILE, names[::-1], ["rad" if unit == "deg" else unit for unit in own[::-1]])
    action = order(np.array([50.0, *np.radians([5.0, 4.0, 3.0, 2.0, 1.0])]))
    np.testing.assert_allclose(action, [1.0, 2.0, 3.0, 4.0, 5.0, 50.0])
    return 4


# 2. Within position, velocity and acceleration of the last command


def chunks(seed: int) -> Iterator[Any]:
    """Chunks as a bad policy gives them: jumps at seams, noise, extremes by turns, holes, a runaway."""
    draw = np.random.default_rng(seed)
    here = HOME.copy()
    for _ in range(6):
        kind = draw.integers(5)
        if kind == 0:  # a smooth chunk from somewhere else
            here = draw.uniform(-90, 90, 6) * [1, 1, 1, 1, 1, 0.5] + [0, 0, 0, 0, 0, 50]
            yield from here + np.cumsum(draw.normal(0, 0.7, (20, 6)), axis=0)
        elif kind == 1:
            yield from here + draw.normal(0, 20, (12, 6))
        elif kind == 2:
            yield from (np.where(i % 2, 110.0, -110.0) * np.ones(6) for i in range(12))
        elif kind == 3:
            yield from (None if draw.random() < 0.3 else np.full(6, np.nan) if draw.random() < 0.2 else here
                        for _ in range(12))  # fmt: skip
        else:
            yield from here + np.linspace(0, 160, 15)[:, None] * draw.choice([-1, 1], 6)


@case(2, "random and hostile chunks, seams, handovers")
def hostile_chunks() -> int:
    tries = 0
    for seed in range(6):
        with Rig() as rig:
            before = len(rig.bus.log)
            for action in chunks(seed):
                made = rig.tick(action)
                tries += 1
                if made.stop is not None:  # a person lifts the stop: a handover
                    rig.run(None, 15)
                    rig.robot.rearm()
            rig.check_bytes(before)
    return tries


@case(2, "ticks that come late, early or at once")
def late_ticks() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        draw = np.random.default_rng(1)
        for i in range(60):
            extra = draw.choice([-0.9, -0.5, 0.0, 0.5, 1.5]) * TICK
            rig.now += extra
            rig.tick(away(60, 0, 0, 0, 0, 0) if i % 20 < 10 else HOME)
        goals = rig.goals()
        moved = np.abs(np.diff(goals, axis=0))
        assert (moved <= rig.robot.limits.velocity * TICK + rig.steps + 1e-6).all()
    return 60


@case(2, "parking in the middle of a motion")
def parking() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.run(away(60, -40, 30, 0, 0, 0), 15)
        held = rig.robot.governor.last_command
        assert held is not None
        before = len(rig.bus.log)
        pose = {"shoulder_pan": -20.0, "shoulder_lift": -50.0}
        end = rig.loop(Move(rig.robot.limits, held, pose, rig.robot.spec.rate, 0.5))
        assert end.stop is None
        rig.check_bytes(0)
        assert len(rig.goals(before)) > 30
        np.testing.assert_allclose(rig.positions()[[PAN, LIFT]], [-20, -50], atol=1.0)
    return 1


@case(2, "something in the way (tracking error)")
def in_the_way() -> int:
    options = GovernorOptions(stall_time=30.0)  # so that it is the distance that stops
    with Rig(options=options) as rig:
        rig.reach(HOME)
        scale = rig.arm.scales[PAN]
        rig.plant.block("shoulder_pan", scale.steps(20.0))
        made = rig.tick(HOME)
        for i in range(120):
            made = rig.tick(away(min(70.0, i), 0, 0, 0, 0, 0))
            if made.stop is not None:
                break
        stopped(made, "'shoulder_pan' is at", "something in the way")
        rig.run(None, 60)
        assert abs(rig.goals()[-1][PAN] - rig.positions()[PAN]) < 1.0, "it still pushes"
        rig.check_bytes()
    return 1


# 3. Torque only after the goal is where the joint stands


@case(3, "an old goal in the register, torque on or off, joints moved by hand")
def old_goals() -> int:
    tries = 0
    for enables in (True, False):
        for old in (0, 1000, 4095):
            with Rig(servos=ServoOptions(goal_enables_torque=enables), connect=False) as rig:
                for name in JOINTS:
                    rig.bus.servos[name].write(reg.GOAL_POSITION.address, reg.GOAL_POSITION.encode(old))
                    rig.bus.servos[name].set(reg.TORQUE_ENABLE, 0)
                    rig.plant.place(name, 2048 + 20 * tries)
                rig.now += TICK
                before = rig.positions()
                rig.robot.connect()
                rig.now += 1.0
                assert np.abs(rig.positions() - before).max() < 0.2, "it jumped"
                first = rig.writes_of(reg.GOAL_POSITION)[0][0]
                for index, values in rig.writes_of(reg.TORQUE_ENABLE):
                    if any(values.values()):
                        between = list(rig.bus.log)[first + 1 : index]
                        assert any(_reads(one.request, reg.GOAL_POSITION) for one in between), "was not read back"
                assert rig.writes_of(reg.TORQUE_ENABLE)[-1][1] == dict.fromkeys(range(1, 7), 1)
            tries += 1
    return tries


@case(3, "a goal that does not read back, a servo that is silent")
def refused_goals() -> int:
    def silent(rig: Rig) -> None:
        rig.bus.faults.silent.add("elbow_flex")

    def lost(rig: Rig) -> None:
        rig.bus.faults.drop = 1.0

    tries = 0
    for make in (silent, lost):
        with Rig(connect=False) as rig:
            rig.robot.open()
            rig.robot.read()
            rig.now += TICK
            make(rig)
            with pytest.raises(DeviceError, match="No reply"):
                rig.robot.engage()
            tries += 1
            assert rig.robot.governor.phase is Phase.DISENGAGED
            before = len(rig.bus.log)
            assert rig.tick(HOME).stop is not None
            assert not rig.goal_writes(before)
    return tries


def _reads(request: bytes, register: reg.Register) -> bool:
    packet, _ = packets.first_packet(request)
    assert packet is not None
    if packet.code not in (packets.READ, packets.SYNC_READ):
        return False
    address, size = packet.data[:2]
    return address <= register.address and register.address + register.size <= address + size


# 4. The first motion is slow


@case(4, "a first action far away, after connecting and after each stop")
def slow_first_motion() -> int:
    with Rig() as rig:
        limits = rig.robot.limits
        for _ in range(2):
            before = len(rig.bus.log)
            made = rig.run(away(70, 0, 0, 0, 0, 0), 20)
            assert Flag.RAMP in made.flags
            moved = np.abs(np.diff(rig.goals(before), axis=0))
            assert moved.max() <= 0.25 * limits.velocity[PAN] * TICK + rig.steps[PAN]
            rig.robot.stop(StopCategory.HOLD)
            rig.run(None, 20)
            rig.robot.rearm()
    return 2


# 6. Pass, clamp, stop


@case(6, "requests that pass, that are clamped, that stop; alternating extremes")
def three_bands() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        assert rig.tick(HOME + 0.1).flags == {}
        made = rig.tick(away(30, 0, 0, 0, 0, 0))
        assert made.flags == {Flag.VELOCITY: ("shoulder_pan",)}
        assert rig.robot.governor.counts[(Flag.VELOCITY, "shoulder_pan")] == 1
        stops = 0
        for i in range(400):
            made = rig.tick(away(50 if i % 2 else -50, 0, 0, 0, 0, 0))
            if made.stop is not None:
                stops = i
                break
        assert stops > 100
        stopped(made, "'shoulder_pan' was clamped in", "what this arm may do")
        rig.check_bytes()
    return 3
