"""The period of the loop, in a time that the test lets pass."""

from __future__ import annotations

import gc

import pytest

from smolpilot.runtime.robot_run.pace import Pace, ask_for_realtime, no_collection


class Time:
    def __init__(self) -> None:
        self.now, self.slept = 50.0, 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def test_ticks_are_due_at_fixed_times() -> None:
    """A tick that takes long does not push back those after it."""
    time = Time()
    pace = Pace(10.0, clock=time.clock, sleep=time.sleep)
    begun = []
    for work in (0.02, 0.09, 0.0, 0.05):
        assert pace.wait() == 1
        begun.append(time.now)
        time.now += work
    assert begun == pytest.approx([50.0, 50.1, 50.2, 50.3])
    assert pace.achieved == pytest.approx(10.0)
    assert pace.late_ms == pytest.approx(0.0, abs=1e-6)


def test_a_tick_that_is_late_is_late_and_one_that_is_missed_is_left_out() -> None:
    time = Time()
    pace = Pace(10.0, clock=time.clock, sleep=time.sleep)
    pace.wait()
    time.now += 0.13
    assert pace.wait() == 1
    assert time.now == pytest.approx(50.13), "at once"
    assert pace.late_ms == pytest.approx(30.0, rel=0.05)
    time.now += 0.32
    assert pace.wait() == 3
    assert pace.missed == 2
    assert time.now == pytest.approx(50.45)
    assert pace.wait() == 1
    assert time.now == pytest.approx(50.5), "on the beat again"


def test_what_became_of_realtime_is_said() -> None:
    """Here it may be permitted or not; in another process, for this one goes on."""
    import subprocess
    import sys

    code = "from smolpilot.runtime.robot_run.pace import ask_for_realtime; print(ask_for_realtime())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("--realtime: SCHED_FIFO")
    assert "priority 20" in said or "is not permitted" in said
    assert ask_for_realtime.__doc__


def test_garbage_is_collected_afterwards() -> None:
    with no_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
