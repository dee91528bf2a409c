"""Random numbers by place: distributed as they should be, the same in any share of a batch."""

from __future__ import annotations

import numpy as np
import torch

from smolpilot.training.data.sample_rng import AUGMENT, NOISE, TIME, Draws


def test_a_sample_has_the_same_numbers_in_any_batch_order_and_share() -> None:
    draws, places = Draws(7), np.arange(40, 56)
    noise, times, views = draws.noise(places, (5, 3)), draws.times(places), draws.views(places, 4)
    some = np.array([9, 2, 15])
    assert torch.equal(draws.noise(places[some], (5, 3)), noise[some])
    assert torch.equal(draws.times(places[some]), times[some])
    assert np.array_equal(draws.views(places[some], 4), views[some])


def test_seeds_places_and_purposes_are_told_apart() -> None:
    places = np.arange(100)
    drawn = [Draws(seed).uniform(what, where, (1,)).flatten() for seed, what, where in (
        (1, TIME, places), (2, TIME, places), (1, NOISE, places), (1, AUGMENT, places), (1, TIME, places + 100),
        (1, TIME, np.stack([places, places * 0 + 1], axis=1)), (2**62 - 1, TIME, places),
    )]  # fmt: skip
    everything = torch.cat(drawn)
    assert len(everything.unique()) > 0.999 * len(everything)


def test_neighboring_places_are_independent_and_well_distributed() -> None:
    noise = Draws(3).noise(np.arange(20_000), (4,)).double()
    assert noise.mean().abs() < 0.02
    assert (noise.std() - 1).abs() < 0.02
    apart = (noise[:-1] * noise[1:]).mean(dim=0)  # of a sample with the next one
    within = (noise[:, :-1] * noise[:, 1:]).mean(dim=0)
    assert torch.cat([apart, within]).abs().max() < 0.04


def test_times_follow_the_beta_distribution_of_smolvla() -> None:
    times = Draws(5).times(np.arange(20_000)).numpy()
    for bound in (0.1, 0.4, 0.7, 0.95):
        assert abs((times < bound).mean() - ((bound - 0.001) / 0.999) ** 1.5) < 0.015
    assert times.min() >= 0.001
    assert times.max() <= 1.0


def test_views_are_drawn_evenly() -> None:
    counts = np.bincount(Draws(5).views(np.arange(6000), 3), minlength=3)
    assert counts.min() > 1850
    assert len(counts) == 3
