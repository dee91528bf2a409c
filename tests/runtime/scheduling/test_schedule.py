"""When a chunk is asked for and which action is due: what others get wrong is a case each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.runtime.scheduling import Merge, Mode, PlannedChunk, ScheduleOptions
from smolpilot.runtime.scheduling.schedule import Playing

from .helpers_playback import Chunk, along, onward, play, schedule


def test_sync_plays_its_horizon_and_waits_for_the_next_chunk() -> None:
    made = schedule(mode=Mode.SYNC, horizon=3)
    run = play(made, onward(), ticks=12, turnaround=0.2)
    kinds = [one.playing for one in run.due]
    assert kinds == [Playing.WAIT] * 2 + ([Playing.PLAY] * 3 + [Playing.WAIT] * 2) * 2
    assert run.played.tolist() == [1, 2, 3, 4, 5, 6]
    assert [tick for tick, _ in run.asked] == [0, 5, 10], "asked for when it stands: it sees where it is"
    assert made.counts.starved == 0


def test_sync_with_a_policy_that_takes_no_time_waits_for_one_tick() -> None:
    run = play(schedule(mode=Mode.SYNC, horizon=4), onward(), ticks=21, turnaround=0.0)
    assert run.played.tolist() == list(range(1, 17))
    assert [one.playing for one in run.due] == ([Playing.WAIT] + [Playing.PLAY] * 4) * 4 + [Playing.WAIT]


def test_async_goes_on_while_the_next_chunk_is_computed() -> None:
    made = schedule(horizon=10)
    run = play(made, onward(), ticks=60, turnaround=0.3)
    assert run.played.tolist() == list(range(1, len(run.played) + 1)), "each action once, none twice, none left out"
    assert made.counts.starved == 0
    first = next(tick for tick, due in enumerate(run.due) if due.playing is Playing.PLAY)
    assert first == 3
    assert all(due.playing is Playing.PLAY for due in run.due[first:])


def test_a_chunk_is_asked_for_so_that_it_comes_when_the_horizon_ends() -> None:
    """Not earlier: it would see an older arm. Not later: the reserve is for what is late."""
    run = play(schedule(horizon=10), onward(), ticks=100, turnaround=0.3)
    # From the second one on the turnaround is known: 0.3 s and two ticks before the end.
    spaces = np.diff([tick for tick, _ in run.used[1:]])
    assert set(spaces.tolist()) <= {9, 10}
    asked, used = [tick for tick, _ in run.asked], [tick for tick, _ in run.used]
    assert [b - a for a, b in zip(asked, used, strict=False)] == [3] * len(used)


def test_steps_are_dropped_by_what_was_executed_and_not_by_the_latency() -> None:
    """An arm that had nothing to execute meanwhile has missed nothing of the new chunk."""
    made = schedule(chunk=6, horizon=6)
    run = play(made, onward(size=6), ticks=40, turnaround=lambda number: 0.0 if number == 0 else 0.9)
    assert made.counts.starved > 0
    assert run.played.tolist() == list(range(1, len(run.played) + 1))
    second = [step for chunk, step in run.steps if chunk == 2]
    asked_at = run.asked[1][0]
    executed = sum(due.playing is Playing.PLAY for due in run.due[asked_at : run.used[1][0]])
    assert second[0] == executed < 9


def test_a_chunk_all_of_whose_actions_are_past_is_no_plan() -> None:
    made = schedule(chunk=4, horizon=4, refill=5.0, follow_through=0.0)
    made.wanted(0.0)
    assert made.arrived(PlannedChunk(1, np.zeros((4, 1)), -1.0, -1.0, 0.0))
    for tick in range(4):
        made.tick(tick / 10)
    ask = made.wanted(0.35)
    assert ask is not None
    made.tick(0.4)
    assert not made.arrived(PlannedChunk(ask.id, np.zeros((4, 1)), -5.0, -5.0, 0.5)), "seen before the first action"
    assert (made.counts.late, made.counts.trimmed) == (1, 4)
    assert made.wanted(0.5) is not None, "another one is asked for at once"


def test_appended_early_the_arm_goes_back_and_aligned_it_does_not() -> None:
    """A known trap of asynchronous inference: asked for a second early, each chunk began where the arm had been."""
    early: dict[str, Any] = {"refill": 0.8, "follow_through": 0.0}
    back = play(schedule(merge=Merge.APPEND, **early), onward(), ticks=80, turnaround=0.1).played
    assert np.diff(back).min() < -4, "the trap itself"
    late = play(schedule(merge=Merge.APPEND, refill=0.15), onward(), ticks=80, turnaround=0.1).played
    assert np.diff(late).min() >= -2, "asked for late it is hardly there"
    aligned = play(schedule(**early), onward(), ticks=80, turnaround=0.1).played
    assert np.diff(aligned).tolist() == [1.0] * (len(aligned) - 1)


def test_an_arm_that_lags_is_not_taken_back_at_each_seam() -> None:
    """A chunk begins near the measured joints, which are behind the commands: aligned, its steps are, too."""
    run = play(schedule(), onward(), ticks=80, turnaround=0.2, lag=0.5)
    steps = np.diff(run.played)
    assert steps.min() > -1.5
    appended = play(schedule(merge=Merge.APPEND, refill=0.5), onward(), ticks=80, turnaround=0.2, lag=0.5)
    assert np.diff(appended.played).min() < steps.min()


def test_however_early_it_may_ask_half_a_horizon_is_followed_through() -> None:
    """Replanned at every tick, an arm begins each motion and ends none."""
    hasty = play(schedule(refill=60.0, follow_through=0.0), onward(), ticks=60, turnaround=0.1)
    assert len(hasty.used) > 25
    kept = play(schedule(chunk=100, refill=1.0), onward(size=100), ticks=60, turnaround=0.1)
    assert np.diff([tick for tick, _ in kept.used[1:]]).min() >= 5
    # Where the plan itself would run out, it is asked for all the same.
    short = play(schedule(chunk=10, horizon=10, refill=0.8), onward(size=10), ticks=60, turnaround=0.5)
    assert sum(due.playing is Playing.STARVED for due in short.due) == 0


def test_blended_fades_but_for_the_gripper() -> None:
    """Between two opinions about a gripper there is none that holds."""
    made = schedule(merge=Merge.BLENDED, blend=0.4, grippers=(1,), refill=0.2)
    old, new = np.zeros((20, 2)), np.ones((20, 2))
    made.wanted(0.0)
    made.arrived(PlannedChunk(1, old, 0.0, 0.0, 0.0))
    found = []
    for tick in range(20):
        now = tick / 10
        if tick == 10:
            made.arrived(PlannedChunk(2, new, now, now, now))
        due = made.tick(now)
        assert due.knot is not None
        found.append(due.knot)
        made.wanted(now)
    arm, gripper = np.array([knot.action for knot in found]).T
    assert arm[:10].tolist() == [0.0] * 10
    assert arm[10:15] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert gripper.tolist() == [0.0] * 10 + [1.0] * 10
    assert [knot.captured_at for knot in found[10:15]] == [0.0] * 4 + [1.0], "as old as the oldest it is made of"
    assert made.counts.blended == 4


def test_rtc_is_told_what_is_left_from_the_reading_on_and_how_much_of_it_will_be_executed() -> None:
    made = schedule(mode=Mode.RTC)
    run = play(made, onward(), ticks=40, turnaround=0.3)
    assert run.asked[0][1].leftover is None, "nothing is left before the first chunk"
    for tick, ask in run.asked[1:3]:
        assert ask.leftover is not None
        # Its first row is the action of the tick whose joints the policy sees; there is no row of zeros anywhere.
        assert ask.leftover[0, 0] == run.commands[tick]
        assert np.diff(ask.leftover[:, 0]).tolist() == [1.0] * (len(ask.leftover) - 1)
        assert 0 < len(ask.leftover) <= 20
    assert run.asked[2][1].delay == 4, "0.3 s at 10 Hz, and a tick"
    assert run.played.tolist() == list(range(1, len(run.played) + 1))


def test_an_answer_of_another_episode_or_nobodys_is_left_out() -> None:
    made = schedule()
    first = made.wanted(0.0)
    assert first is not None
    assert made.wanted(0.1) is None, "one request at a time"
    assert made.waiting_since == 0.0
    made.reset()
    assert not made.arrived(PlannedChunk(first.id, np.zeros((20, 1)), 0.0, 0.0, 0.2))
    second = made.wanted(0.3)
    assert second is not None
    assert second.id != first.id
    made.failed()
    third = made.wanted(0.4)
    assert third is not None
    assert not made.arrived(PlannedChunk(second.id, np.zeros((20, 1)), 0.0, 0.0, 0.5))
    assert made.arrived(PlannedChunk(third.id, np.zeros((20, 1)), 0.0, 0.0, 0.5))
    assert made.queued == pytest.approx(1.9)


def test_after_a_reset_nothing_of_the_plan_is_left() -> None:
    made = schedule(mode=Mode.RTC)
    play(made, onward(), ticks=15, turnaround=0.1)
    made.reset()
    assert made.tick(9.0).playing is Playing.WAIT
    ask = made.wanted(9.0)
    assert ask is not None
    assert ask.leftover is None
    assert made.queued == 0.0


def test_curve_between_the_actions_when_the_loop_is_faster_than_the_policy() -> None:
    """At the policy's own steps its own actions; between them no jump of velocity."""

    def sine(steps: Chunk) -> Chunk:
        return np.sin(2 * np.pi * 0.03 * steps)

    made = schedule(control=50.0)
    run = play(made, along(sine), ticks=400, turnaround=0.25, control=50.0)
    places = np.arange(len(run.played)) / 5.0
    assert run.played == pytest.approx(sine(places), abs=0.002)
    assert made.counts.starved == 0
    # Held, as it would be without a curve, each action is a jump every fifth tick.
    held = sine(np.floor(places))
    assert np.abs(np.diff(run.played, 2)).max() < 0.1 * np.abs(np.diff(held, 2)).max()


def test_seams_of_chunks_that_agree_leave_no_trace_in_the_curve() -> None:
    run = play(schedule(control=30.0), along(lambda steps: 0.3 * steps), ticks=200, turnaround=0.2, control=30.0)
    assert np.diff(run.played) == pytest.approx(0.1)


def test_wrong_rates_and_horizons_are_refused() -> None:
    with pytest.raises(UsageError, match=r"The control rate is 5 Hz(?s:.*)at least the policy's 10 Hz"):
        schedule(control=5.0)
    with pytest.raises(UsageError, match=r"n_action_steps is 21(?s:.*)at most 20"):
        schedule(n_action_steps=21)
    with pytest.raises(ValueError, match="merge 'blended' is of mode 'async'; in 'rtc' chunks are aligned"):
        ScheduleOptions(mode=Mode.RTC, merge=Merge.BLENDED)
