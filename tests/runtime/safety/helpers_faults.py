"""Faults of devices, sources and processes: promises 5 and 7 to 9 of docs/safety.md."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import Flag, StopCategory
from smolpilot.runtime.cameras.file import FileCamera, FileCameraOptions
from smolpilot.runtime.control_loop import run_loop
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.options import FaultOptions
from smolpilot.runtime.emulator.servo import Servo
from smolpilot.runtime.governor import GovernorOptions
from smolpilot.runtime.limits import OperatingLimit
from smolpilot.runtime.moves import Move
from smolpilot.runtime.signals import StopSignals

from ..cameras.helpers_video import write_video
from .helpers_case import away, case, stays, stopped
from .helpers_rig import ELBOW, GRIPPER, HOME, JOINTS, LIFT, PAN, Rig

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
