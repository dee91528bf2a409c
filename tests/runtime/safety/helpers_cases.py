"""The faults that each promise of docs/safety.md is tried with. scripts/safety_table.py writes its table from these.

Each case says how many faults it tried; one that is not survived is an AssertionError.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.contracts import Flag, SentAction, StopCategory
from smolpilot.runtime.cameras.file import FileCamera, FileCameraOptions
from smolpilot.runtime.control_loop import run_loop
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.options import FaultOptions, ServoOptions
from smolpilot.runtime.emulator.servo import Servo
from smolpilot.runtime.governor import GovernorOptions, Phase
from smolpilot.runtime.joint_order import JointOrder
from smolpilot.runtime.limits import OperatingLimit
from smolpilot.runtime.moves import Move
from smolpilot.runtime.signals import StopSignals

from ..cameras.helpers_video import write_video
from .helpers_rig import ELBOW, GRIPPER, HOME, JOINTS, LIFT, PAN, PROFILE, TICK, Rig


@dataclass(frozen=True)
class Case:
    """`promise`: its number in docs/safety.md; `fault`: a few words for the table; `check`: how many were survived."""

    promise: int
    fault: str
    check: Callable[[], int]


CASES: list[Case] = []


def case(promise: int, fault: str) -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Put a check into the table."""

    def put(check: Callable[[], int]) -> Callable[[], int]:
        CASES.append(Case(promise, fault, check))
        return check

    return put


def stopped(made: SentAction, *words: str) -> None:
    """A stop is in force, and its reason holds these words."""
    assert made.stop is not None, "no stop"
    assert all(word in made.stop.reason for word in words), made.stop.reason


def stays(rig: Rig, ticks: int = 30) -> None:
    """Whatever is asked, nothing is written and nothing moves any more."""
    rig.run(HOME, 15)  # to rest
    before, packets_before = rig.positions(), len(rig.bus.log)
    made = rig.run(HOME + 5, ticks)
    assert made.stop is not None
    assert not rig.goal_writes(packets_before), "a goal was written under a stop"
    assert np.abs(rig.positions() - before).max() < 1.0


def away(*degrees: float) -> npt.NDArray[np.float64]:
    """The home pose, each joint so far away."""
    return HOME + np.array(degrees)


# 1. Nothing that is no action reaches the bus

