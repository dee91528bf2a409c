"""Random numbers by place: distributed as they should be, the same in any share of a batch."""

from __future__ import annotations

import numpy as np
import torch

from smolpilot.training.data.sample_rng import AUGMENT, NOISE, TIME, SampleRng


def test_a_sample_has_the_same_numbers_in_any_batch_order_and_share() -> None:
    rng, ids = SampleRng(7), np.arange(40, 56)
    noise, times, views = rng.noise(ids, (5, 3)), rng.times(ids), rng.views(ids, 4)
    some = np.array([9, 2, 15])
    assert torch.equal(rng.noise(ids[some], (5, 3)), noise[some])
    assert torch.equal(rng.times(ids[some]), times[some])
    assert np.array_equal(rng.views(ids[some], 4), views[some])


def test_seeds_ids_and_purposes_are_told_apart() -> None:
    ids = np.arange(100)
    drawn = [SampleRng(seed).uniform(what, where, (1,)).flatten() for seed, what, where in (
        (1, TIME, ids), (2, TIME, ids), (1, NOISE, ids), (1, AUGMENT, ids), (1, TIME, ids + 100),
        (1, TIME, np.stack([ids, ids * 0 + 1], axis=1)), (2**62 - 1, TIME, ids),
    )]  # fmt: skip
    everything = torch.cat(drawn)
    assert len(everything.unique()) > 0.999 * len(everything)


def test_neighboring_ids_are_independent_and_well_distributed() -> None:
    noise = SampleRng(3).noise(np.arange(20_000), (4,)).double()
    assert noise.mean().abs() < 0.02
    assert (noise.std() - 1).abs() < 0.02
    apart = (noise[:-1] * noise[1:]).mean(dim=0)  # of a sample with the next one
    within = (noise[:, :-1] * noise[:, 1:]).mean(dim=0)
    assert torch.cat([apart, within]).abs().max() < 0.04


def test_times_follow_the_beta_distribution_of_smolvla() -> None:
    times = SampleRng(5).times(np.arange(20_000)).numpy()
    for bound in (0.1, 0.4, 0.7, 0.95):
        assert abs((times < bound).mean() - ((bound - 0.001) / 0.999) ** 1.5) < 0.015
    assert times.min() >= 0.001
    assert times.max() <= 1.0


def test_views_are_drawn_evenly() -> None:
    counts = np.bincount(SampleRng(5).views(np.arange(6000), 3), minlength=3)
    assert counts.min() > 1850
    assert len(counts) == 3
