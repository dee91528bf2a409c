"""Intervals of rates: by numbers from the literature, and by coverage; test_rates_oracle.py has a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.evaluation.rates.intervals import difference_interval, episode_bootstrap, rate_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (17, 20, 0.621073, 0.967929),  # Clopper and Pearson, as R's binom.test prints it
        (0, 10, 0.0, 0.308497),
        (10, 10, 0.691503, 1.0),
    ],
)
def test_one_rate(successes: int, trials: int, low: float, high: float) -> None:
    assert rate_interval(successes, trials) == pytest.approx((low, high), abs=1e-6)


def test_nothing_is_known_without_trials() -> None:
    assert rate_interval(0, 0) == (0.0, 1.0)
    assert difference_interval((0, 0), (5, 5)) == (-1.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(5, 4), (-1, 4)])
def test_counts_that_cannot_be(successes: int, trials: int) -> None:
    with pytest.raises(UsageError, match=f"{successes} of {trials} episodes cannot have succeeded"):
        rate_interval(successes, trials)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98, 0.99])
def test_it_covers_what_it_says(rate: float) -> None:
    """Summed over all outcomes of 50 episodes: at least 95 % also where Wilson's interval covers 91 %."""
    chances = [math.comb(50, k) * rate**k * (1 - rate) ** (50 - k) for k in range(51)]
    covered = sum(
        chance for k, chance in enumerate(chances) if rate_interval(k, 50)[0] <= rate <= rate_interval(k, 50)[1]
    )
    assert covered >= 0.95


def test_newcombes_example() -> None:
    """The first two rows of the paper's table II: 56/70 - 48/80 and 9/10 - 3/10, method 10."""
    assert difference_interval((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference_interval((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)


def test_frames_of_one_episode_are_one_sample() -> None:
    """A hundred frames of each episode that all say the same add nothing to what 20 episodes tell."""
    errors = np.random.default_rng(0).gamma(2.0, size=20)
    once = episode_bootstrap(errors, np.ones(20))
    often = episode_bootstrap(100 * errors, np.full(20, 100.0))
    assert often == pytest.approx(once)
    assert once.low < errors.mean() < once.high
    assert 0.5 < (once.high - once.low) / (2 * 1.96 * errors.std(ddof=1) / math.sqrt(20)) < 1.5


def test_an_error_without_spread_or_of_one_episode() -> None:
    assert episode_bootstrap(np.array([2.0, 4.0]), np.array([1.0, 2.0])) == (2.0, 2.0)
    assert np.isnan(episode_bootstrap(np.array([2.0]), np.array([3.0]))).all()
    assert np.isnan(episode_bootstrap(np.array([2.0, np.nan]), np.array([3.0, 1.0]))).all()


def test_an_episode_without_frames_does_not_count() -> None:
    errors, ones = np.array([1.0, 2.0, 4.0]), np.ones(3)
    assert episode_bootstrap(np.append(errors, 0.0), np.append(ones, 0.0)) == episode_bootstrap(errors, ones)
