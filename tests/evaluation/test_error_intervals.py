"""Offline errors with intervals over episodes, and against the floors paired by episode."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from smolpilot.evaluation.offline.error_intervals import against_floor, error_intervals
from smolpilot.evaluation.offline.metrics_document import summarize, to_json
from smolpilot.evaluation.predictions import Predictions
from smolpilot.evaluation.rates.intervals import Interval
from smolpilot.evaluation.rates.wording import compare_errors


def scored(
    errors: list[float], hold: list[float], *, lengths: list[int] | None = None, horizon: int = 3
) -> Predictions:
    """Episodes whose recorded actions are 0; the policy and the state that is held are off by these, joint 1 twice."""
    lengths = lengths or [10] * len(errors)
    episode = np.repeat(np.arange(len(errors)), lengths)
    frame = np.concatenate([np.arange(length) for length in lengths])
    end = np.repeat(lengths, lengths)
    is_pad = frame[:, None] + np.arange(horizon) >= end[:, None]
    scale = np.array([1.0, 2.0])
    target = np.zeros((len(episode), horizon, 2), np.float32)
    predicted = (target + np.array(errors)[episode][:, None, None] * scale).astype(np.float32)
    held = (np.array(hold)[episode][:, None] * scale).astype(np.float32)
    recorded = np.zeros((len(episode), 2), np.float32)
    return Predictions(
        predicted, target, is_pad, held, np.array([5.0, 5.0]), episode, frame, recorded, episode, frame,
        ["pan", "lift"], ["rad"] * 2, [None, None], 10.0, 2,
    )  # fmt: skip


ERRORS = [0.10, 0.12, 0.11, 0.14, 0.09, 0.13, 0.12, 0.10]


def test_the_interval_is_that_of_the_mean_over_episodes() -> None:
    found = error_intervals(scored(ERRORS, ERRORS))
    overall, pan, lift = found.overall, *found.joints
    assert found.episodes == 8
    assert overall is not None
    assert pan is not None
    assert lift is not None
    assert pan == pytest.approx((0.1025, 0.1240), abs=0.003)  # 0.114 -+ 1.96 * 0.017 / sqrt(8)
    assert lift == pytest.approx((2 * pan.low, 2 * pan.high), rel=1e-5)
    assert overall == pytest.approx((1.5 * pan.low, 1.5 * pan.high), rel=1e-5)


def test_the_same_numbers_each_time() -> None:
    one, other = (json.loads(to_json(summarize(scored(ERRORS, ERRORS)))) for _ in range(2))
    assert one == other
    assert one["mae_interval"] == list(error_intervals(scored(ERRORS, ERRORS)).overall or ())


def test_long_episodes_weigh_more_as_in_the_mean() -> None:
    document = summarize(scored([0.1, 0.2, 0.1, 0.1, 0.1, 0.1], [1.0] * 6, lengths=[10, 90, 10, 10, 10, 10]))
    low, high = document["mae_interval"]
    assert low < document["mean_over_joints"]["mae"] < high


def test_a_difference_that_every_episode_shares_is_told_where_the_spread_between_episodes_hides_it() -> None:
    """Paired: hard episodes are hard for both, so that only the difference by episode counts."""
    errors = [0.1, 1.0, 0.2, 3.0, 0.5, 2.0]
    made = scored(errors, [error + 0.05 for error in errors])
    found = against_floor(made, made.hold[:, None], "holding the current state")
    assert found is not None
    assert found.overall.decision == "better"
    assert found.overall.difference == pytest.approx(-0.075)
    assert found.overall.interval == pytest.approx((-0.075, -0.075), abs=1e-4)
    assert found.differences == pytest.approx([-0.05, -0.1])
    low, high = error_intervals(made).overall or Interval(0, 0)
    assert high - low > 1


def test_the_document_says_better_only_where_the_interval_excludes_0() -> None:
    better = summarize(scored(ERRORS, [1.0] * 8))
    assert better["verdict"]["text"].startswith("is better than holding the current state and the mean action: MAE")
    assert better["against_hold"]["decision"] == better["against_mean_action"]["decision"] == "better"
    assert better["against_hold"]["text"].startswith("the policy is better than holding the current state over 8 ep")
    assert better["few_episodes"] is None
    assert [set(joint["against_hold"]) for joint in better["joints"]] == [{"difference", "interval"}] * 2

    alike = summarize(scored(ERRORS, [*ERRORS[1:], ERRORS[0] + 0.01]))  # in the mean a little smaller
    assert alike["verdict"]["beats_hold"] is True
    assert alike["against_hold"]["decision"] == "not told apart"
    assert "and not told apart from holding the current state" in alike["verdict"]["text"]

    worse = summarize(scored([error + 1 for error in ERRORS], ERRORS))
    assert "worse than holding the current state" in worse["verdict"]["text"]


@pytest.mark.parametrize("episodes", [2, 3, 4])
def test_few_episodes_have_an_interval_and_no_verdict(episodes: int) -> None:
    document = summarize(scored(ERRORS[:episodes], [1.0] * episodes))
    assert document["mae_interval"] is not None
    assert document["against_hold"]["interval"][1] < 0
    assert document["against_hold"]["decision"] == "not told apart"
    assert f"An interval over {episodes} episodes means little" in document["verdict"]["text"]
    assert "better" not in document["verdict"]["text"]


def test_one_episode_has_none() -> None:
    document = summarize(scored([0.1], [1.0]))
    assert document["mae_interval"] is None
    assert document["against_hold"]["interval"] is None
    assert document["against_hold"]["text"].endswith("(rad), difference -1.35. One episode says nothing about others.")
    assert "1 episode, no interval" in document["verdict"]["text"]


def test_numbers_that_are_none_have_no_interval() -> None:
    made = scored(ERRORS, ERRORS)
    made.predicted[3, 0, 0] = np.nan
    made.hold[:, 1] = np.nan  # a joint without a state
    document: dict[str, Any] = summarize(made)
    assert document["verdict"]["text"].startswith("fails")
    assert document["mae_interval"] is None
    assert document["against_hold"] is None
    assert document["joints"][0]["mae_interval"] is None
    assert document["joints"][1]["mae_interval"] is not None


def test_words_of_a_comparison() -> None:
    found = compare_errors(("a", "b"), (0.2, 0.1), Interval(0.05, 0.15), 20, "deg")
    assert found.text == (
        "a is worse than b over 20 episodes: mean error 0.2 against 0.1 (deg), difference +0.1, 95 % interval "
        "0.05 to 0.15 (bootstrap over episodes)."
    )
    assert compare_errors(("a", "b"), (0.1, 0.2), Interval(-0.2, 0.0), 20, "deg").decision == "not told apart"
