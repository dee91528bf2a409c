"""Weighted drawing: shares as asked, every row before any again, and the same rows from anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from smolpilot.training.weighted_sampler import WeightedSampler

GROUPS = [np.arange(0, 7), np.arange(7, 40), np.arange(40, 140)]
WEIGHTS = [0.1, 0.2, 0.7]


def sampler(batch_size: int = 8, seed: int = 3) -> WeightedSampler:
    return WeightedSampler(GROUPS, WEIGHTS, batch_size, seed)


def drawn(one: WeightedSampler, start: int, stop: int) -> np.ndarray:
    return np.concatenate([one.batch(number) for number in range(start, stop)])


def test_each_group_gets_its_share_of_the_samples() -> None:
    rows = drawn(sampler(), 0, 2500)
    shares = [np.isin(rows, group).mean() for group in GROUPS]
    # 20,000 draws: four standard deviations of the largest share are 0.013.
    assert shares == pytest.approx(WEIGHTS, abs=0.013)


def test_every_row_of_a_group_comes_once_before_any_comes_again() -> None:
    rows = drawn(sampler(), 0, 2500)
    for group in GROUPS:
        mine = rows[np.isin(rows, group)]
        whole = len(mine) // len(group)
        for epoch in range(whole):
            assert sorted(mine[epoch * len(group) : (epoch + 1) * len(group)]) == group.tolist()
        assert whole >= 10


@pytest.mark.parametrize("start", [1, 511, 512, 1300])
def test_a_run_that_goes_on_draws_what_the_first_would_have(start: int) -> None:
    # A batch of 7 straddles the blocks of 4096 samples.
    straight = drawn(sampler(7), 0, start + 5)[start * 7 :]
    assert np.array_equal(drawn(sampler(7), start, start + 5), straight)
    assert np.array_equal(np.concatenate(list(sampler(7).anew().batches(start, start + 5))), straight)


def test_the_order_does_not_depend_on_the_batch_size_but_on_the_seed() -> None:
    assert np.array_equal(drawn(sampler(4), 0, 60), drawn(sampler(6), 0, 40))
    assert not np.array_equal(drawn(sampler(), 0, 30), drawn(sampler(seed=4), 0, 30))


def test_what_decides_the_order_is_told_apart() -> None:
    other = WeightedSampler(GROUPS, [0.2, 0.2, 0.6], 8, 3)
    assert sampler().values() == sampler().anew().values() != other.values()
    assert sampler().values()["groups"] == [7, 33, 100]
