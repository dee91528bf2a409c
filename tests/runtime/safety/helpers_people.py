"""Faults of programs and people around the governor: promises 1, 2, 8 and 9 of docs/safety.md."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import Camera, CameraSpec, CapturedImage, JointReadings, SentAction, StopCategory
from smolpilot.runtime.control_loop import run_loop
from smolpilot.runtime.governor import Request
from smolpilot.runtime.limits import OperatingLimit
from smolpilot.runtime.moves import Move

from .helpers_case import away, case, stays, stopped
from .helpers_rig import HOME, LIFT, PAN, SPEEDS, TICK, Rig


class Asking:
    """A source that asks for 60 degrees, and does something in its 12th tick."""

    def __init__(self, then: Callable[[], Any] = lambda: None, *, ends: bool = False) -> None:
        self.then, self.ends, self.ticks = then, ends, 0

    def ask(self, now: float, reading: JointReadings) -> Request:
        self.ticks += 1
        if self.ticks == 12:
            self.then()
        return Request(away(60, 0, 0, 0, 0, 0), asked_at=now)

    def done(self, now: float, reading: JointReadings) -> bool:
        return self.ends and self.ticks >= 12


def slowed_down(rig: Rig) -> None:
    """The arm was moving, and came to rest within its limits."""
    steps = np.diff(rig.goals()[:, PAN])
    assert steps.max() > 1.5
    assert abs(steps[-1]) < 0.5
    assert rig.robot.governor.at_rest
    rig.check_bytes()


def fails() -> None:
    raise RuntimeError("out of memory")


@case(2, "joints that stand outside their limits")
def outside() -> int:
    """They stay while nobody asks for them, go inward when somebody does, and never out again."""
    for position, end in (((-50.0, 50.0), 49.0), ((-20.0, 20.0), 0.0)):
        limits = SPEEDS | {"shoulder_lift": OperatingLimit(position=position, velocity=60.0, acceleration=200.0)}
        with Rig(limits=limits, connect=False) as rig:
            rig.plant.place("shoulder_lift", rig.arm.scales[LIFT].steps(60.0))
            rig.now += TICK
            rig.robot.connect()
            for targets, where in (({"shoulder_pan": 10.0}, 60.0), ({"shoulder_lift": end}, end)):
                held = rig.robot.governor.last_command
                assert held is not None
                ended = rig.loop(Move(rig.robot.limits, held, targets, rig.robot.spec.rate, 0.5))
                assert ended.stop is None
                assert abs(rig.goals()[-1][LIFT] - where) < 0.2
            before = len(rig.bus.log)
            rig.run(away(10, 1.1 * position[1], 0, 0, 0, 0), 60)
            assert rig.goals(before)[:, LIFT].max() <= position[1] + 1e-6
    return 2


@case(2, "a stop that is lifted in the middle of a motion")
def lifted_too_early() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        rig.run(away(60, 0, 0, 0, 0, 0), 14)
        rig.robot.stop(StopCategory.HOLD)
        rig.tick(None)
        for again in (rig.robot.rearm, rig.robot.engage):
            with pytest.raises(DeviceError, match="still coming to rest"):
                again()
        rig.run(None, 12)
        rig.robot.rearm()
        rig.run(HOME, 5)
        rig.check_bytes()
    return 2


@case(8, "a loop that stood still (a halted process, a machine that slept)")
def stood_still() -> int:
    for seconds in (0.6, 5.0):
        with Rig() as rig:
            rig.reach(HOME)
            rig.run(away(60, 0, 0, 0, 0, 0), 12)
            before = len(rig.bus.log)
            rig.now += seconds
            stopped(rig.tick(away(60, 0, 0, 0, 0, 0)), "The control loop stood still for")
            assert not rig.goal_writes(before)
            stays(rig)
    return 2


@case(8, "a source, a display or a camera that fails in the middle of a motion; a source that ends there")
def failures() -> int:
    with Rig() as rig:
        rig.reach(HOME)
        with pytest.raises(RuntimeError, match="out of memory"):
            rig.loop(Asking(fails))
        assert rig.robot.governor.stop is not None
        assert "out of memory" in rig.robot.governor.stop.reason
        slowed_down(rig)
    with Rig() as rig:
        rig.reach(HOME)
        source = Asking()

        def show(sent: SentAction) -> None:
            if source.ticks == 12:
                raise BrokenPipeError("nobody reads")

        with pytest.raises(BrokenPipeError, match="nobody reads"):
            run_loop(rig.robot, source, on_tick=show, clock=rig.clock, sleep=rig.sleep)
        slowed_down(rig)
    with Rig() as rig:
        rig.reach(HOME)
        assert rig.loop(Asking(ends=True)).stop is None
        slowed_down(rig)
    camera = Camera64()
    with Rig(cameras={"front": camera}, connect=False) as rig:
        camera.clock = rig.clock
        rig.robot.connect()
        rig.reach(HOME)
        rig.run(away(60, 0, 0, 0, 0, 0), 12, sees=("front",))
        camera.broken = True
        stopped(rig.tick(away(60, 0, 0, 0, 0, 0), sees=("front",)), "Camera 'front' has failed: the USB bus is full")
        stays(rig)
        slowed_down(rig)
        rig.robot.disconnect()
        assert not rig.arm.bus.is_open, "a camera's trouble kept the arm open"
    return 4


class Camera64:
    """A camera that breaks when a test says so, as no camera should."""

    spec = CameraSpec("front", 48, 64, 30.0)
    broken = False
    clock: Callable[[], float]

    def connect(self) -> None:
        return

    def disconnect(self) -> None:
        if self.broken:
            raise OSError("the USB bus is full")

    def latest(self) -> CapturedImage:
        if self.broken:
            raise OSError("the USB bus is full")
        return CapturedImage(np.zeros((48, 64, 3), np.uint8), self.clock())


_: type[Camera] = Camera64


@case(8, "stops from another thread, in the middle of a tick and while a person lifts another one")
def other_threads() -> int:
    for category in StopCategory:
        with Rig() as rig:
            rig.reach(HOME)
            rig.run(away(60, 0, 0, 0, 0, 0), 8)
            other = threading.Thread(target=rig.robot.stop, args=(category,))
            look = rig.robot.governor._health.look

            def interrupted(*args: Any, other: threading.Thread = other, look: Any = look) -> Any:
                if not other.is_alive() and other.ident is None:
                    other.start()
                    other.join(0.05)
                return look(*args)

            rig.robot.governor._health.look = interrupted  # type: ignore[method-assign, assignment]
            rig.tick(away(60, 0, 0, 0, 0, 0))
            other.join()
            made = rig.run(away(60, 0, 0, 0, 0, 0), 20)
            assert made.stop is not None
            assert made.stop.category is category
            held = category is StopCategory.HOLD
            assert [servo.torque for servo in rig.bus.servos.values()] == [held] * 6
    with Rig() as rig:
        rig.reach(HOME)
        rig.robot.stop(StopCategory.HOLD)
        rig.run(None, 3)
        other = threading.Thread(target=rig.robot.stop, args=(StopCategory.HOLD,))
        engage = rig.arm.engage

        def engaging() -> Any:
            other.start()
            other.join(0.05)
            return engage()

        rig.arm.engage = engaging  # type: ignore[method-assign]
        rig.robot.rearm()
        other.join()
        stays(rig)
    return len(StopCategory) + 1


@case(9, "torque that is off stays off, though ticks go on")
def stays_off() -> int:
    for category in (StopCategory.POWER_OFF, StopCategory.THEN_POWER_OFF):
        with Rig() as rig:
            rig.reach(HOME)
            rig.robot.stop(category)
            rig.run(HOME, 3)
            before = len(rig.bus.log)
            assert rig.run(HOME, 10).stop is not None
            packets = list(rig.bus.log)[before:]
            assert len(packets) == 10, "only readings"
            assert not any(servo.torque for servo in rig.bus.servos.values())
    return 2
