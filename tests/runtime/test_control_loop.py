"""The control loop: steady ticks, the end of a source, signals, and code of others that fails while the arm moves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import Flag, JointReadings, StopCategory
from smolpilot.runtime.control_loop import run_loop
from smolpilot.runtime.governor import GovernorOptions, Request
from smolpilot.runtime.limits import OperatingLimit
from smolpilot.runtime.signals import StopSignals

from .safety.helpers_rig import HOME, PAN, SPEEDS, TICK, Rig


class Asking:
    """Asks by `what(tick)` and is done after so many ticks. `at`: when it was asked; `seen`: the readings it was told.

    Ticks count from 0; an exception as an answer is raised.
    """

    def __init__(self, what: Callable[[int], Any], ticks: int = 60) -> None:
        self.what, self.ticks = what, ticks
        self.at: list[float] = []
        self.seen: list[JointReadings] = []

    def ask(self, now: float, reading: JointReadings) -> Request | None:
        self.at.append(now)
        self.seen.append(reading)
        asked = self.what(len(self.at) - 1)
        if isinstance(asked, Exception):
            raise asked
        return None if asked is None else Request(asked, asked_at=now)

    def done(self, now: float, reading: JointReadings) -> bool:
        return len(self.at) >= self.ticks


def ramp(tick: int) -> Any:
    """On from home, at 15 degrees per second."""
    return HOME + np.array([0.5 * tick, 0, 0, 0, 0, 0])


def test_a_loop_ends_when_its_source_is_done_and_ticks_at_the_rate_of_the_profile() -> None:
    with Rig() as rig:
        source = Asking(ramp, 30)
        end = rig.loop(source)
        assert end.stop is None
        assert len(source.at) == 30
        assert end.ticks == len(rig.sent) == 33, "it brakes from 15 degrees per second before it ends"
        assert rig.robot.governor.at_rest
        np.testing.assert_allclose(np.diff(source.at), TICK, atol=1e-9)
        assert rig.goals()[29][PAN] == pytest.approx(14.0, abs=1.0)
        assert [reading.read_at for reading in source.seen] == source.at, "a new reading for each tick"
        rig.check_bytes()


def test_a_late_tick_delays_no_other_and_a_missed_one_is_never_made_up_for() -> None:
    with Rig() as rig:
        source = Asking(lambda tick: HOME, 20)
        naps: list[float] = []

        def sleep(seconds: float) -> None:
            naps.append(seconds)
            late = {4: 0.4 * TICK, 9: 5.3 * TICK}.get(len(naps), 0.0)  # something else had the processor
            rig.sleep(seconds + late)

        run_loop(rig.robot, source, clock=rig.clock, sleep=sleep)
        gaps = np.diff(source.at) / TICK
        assert gaps[3] == pytest.approx(1.4)
        assert gaps[4] == pytest.approx(0.6), "the next one is on time again"
        assert gaps[8] == pytest.approx(6.3)
        assert gaps[9] == pytest.approx(0.7), "no burst of the five that were missed"
        np.testing.assert_allclose(gaps[10:], 1.0)


def test_a_signal_stops_the_arm_and_the_loop_ends_when_it_stands() -> None:
    with Rig() as rig, StopSignals() as signals:
        source = Asking(lambda tick: os.kill(os.getpid(), signal.SIGTERM) if tick == 25 else ramp(tick), 500)
        end = rig.loop(source, signals=signals)
        assert end.stop is not None
        assert end.stop.category is StopCategory.HOLD
        assert end.stop.reason == "The process was asked to end (SIGTERM)."
        assert rig.robot.governor.at_rest
        assert 26 < end.ticks < 40
        rig.check_bytes()
        goals = rig.goals()[:, PAN]
        assert goals[-1] - goals[-2] < goals[24] - goals[23], "it slowed down"


def test_a_stop_that_is_in_force_already_keeps_its_reason() -> None:
    with Rig() as rig, StopSignals() as signals:
        rig.robot.halt(StopCategory.HOLD, "the door is open")
        os.kill(os.getpid(), signal.SIGINT)
        end = rig.loop(Asking(ramp), signals=signals)
        assert end.stop is not None
        assert (end.stop.reason, end.ticks) == ("the door is open", 1)


def test_a_source_that_has_nothing_to_say_is_a_dead_one() -> None:
    with Rig() as rig:
        end = rig.loop(Asking(lambda tick: ramp(tick) if tick < 20 else None, 500))
        assert end.stop is not None
        assert end.stop.reason.startswith("Nobody has asked for anything for")
        assert Flag.STARVED in rig.sent[21].flags
        rig.check_bytes()


def test_a_source_that_is_done_at_the_tick_of_a_stop_has_not_arrived() -> None:
    with Rig() as rig:
        end = rig.loop(Asking(lambda tick: np.full(6, 1e9), 1))
        assert end.stop is not None
        assert "is asked to go to 1e+09" in end.stop.reason


@pytest.mark.parametrize("error", [ValueError("shapes do not match"), DeviceError("The hand is not connected.")])
def test_a_source_that_fails_in_motion_is_told_when_the_arm_stands(error: Exception) -> None:
    with Rig() as rig:
        source = Asking(lambda tick: error if tick == 25 else ramp(tick), 500)
        with pytest.raises(type(error), match=str(error)):
            rig.loop(source)
        stop = rig.robot.governor.stop
        assert stop is not None
        assert stop.reason == f"What asks for commands failed: {error}"
        assert len(source.at) == 26, "it is not asked again"
        assert rig.robot.governor.at_rest
        assert 1 < len(rig.goals()) - 25 < 10
        rig.check_bytes()


def test_a_source_that_fails_to_say_whether_it_is_done_stops_the_arm_too() -> None:
    class Undecided(Asking):
        def done(self, now: float, reading: JointReadings) -> bool:
            raise ValueError("which one?")

    with Rig() as rig, pytest.raises(ValueError, match="which one"):
        rig.loop(Undecided(ramp))
    assert len(rig.sent) < 10


def test_a_listener_that_fails_in_motion_is_told_when_the_arm_stands() -> None:
    with Rig() as rig:
        told: list[Any] = []

        def write(sent: Any) -> None:
            told.append(sent)
            if len(told) == 25:
                raise OSError(28, "No space left on device")

        source = Asking(ramp, 500)
        with pytest.raises(OSError, match="No space left"):
            rig.loop(source, on_tick=write)
        stop = rig.robot.governor.stop
        assert stop is not None
        assert "What follows the ticks failed: [Errno 28] No space left on device" in stop.reason
        assert len(told) == 25
        assert rig.robot.governor.at_rest
        rig.check_bytes()


def test_an_arm_that_is_gone_is_not_waited_for() -> None:
    with Rig() as rig:
        source = Asking(lambda tick: rig.bus.unplug() if tick == 25 else ramp(tick), 500)
        end = rig.loop(source)
        assert end.stop is not None
        assert "is gone" in end.stop.reason
        assert end.ticks <= 28


def test_ticks_that_take_longer_than_their_time_follow_one_another_at_once() -> None:
    with Rig() as rig:
        source = Asking(lambda tick: HOME, 12)

        def work(sent: Any) -> None:
            rig.now += 1.2 * TICK

        run_loop(rig.robot, source, clock=rig.clock, sleep=rig.sleep, on_tick=work)
        np.testing.assert_allclose(np.diff(source.at), 1.2 * TICK)


def test_an_arm_that_takes_long_to_brake_is_waited_for() -> None:
    lazy = SPEEDS | {"shoulder_pan": OperatingLimit(velocity=60.0, acceleration=3.0)}
    with Rig(limits=lazy, options=GovernorOptions(ramp_share=1.0)) as rig:

        def what(tick: int) -> Any:
            if tick == 170:
                rig.robot.halt(StopCategory.HOLD, "enough")
            return HOME + np.array([105.0, 0, 0, 0, 0, 0])

        end = rig.loop(Asking(what, 1000))
        assert end.stop is not None
        assert end.ticks == pytest.approx(2 * 170, abs=3), "it brakes as long as it has accelerated"
        assert rig.robot.governor.at_rest
        rig.check_bytes()
