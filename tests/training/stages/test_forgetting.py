"""Forgetting and backward transfer: the textbook numbers, with intervals that hold what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.training.stages.forgetting import kept, matrix


def constant(value: float, episodes: int = 4) -> npt.NDArray[Any]:
    return np.full(episodes, value)


SUCCESS = [
    [constant(0.9)],
    [constant(0.95), constant(0.8)],
    [constant(0.3), constant(0.7), constant(0.85)],
]


def test_the_numbers_of_a_known_sequence() -> None:
    rows = matrix(SUCCESS, 50)
    assert [[one.value for one in row] for row in rows] == [[0.9], [0.95, 0.8], [0.3, 0.7, 0.85]]
    left = kept(SUCCESS, 50, higher_is_better=True)
    assert left is not None
    # The best earlier result counts for forgetting, the first one for transfer.
    assert [one.value for one in left.forgetting] == pytest.approx([0.65, 0.1])
    assert [one.value for one in left.backward_transfer] == pytest.approx([-0.6, -0.1])
    assert left.mean_forgetting.value == pytest.approx(0.375)
    assert left.mean_backward_transfer.value == pytest.approx(-0.35)
    # Without spread there is no doubt.
    assert left.forgetting[0].interval == pytest.approx((0.65, 0.65))


def test_errors_count_the_other_way_round() -> None:
    errors = [[constant(0.2)], [constant(0.5), constant(0.1)]]
    left = kept(errors, 50, higher_is_better=False)
    assert left is not None
    assert left.forgetting[0].value == pytest.approx(0.3)
    assert left.backward_transfer[0].value == pytest.approx(-0.3)
    better = kept([[constant(0.5)], [constant(0.2), constant(0.1)]], 50, higher_is_better=False)
    assert better is not None
    assert better.forgetting[0].value == pytest.approx(-0.3)
    assert better.backward_transfer[0].value == pytest.approx(0.3)


def test_one_stage_or_one_episode_promises_nothing() -> None:
    assert kept(SUCCESS[:1], 50, higher_is_better=True) is None
    left = kept([[constant(0.9, 1)], [constant(0.5, 1), constant(0.5, 3)]], 50, higher_is_better=True)
    assert left is not None
    assert (left.forgetting[0].interval, left.mean_forgetting.interval) == (None, None)
    assert matrix([[constant(0.9, 1)]], 50)[0][0].interval is None


def test_the_same_episodes_are_drawn_for_both_stages() -> None:
    """Episodes differ widely but each loses the same: a paired interval is narrow, an unpaired one would be wide."""
    spread = np.linspace(0, 1, 30).astype(np.float64)
    left = kept([[spread], [spread - 0.2, constant(1.0, 5)]], 500, higher_is_better=True)
    assert left is not None
    assert left.forgetting[0].interval == pytest.approx((0.2, 0.2))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        before, after = generator.normal(1.0, 0.3, 40), generator.normal(0.6, 0.3, 40)
        left = kept([[before], [after, before]], 300, higher_is_better=True, seed=trial)
        assert left is not None
        assert left.backward_transfer[0].interval is not None
        low, high = left.backward_transfer[0].interval
        hits += low <= -0.4 <= high
    assert 0.88 <= hits / 200 <= 0.99
