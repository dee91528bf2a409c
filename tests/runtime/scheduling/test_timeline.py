"""The curve between the actions of a policy, when the control loop is faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.runtime.scheduling import Knot, Merge, Mode, Timeline

from .helpers_playback import along, play, schedule

type Floats = npt.NDArray[np.float64]


def sine(steps: npt.ArrayLike) -> Floats:
    found: Floats = 15.0 * np.sin(2 * np.pi * 0.01 * np.asarray(steps, dtype=np.float64))
    return found


def jerk(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.diff(values, 3) ** 2)))


def knots(values: Any, begin: float = 0.0, chunk: int = 1) -> list[Knot]:
    return [Knot(begin + i, np.array([value]), chunk, i, 0.0) for i, value in enumerate(values)]


def played(made: Timeline, begin: float, end: float, stride: float = 0.1) -> Floats:
    """What is given out from `begin` on, tick by tick."""
    found = [made.issue(begin + i * stride) for i in range(round((end - begin) / stride))]
    return np.array([knot.action[0] for knot in found if knot is not None])


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": Mode.RTC}, {"merge": Merge.BLENDED}, {"merge": Merge.APPEND, "refill": 0.5}],
    ids=["aligned", "rtc", "blended", "append"],
)
def test_a_sine_has_the_jerk_of_a_sine_also_where_chunks_follow_each_other(options: dict[str, Any]) -> None:
    """100 ticks for 30 actions: chunks begin between the actions of the last one."""
    made = schedule(chunk=50, horizon=25, rate=30.0, control=100.0, **options)
    policy = along(sine, size=50)
    if made.options.merge is Merge.APPEND:
        told = iter(range(0, 10_000, 25))
        policy = along(lambda steps: sine(steps - steps[0] + next(told)), size=50)
    run = play(made, policy, ticks=1_000, turnaround=0.123, control=100.0)
    assert len(run.used) > 8
    clean = sine(0.3 * np.arange(len(run.played)))
    # The first chunk has nothing before it, and what is behind the last action of one that is appended comes later.
    assert jerk(run.played[10:-100]) == pytest.approx(jerk(clean[10:-100]), rel=0.02)
    assert run.played == pytest.approx(clean, abs=0.01)


def test_a_chunk_that_differs_begins_where_the_last_one_was_left_and_as_fast() -> None:
    made = Timeline()
    made.replace(knots(np.arange(10.0)), 0.0)
    before = played(made, 0.0, 4.5)
    made.replace(knots(np.arange(0.5, 10.0), begin=0.3, chunk=2), 4.5)
    after = played(made, 4.5, 6.0)
    assert before[-1] == pytest.approx(4.4)
    assert after[8:] == pytest.approx(5.5 + 0.1 * np.arange(7)), "from 5.3 on its own actions"
    speeds = np.diff([*before[-2:], *after])
    assert speeds[0] == pytest.approx(0.1)
    assert speeds.max() < 0.14, "0.2 farther on, over 0.9 steps: a way, and no jump"
    assert np.abs(np.diff(speeds)).max() < 0.02


def test_what_has_passed_tells_how_the_rest_is_moved_through_and_is_not_played() -> None:
    made = Timeline()
    made.replace(knots(sine(np.arange(10.0))), 3.0)
    assert made.at(2.9) is None
    assert played(made, 3.0, 7.0) == pytest.approx(sine(np.arange(3.0, 7.0, 0.1)), abs=1e-4)
    made.replace(knots(np.zeros(3)), 3.0)
    assert not made


def test_what_is_far_behind_is_forgotten() -> None:
    made = Timeline()
    made.replace(knots(sine(np.arange(100.0))), 0.0)
    played(made, 0.0, 50.0)
    assert made.at(40.0) is None
    assert made.at(48.0) is not None
    assert made.end == 99.0