_NO_ACTIONS: tuple[Any, ...] = (
    np.full(6, np.nan), np.full(6, np.inf), [np.nan, 0, 0, 0, 0, 50], [0, 0, 0, 0, 0, -np.inf], [], [1.0],
    np.zeros(5), np.zeros(7), np.zeros((1, 6)), np.zeros((6, 1)), "stop", [None] * 6, [1e39] * 6, [10**400] * 6,
    np.zeros(6, dtype="datetime64[s]"), ["1"] * 6, [True] * 6, {"shoulder_pan": 1.0}, object(), [[0] * 6, [0] * 5],
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


# 5. Everything has a greatest age


@case(5, "old state: no reply any more")
def old_state() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.run(away(60, 0, 0, 0, 0, 0), 12)
        rig.bus.faults.drop = 1.0
        made = rig.run(away(60, 0, 0, 0, 0, 0), 8)
        stopped(made, "The joints were read")
        rig.bus.faults.drop = 0.0
        stays(rig)
        rig.check_bytes()
    return 1


@case(5, "old chunk, old action, times to come, times that are no number")
def old_requests() -> int:
    tries = 0
    for request in ({"asked_at": 0.0}, {"asked_at": 1e9}, {"asked_at": np.nan}, {"observed_at": 0.0},
                    {"observed_at": np.nan}, {"observed_at": 1e9}):  # fmt: skip
        with Rig() as rig:
            rig.reach(HOME)
            made = rig.tick(HOME + 1, **request)
            assert {Flag.STALE_ACTION, Flag.STALE_CHUNK} & set(made.flags)
            stopped(made, "allowed" if request in ({"asked_at": 0.0}, {"observed_at": 0.0}) else "")
            stays(rig)
        tries += 1
    return tries


@case(5, "an image too old, a camera that freezes in the middle of a motion, one that is not there")
def old_images() -> int:
    with tempfile.TemporaryDirectory() as folder:
        video = write_video(Path(folder, "front.mp4"))
        options = FileCameraOptions(device=str(video), width=64, height=48, fps=10.0, freeze_after=1.5)
        rigs: list[Rig] = []
        camera = FileCamera.from_options("front", options, clock=lambda: rigs[0].now if rigs else 1000.0)
        with Rig(cameras={"front": camera}, connect=False) as rig:
            rigs.append(rig)
            rig.robot.connect()
            begin = rig.now
            made = rig.tick(HOME, sees=("front",))
            for i in range(90):
                while rig.now - begin < 1.4 and camera.latest().age(rig.now) > 0.15:
                    time.sleep(0.001)  # its thread decodes in real time
                made = rig.tick(away(min(60.0, i), 0, 0, 0, 0, 0), sees=("front",))
                if made.stop is not None:
                    break
            assert made.flags.get(Flag.STALE_IMAGE) == ("front",)
            stopped(made, "The newest image of camera 'front' is", "0.5 s are allowed")
            assert 1.7 < rig.now - begin < 2.4, "not before the last image was too old"
            stays(rig)
            rig.check_bytes()
    with Rig() as rig:
        rig.reach(HOME)
        stopped(rig.tick(HOME, sees=("wrist",)), "The newest image of camera 'wrist' was never there")
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


# 7. Stall, force, heat, voltage, status


@case(7, "a joint that is blocked while it pushes")
def stalled() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.plant.block("elbow_flex", rig.arm.scales[ELBOW].steps(0.5))
        made = rig.tick(HOME)
        for i in range(200):
            made = rig.tick(away(0, 0, min(20.0, i), 0, 0, 0))
            if made.stop is not None:
                break
        assert made.flags.get(Flag.STALL) == ("elbow_flex",)
        stopped(made, "'elbow_flex' pushes", "does not move")
        rig.run(None, 60)
        assert abs(rig.goals()[-1][ELBOW] - rig.positions()[ELBOW]) < 1.0, "it still pushes"
        rig.check_bytes()
    return 1


@case(7, "a gripper that has closed on something")
def gripping() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        limit = reg.TORQUE_LIMIT
        assert rig.bus.servos["gripper"].get(limit) == 500
        rig.plant.block("gripper", rig.arm.scales[GRIPPER].steps(30.0))
        made = rig.tick(HOME)
        for i in range(120):
            made = rig.tick(away(0, 0, 0, 0, 0, -min(45.0, 1.5 * i)))
        assert made.stop is None, "a gripper that holds something is no fault"
        assert rig.bus.servos["gripper"].get(limit) == 250
        rig.plant.unblock("gripper")
        rig.run(HOME, 60)
        assert rig.bus.servos["gripper"].get(limit) == 500
    return 1


@case(7, "an overload that the servo has found itself")
def overloaded() -> int:
    limits = {name: OperatingLimit(velocity=60.0, acceleration=200.0, tracking_error=90.0) for name in JOINTS}
    with Rig(limits=limits, options=GovernorOptions(stall_time=30.0)) as rig:
        rig.reach(HOME)
        rig.plant.block("elbow_flex", rig.arm.scales[ELBOW].steps(0.5))
        made = rig.tick(HOME)
        for i in range(300):
            made = rig.tick(away(0, 0, min(40.0, i), 0, 0, 0))
            if made.stop is not None:
                break
        assert made.flags.get(Flag.STATUS) == ("elbow_flex",)
        stopped(made, "The servo of 'elbow_flex' reports a fault of its own: overload")
        rig.run(None, 60)
        assert abs(rig.goals()[-1][ELBOW] - rig.positions()[ELBOW]) < 1.0, "it still pushes"
        rig.check_bytes()
    return 1


@case(7, "heat, low voltage, a broken encoder")
def unwell() -> int:
    def too_hot(servo: Servo) -> None:
        servo.temperature = 67.0

    def too_low(servo: Servo) -> None:
        servo.voltage = 3.9

    def broken(servo: Servo) -> None:
        servo.encoder_fault = True

    tries = 0
    for joint in ("shoulder_lift", "gripper"):
        for make, flag in ((too_hot, Flag.TEMPERATURE), (too_low, Flag.VOLTAGE), (broken, Flag.STATUS)):
            with Rig() as rig:
                rig.reach(HOME)
                make(rig.bus.servos[joint])
                assert rig.run(HOME, 2).stop is None, "one disturbed reading stops nothing"
                made = rig.tick(HOME)
                assert made.flags.get(flag) == (joint,)
                stopped(made, f"'{joint}'")
                stays(rig)
            tries += 1
    return tries


# 8. Sources, processes, cables


@case(8, "a source of commands that falls silent")
def dead_source() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.run(away(60, 0, 0, 0, 0, 0), 12)
        made = rig.run(None, 20)
        stopped(made, "Nobody has asked for anything")
        stays(rig)
        rig.check_bytes()
    return 1


@case(8, "noise, corrupted and lost replies")
def noisy_bus() -> int:
    tries = 0
    for faults in (FaultOptions(corrupt=0.1, seed=1), FaultOptions(drop=0.1, seed=2), FaultOptions(noise=9, seed=3)):
        with Rig(connect=False) as rig:
            rig.robot.connect()
            rig.bus.faults.corrupt, rig.bus.faults.drop = faults.corrupt, faults.drop
            rig.bus.faults.noise = faults.noise
            made = rig.tick(HOME)
            for i in range(60):
                made = rig.tick(away(i * 0.4, 0, 0, 0, 0, 0))
            assert made.stop is None, made.stop
            rig.check_bytes()
            tries += 60
    return tries


@case(8, "the cable pulled out in the middle of a motion")
def unplugged() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.run(away(60, 0, 0, 0, 0, 0), 12)
        rig.bus.unplug()
        made = rig.tick(away(60, 0, 0, 0, 0, 0))
        stopped(made, "is gone")
        assert rig.robot.gone
        rig.run(HOME, 5)
        rig.now += 1.0
        last = rig.goals()[-1]
        assert np.abs(rig.positions() - last).max() < 1.0, "the servos hold the last goal"
        rig.check_bytes()
    return 1


@case(8, "Ctrl-C, SIGTERM and a closed terminal in the middle of a motion")
def signals() -> int:
    tries = 0
    for number, words in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "terminal")):
        with Rig() as rig, StopSignals() as noted:
            held = rig.robot.governor.last_command
            assert held is not None
            move = Move(rig.robot.limits, held, {"shoulder_pan": 70.0}, rig.robot.spec.rate, 1.0)
            ticks = 0

            def sleep(seconds: float, rig: Rig = rig, number: int = number) -> None:
                nonlocal ticks
                ticks += 1
                rig.sleep(seconds)
                if ticks == 30:
                    os.kill(os.getpid(), number)

            end = run_loop(rig.robot, move, signals=noted, clock=rig.clock, sleep=sleep)
            assert end.stop is not None
            assert words in end.stop.reason
            assert rig.robot.governor.at_rest
            assert 5 < rig.goals()[-1][PAN] < 69
            rig.check_bytes()
        tries += 1
    return tries


