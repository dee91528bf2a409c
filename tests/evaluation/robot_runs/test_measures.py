"""The measures of a robot run, each against a number that can be computed by hand."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.contracts.robot import Flag, StopCategory
from smolpilot.contracts.run_log import Tick
from smolpilot.evaluation.rates.intervals import rate_interval
from smolpilot.evaluation.robot_runs import RunMeasures, measure
from smolpilot.evaluation.robot_runs.measures import CLAMPS, RunTable

from .helpers_robot_runs import end, facts, header, log_of, ticks

PAN = [0.0, 1, 2, 3, 5, 6, 7]
CHUNKS = [0, 0, 0, 0, 1, 1, 1]


def both(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """pan, and lift twice as far."""
    return np.stack([np.asarray(values, np.float64), 2 * np.asarray(values, np.float64)], axis=1)


def measured(made: list[Tick], *ends: Any, **said: Any) -> RunMeasures:
    return measure(log_of(made), facts(**said), ends)


def test_steps_and_jumps_of_velocity_at_seams_and_within_chunks() -> None:
    """At 10 per second: 1 per tick within the chunks, 2 onto the second one; 10 per second, and 20 once."""
    pan, lift = measured(ticks(both(PAN), chunks=CHUNKS)).joints
    assert (pan.name, pan.unit) == ("pan", "deg")
    assert (pan.step_seam, pan.step_inside) == (2, 1)
    assert (pan.jump_seam, pan.jump_inside) == pytest.approx((10, 0))
    assert (lift.step_seam, lift.step_inside) == (4, 2)
    assert lift.jump_seam == pytest.approx(20)


def test_a_new_chunk_that_goes_on_faster_jumps_in_velocity_alone() -> None:
    (pan, _) = measured(ticks(both([0, 1, 2, 3, 4, 7, 10]), chunks=CHUNKS)).joints
    assert (pan.step_seam, pan.jump_seam) == pytest.approx((1, 20))
    assert (pan.step_inside, pan.jump_inside) == pytest.approx((3, 0))


def test_a_step_over_a_missed_tick_is_as_long_as_it_was_and_as_fast() -> None:
    (pan, _) = measured(ticks(both([0, 1, 2, 3, 4, 5]), skip=[3])).joints
    assert (pan.step_inside, pan.jump_inside) == pytest.approx((2, 0))


def test_between_episodes_there_is_no_seam() -> None:
    first = ticks(both([0, 1, 2, 3]), chunks=[0, 0, 1, 1])
    found = measured([*first, *ticks(both([50, 51, 52]), first=4, episode=1, chunks=2)])
    assert (found.joints[0].step_seam, found.joints[0].step_inside) == (1, 1)
    assert found.joints[0].jump_seam == pytest.approx(0)
    alone = measured(ticks(both([0, 1, 5]))).joints[0]
    assert alone.step_seam is alone.jump_seam is None
    assert (alone.step_inside, alone.jump_inside) == pytest.approx((4, 30))


def test_in_a_wait_between_two_chunks_nothing_is_within_a_chunk() -> None:
    made = ticks(both([0, 1, 1, 1, 4, 5]), chunks=[0, 0, None, None, 1, 1], source={2: "hold", 3: "hold"})
    (pan, _) = measured(made).joints
    assert (pan.step_seam, pan.step_inside) == (3, 1)
    assert pan.jump_seam == pytest.approx(30)


def test_the_jerk_is_that_of_third_differences() -> None:
    """0 0 0 1 0 0 at 10 per second: third differences 1, -3, 3."""
    (pan, lift) = measured(ticks(both([0, 0, 0, 1, 0, 0]), measured=both([0, 0, 0, 2, 0, 0]))).joints
    assert pan.jerk_commanded == pytest.approx(1000 * math.sqrt(19 / 3))
    assert (lift.jerk_commanded, pan.jerk_measured) == pytest.approx((2000 * math.sqrt(19 / 3),) * 2)
    assert measured(ticks(both([0, 0, 1]))).joints[0].jerk_commanded is None


@pytest.mark.parametrize(("rate", "every"), [(100.0, 4), (25.0, 1), (50.0, 2), (30.0, 1)])
def test_a_sine_comes_out_clean_at_about_the_rate_of_the_policy(rate: float, every: int) -> None:
    """Third differences h apart of A sin(wt) are a sine again, of amplitude A (2 sin(wh / 2))³."""
    amplitude, omega = 40.0, 2 * math.pi * 0.5
    time = np.arange(round(20 * rate) + 3 * every) / rate  # so that ten whole periods of differences are taken
    made = ticks(both(amplitude * np.sin(omega * time)), rate=rate)
    found = measure(log_of(made, header(rate=rate)), facts(rate=rate, policy_rate=25.0), [])
    h = every / rate
    wanted = amplitude / math.sqrt(2) * (2 * math.sin(omega * h / 2) / h) ** 3
    assert (found.every, found.jerk_rate) == pytest.approx((every, rate / every))
    assert found.joints[0].jerk_commanded == pytest.approx(wanted, rel=1e-3)
    assert found.joints[1].jerk_measured == pytest.approx(2 * wanted, rel=1e-3)
    assert wanted == pytest.approx(amplitude * omega**3 / math.sqrt(2), rel=1e-2)


@pytest.mark.parametrize(
    "gap",
    [
        {"source": {10: "hold"}},
        {"skip": [10]},
        {"source": {10: "teleoperator", 11: "ramp"}},
    ],
    ids=["hold", "missed", "others"],
)
def test_the_jerk_does_not_reach_over_a_gap(gap: dict[str, Any]) -> None:
    """A ramp that goes on elsewhere after the gap has no jerk."""
    values = np.concatenate([np.arange(10.0), [50.0], np.arange(99.0, 110.0)])
    assert measured(ticks(both(values), **gap)).joints[0].jerk_commanded == pytest.approx(0, abs=1e-3)


def test_the_jerk_is_computed_within_episodes_and_for_each() -> None:
    jerky, smooth = both([0, 0, 0, 1, 0, 0]), both(np.arange(6.0) + 30)
    found = measured([*ticks(jerky), *ticks(smooth, first=6, episode=1)], end(0), end(1))
    first, second = found.episodes
    assert first.jerk_commanded[0] == pytest.approx(1000 * math.sqrt(19 / 3))
    assert second.jerk_commanded[0] == pytest.approx(0, abs=1e-3)
    assert found.joints[0].jerk_commanded == pytest.approx(1000 * math.sqrt(19 / 6))


def test_joints_that_were_not_read_have_no_measured_jerk() -> None:
    seen = both(np.arange(6.0))
    seen[:, 1] = np.nan
    pan, lift = measured(ticks(both([0, 0, 0, 1, 0, 0]), measured=seen)).joints
    assert pan.jerk_measured == pytest.approx(0, abs=1e-3)
    assert lift.jerk_measured is None


def test_the_jerk_of_the_demonstrations_stands_beside_where_it_is_known() -> None:
    made = ticks(both([0, 0, 0, 1, 0, 0]))
    pan, lift = measured(made, demonstrated_jerk={"pan": 500.0}).joints
    assert (pan.jerk_demonstrated, lift.jerk_demonstrated) == (500, None)
    assert [joint.jerk_demonstrated for joint in measured(made).joints] == [None, None]


def test_ages_of_what_was_acted_on() -> None:
    """Planned from what was read 0.1 s before the first tick; a state was 10 ms old, plus what the tick was late."""
    made = ticks(both([0, 1, 2, 3, 3]), captured={0: -0.1}, source={4: "hold"}, late={3: 0.02})
    found = measured(made)
    assert found.chunk_age is not None
    assert astuple(found.chunk_age) == pytest.approx((4, 0.25, 0.402, 0.4164, 0.42))
    assert found.observation_age is not None
    assert (found.observation_age.count, found.observation_age.p50) == pytest.approx((5, 0.01))
    assert found.observation_age.max == pytest.approx(0.03)


def test_cadence() -> None:
    """Late against the earliest tick of the episode, whose loop may have begun anew."""
    late = {0: 0.003, 1: 0.001, 2: 0.002, 3: 0.051, 6: 0.001}
    second = ticks(both([0, 1]), first=8, episode=1, late={0: 0.061, 1: 0.063})
    log = log_of([*ticks(both(range(7)), late=late, skip=[4, 5]), *second])
    assert RunTable(log).late == pytest.approx([0.002, 0, 0.001, 0.05, 0, 0, 0.002], abs=1e-9)
    found = measure(log, facts(), [end(0), end(1)])
    assert found.late is not None
    assert (found.late.count, found.late.p50) == pytest.approx((7, 0.001), abs=1e-9)
    assert found.late.max == pytest.approx(0.05)
    assert found.missed == len(log.skipped) == 3
    assert [one.missed for one in found.episodes] == [2, 0]
    assert found.seconds == pytest.approx(0.9 + 0.063 - 0.003)


def test_turnarounds_spacing_and_what_became_of_chunks() -> None:
    made = ticks(both(range(9)), chunks=[0] * 3 + [1] * 3 + [2] * 3, captured={0: -0.1, 1: 0.2, 2: 0.6})
    made += ticks(both([0, 1]), first=9, episode=1, chunks=7, captured={7: 0.8})
    found = measured(
        made,
        end(0, turnarounds=(0.1, 0.2, 0.3), chunks=3, late=1, trimmed=4, blended=5, starved=2, waited=6),
        end(1, turnarounds=(0.4,), chunks=1, trimmed=1),
    )
    assert found.turnarounds is not None
    assert astuple(found.turnarounds) == pytest.approx((4, 0.25, 0.385, 0.397, 0.4))
    assert found.spacing is not None
    assert (found.spacing.count, found.spacing.p50, found.spacing.max) == pytest.approx((2, 0.35, 0.4))
    assert (found.chunks, found.late_chunks, found.trimmed, found.blended) == (4, 1, 5, 5)
    assert (found.starved, found.waited) == (2, 6)


def test_clamped_ticks_and_when_they_were() -> None:
    """25 ticks at 10 per second: pan by position in ticks 3 and 4, both by velocity in 12, the whole arm in 24."""
    flags: dict[int, dict[str, tuple[str, ...]]] = {
        3: {Flag.POSITION: ("pan",)},
        4: {Flag.POSITION: ("pan",), Flag.VELOCITY: ("pan",), Flag.TRACKING: ("lift",)},
        12: {Flag.VELOCITY: ("pan", "lift")},
        24: {Flag.ACCELERATION: ()},
    }
    found = measured(ticks(both(range(25)), flags=flags), end(0))
    pan, lift = found.joints
    assert pan.clamped == {"position": 2, "velocity": 2, "acceleration": 1}
    assert lift.clamped == {"position": 0, "velocity": 1, "acceleration": 1}
    line = found.clamp_line
    assert (line.seconds.tolist(), line.ticks.tolist()) == ([0, 1, 2], [10, 10, 5])
    assert line.clamped.tolist() == [[2, 0], [1, 1], [1, 1]]
    assert line.by_flag[CLAMPS.index("velocity")].tolist() == [[1, 0], [1, 1], [0, 0]]
    assert found.episodes[0].clamped == 4


def test_stops_with_their_reasons() -> None:
    made = ticks(both(range(6)), stops={2: "the operator pressed space", 4: "Too hot."})
    made += ticks(both(range(3)), first=6, episode=1)
    found = measured(
        made, end(0, ended="stop", mark=None, stop="Too hot."), end(1, ended="stop", mark=None, stop="It was killed.")
    )
    assert [(one.episode, one.reason, one.category) for one in found.stops] == [
        (0, "the operator pressed space", StopCategory.HOLD),
        (0, "Too hot.", StopCategory.HOLD),
        (1, "It was killed.", None),
    ]
    assert [one.seconds for one in found.stops] == [pytest.approx(0.2), pytest.approx(0.4), None]


def test_success_is_by_the_marks_and_unmarked_episodes_are_no_failures() -> None:
    made = [tick for number in range(4) for tick in ticks(both(range(3)), first=3 * number, episode=number)]
    ends = [end(0), end(1, mark="failure"), end(2, mark=None, ended="time"), end(3)]
    found = measured(made, *ends)
    assert (found.successes, found.marked, found.unmarked) == (2, 3, 1)
    assert found.success is not None
    assert found.success["interval"] == list(rate_interval(2, 3))
    nobody = measured(made, *(end(number, mark=None, ended="time") for number in range(4)))
    assert (nobody.successes, nobody.marked, nobody.unmarked, nobody.success) == (0, 0, 4, None)


def test_a_run_that_was_cut_off_has_what_was_in_its_log() -> None:
    flags: dict[int, dict[str, tuple[str, ...]]] = {1: {Flag.STARVED: ()}, 2: {Flag.STARVED: ()}}
    made = [*ticks(both(range(3))), *ticks(both(range(4)), first=3, episode=1, flags=flags)]
    found = measure(log_of(made, torn=True), facts(ended=None), [end(0, starved=1)])
    assert (found.cut_off, found.torn, found.ticks) == (True, True, 7)
    assert [one.end is None for one in found.episodes] == [False, True]
    assert [one.starved for one in found.episodes] == [1, 2]
    assert (found.starved, found.unmarked) == (3, 1)


def test_an_episode_has_the_ticks_that_it_says() -> None:
    """The way to the start and back has its number, too."""
    made = ticks(both(range(10)), source={0: "ramp", 1: "ramp", 9: "park"})
    (episode,) = measured(made, end(0, first_tick=2, last_tick=8)).episodes
    assert episode.rows.tolist() == list(range(2, 9))


def test_a_dry_run_is_one_whoever_says_so() -> None:
    made = ticks(both(range(3)))
    assert not measured(made).dry_run
    assert measured(made, dry_run=True).dry_run
    assert measure(log_of(made, header(dry_run=True)), facts(), []).dry_run


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_log_of_hardly_any_ticks_has_no_measures(count: int) -> None:
    found = measured(ticks(both(np.zeros(count))))
    assert (found.ticks, found.seconds) == pytest.approx((count, 0.1 * max(0, count - 1)))
    assert found.stops == ()
    assert all(joint.jerk_commanded is joint.step_seam is joint.jump_inside is None for joint in found.joints)
    assert (found.late is None) == (found.chunk_age is None) == (count == 0)
    assert found.turnarounds is None


def test_a_clock_that_jumps_takes_no_memory() -> None:
    """A laptop that slept for a century, or a log from a clock that did."""
    made = ticks(both(range(4)), late={2: 3e9, 3: 3e9})
    found = measured(made)
    assert found.clamp_line.seconds.tolist() == [0, 3_000_000_000]
