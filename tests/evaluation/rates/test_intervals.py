"""Intervals of rates: by numbers from the literature, and by coverage; test_rates_oracle.py has a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.evaluation.rates.intervals import (
    clustered_interval,
    difference_interval,
    episode_bootstrap,
    rate_interval,
)


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


def test_clusters_of_one_are_clopper_and_pearsons() -> None:
    for hits in (0, 1, 7, 20):
        found = clustered_interval([1] * hits + [0] * (20 - hits), [1] * 20)
        assert found == pytest.approx(rate_interval(hits, 20), abs=1e-9)


def test_clusters_that_are_one_thing_count_as_one_trial_each() -> None:
    """Both episodes of a scene always end alike: 30 of 40 scenes, not 60 of 80 episodes."""
    found = clustered_interval([2] * 30 + [0] * 10, [2] * 40)
    wide, narrow = rate_interval(30, 40), rate_interval(60, 80)
    assert found == pytest.approx(wide, abs=0.005)
    assert found.high - found.low > narrow.high - narrow.low + 0.05


def test_clusters_that_balance_are_worth_no_more_than_their_trials() -> None:
    """Who is deaf reaches one of two in each scene: without any spread between scenes, and not known without error."""
    assert clustered_interval([1] * 40, [2] * 40) == pytest.approx(rate_interval(40, 80), abs=1e-9)


def test_clusters_where_all_or_none_succeed() -> None:
    assert clustered_interval([2] * 20, [2] * 20) == pytest.approx(rate_interval(20, 20), abs=1e-9)
    assert clustered_interval([0] * 20, [2] * 20) == pytest.approx(rate_interval(0, 20), abs=1e-9)
    assert clustered_interval([], []) == (0.0, 1.0)
    assert clustered_interval([1], [3]) == pytest.approx((0.0, 0.98), abs=0.02)  # one scene says next to nothing
    with pytest.raises(UsageError, match="3 of 2 episodes cannot have succeeded"):
        clustered_interval([3], [2])


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("alike", ["independent", "half of the scenes", "always", "scenes of any difficulty"])
def test_clusters_are_covered_however_alike_they_are(alike: str, rate: float) -> None:
    """50 scenes of two episodes, 400 times: covered in 95 %, up to the error of 400 draws."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        each, both = rng.random((50, 2)) < rate, np.repeat(rng.random((50, 1)) < rate, 2, axis=1)
        if alike == "half of the scenes":
            each = np.where(rng.random((50, 1)) < 0.5, both, each)
        elif alike == "always":
            each = both
        elif alike == "scenes of any difficulty":
            each = rng.random((50, 2)) < rng.beta(0.5 * rate, 0.5 * (1 - rate), (50, 1))
        low, high = clustered_interval([int(one) for one in each.sum(axis=1)], [2] * 50)
        covered += low <= rate <= high
    assert covered >= 400 * 0.95 - 2 * np.sqrt(400 * 0.95 * 0.05)


def test_the_bootstrap_does_not_cover_near_one_and_this_does() -> None:
    """Why scenes are not drawn again: where scenes are all alike at 0.98, many samples hold no failure at all."""
    rng = np.random.default_rng(2)
    trials = np.full(50, 2.0)
    covered = np.zeros(2, int)
    for _ in range(30):
        hits = np.where(rng.random(50) < 0.98, 2.0, 0.0)
        for place, (low, high) in enumerate(
            (episode_bootstrap(hits, trials), clustered_interval([int(one) for one in hits], [2] * 50))
        ):
            covered[place] += low <= 0.98 <= high
    assert covered[0] < 25
    assert covered[1] >= 28