# 9. Nothing moves again by itself


@case(9, "every stop, the cable plugged in again, power back after a loss")
def nothing_by_itself() -> int:
    tries = 0
    with Rig() as rig:  # a stop stays, whatever is asked
        rig.reach(HOME)
        rig.robot.stop(StopCategory.HOLD)
        stays(rig, 60)
        rig.robot.rearm()
        assert Flag.RAMP in rig.run(away(30, 0, 0, 0, 0, 0), 3).flags
        tries += 1
    with Rig() as rig:  # the same port comes back
        rig.reach(HOME)
        rig.bus.unplug()
        rig.run(HOME, 3)
        rig.bus.plug()
        before = len(rig.bus.log)
        rig.run(HOME + 5, 30)
        assert not rig.goal_writes(before)
        with pytest.raises(DeviceError, match=r"connect\(\) again"):
            rig.robot.rearm()
        tries += 1
    with Rig(gravity={"shoulder_lift": 0.2}) as rig:  # a servo loses its power for a moment: it sinks
        rig.reach(HOME)
        rig.bus.faults.silent.add("shoulder_lift")
        rig.bus.power_cycle("shoulder_lift")
        rig.run(HOME, 2)
        rig.bus.faults.silent.clear()
        sunk = rig.positions()[LIFT]
        before = len(rig.bus.log)
        made = rig.run(HOME, 15)
        assert made.stop is not None
        assert not rig.bus.servos["shoulder_lift"].torque, "it was switched on again"
        ids = {servo for _, values in rig.writes_of(reg.GOAL_POSITION, before) for servo in values}
        assert rig.bus.servos["shoulder_lift"].id not in ids
        assert rig.positions()[LIFT] >= sunk - 1
        tries += 1
    return tries
