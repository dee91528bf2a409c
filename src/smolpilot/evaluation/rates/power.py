"""What a number of episodes can show, and how many a difference needs; several trainings of one recipe."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError

from .intervals import CONFIDENCE, Interval, check_counts, rate_interval

POWER = 0.8
ALPHA = 0.05
RECIPE_SEEDS = 3  # with fewer nothing is claimed of a recipe
MOST_EPISODES = 5_000  # beyond, `episodes_needed` says that no practical number would do


def paired_power(first: float, second: float, episodes: int, alpha: float = ALPHA) -> float:
    """Chance that McNemar's exact test tells rates `first` and `second` apart in so many shared episodes.

    Successes of the two are taken as independent within an episode, which is cautious: scenes that are easy or hard
    for both make fewer episodes do.
    """
    from scipy.stats import binom

    only_a, only_b = first * (1 - second), second * (1 - first)
    discordant = only_a + only_b
    if discordant == 0:
        return 0.0
    sizes = np.arange(episodes + 1)
    critical = _critical(episodes, alpha)
    share = only_a / discordant
    rejects = binom.cdf(critical, sizes, share) + binom.sf(sizes - critical - 1, sizes, share)
    return float((binom.pmf(sizes, episodes, discordant) * np.where(critical < 0, 0.0, rejects)).sum())


def smallest_difference(rate: float, episodes: int, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """The smallest difference from `rate` that so many shared episodes show with this power; None where none does.

    The nearer of a higher and a lower second rate, as a fraction.
    """
    found = [_nearest(rate, end, episodes, power, alpha) for end in (0.0, 1.0)]
    differences = [abs(one - rate) for one in found if one is not None]
    return min(differences) if differences else None


def episodes_needed(first: float, second: float, power: float = POWER, alpha: float = ALPHA) -> int | None:
    """Shared episodes in which rates `first` and `second` are told apart with this power; None above 5,000."""
    if first == second or paired_power(first, second, MOST_EPISODES, alpha) < power:
        return None
    low, high = 1, MOST_EPISODES
    while low < high:
        middle = (low + high) // 2
        if paired_power(first, second, middle, alpha) >= power:
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True)
class RecipeRate:
    """The rate of a recipe over several training seeds, with the two spreads apart; fractions."""

    mean: float
    interval: Interval  # over the training seeds, Student's t, and no narrower than one checkpoint's exact one
    between_seeds: float  # standard deviation that another training seed adds
    within_seeds: float  # standard deviation that the number of episodes alone would give


@dataclass(frozen=True)
class RecipeError:
    """The error of a recipe over several training seeds that are scored on the same episodes."""

    mean: float
    interval: Interval | None  # over the training seeds, Student's t; None for fewer than three
    between_seeds: float  # standard deviation of the seeds' errors
    over_episodes: float  # standard error of one checkpoint's error over the episodes; nan for a single episode


def recipe_error(errors: npt.NDArray[np.float64], confidence: float = CONFIDENCE) -> RecipeError:
    """From the errors [S, E] of one checkpoint for each training seed, on the same episodes."""
    seeds, episodes = errors.shape
    means = errors.mean(axis=1)
    between = float(means.std(ddof=1)) if seeds > 1 else math.nan
    over = float((errors.std(axis=1, ddof=1) / math.sqrt(episodes)).mean()) if episodes > 1 else math.nan
    interval = _over_seeds(means, confidence) if seeds >= RECIPE_SEEDS else None
    return RecipeError(float(means.mean()), interval, between, over)


def _over_seeds(values: npt.NDArray[np.float64], confidence: float) -> Interval:
    """Student's interval of the mean of one value for each training seed."""
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def recipe_rate(counts: Sequence[tuple[int, int]], confidence: float = CONFIDENCE) -> RecipeRate:
    """From (successes, episodes) of one checkpoint for each training seed. UsageError for fewer than three: another
    seed moves success by 10 to 15 points, which one or two checkpoints cannot tell from the recipe."""
    if len(counts) < RECIPE_SEEDS:
        raise UsageError(
            f"A claim about a recipe rests on {len(counts)} training seeds.", expected="three or more",
            fix="train the recipe with more seeds: train --seeds 0,1,2",
        )  # fmt: skip
    for successes, trials in counts:
        check_counts(successes, trials)
    rates = np.array([successes / trials for successes, trials in counts])
    mean = float(rates.mean())
    within = float(
        np.mean([rate * (1 - rate) / max(1, trials - 1) for rate, (_, trials) in zip(rates, counts, strict=True)])
    )
    observed = float(rates.var(ddof=1))
    low, high = _over_seeds(rates, confidence)
    # Seeds that agree by chance leave no spread between them; that so few episodes cannot tell is left.
    episodes = min(trials for _, trials in counts)
    one = rate_interval(round(mean * episodes), episodes, confidence)
    return RecipeRate(
        mean=mean,
        interval=Interval(max(0.0, min(low, one.low)), min(1.0, max(high, one.high))),
        between_seeds=math.sqrt(max(0.0, observed - within)),
        within_seeds=math.sqrt(within),
    )


def _nearest(rate: float, end: float, episodes: int, power: float, alpha: float) -> float | None:
    """The second rate between `rate` and `end` that is nearest to `rate` and told apart; None where none is."""
    if paired_power(rate, end, episodes, alpha) < power:
        return None
    same, apart = rate, end
    while abs(apart - same) > 1e-4:
        middle = (same + apart) / 2
        if paired_power(rate, middle, episodes, alpha) >= power:
            apart = middle
        else:
            same = middle
    return apart


@functools.lru_cache(maxsize=64)
def _critical(episodes: int, alpha: float) -> npt.NDArray[np.int64]:
    """For each number of discordant episodes the largest count of the rarer side that rejects; -1 for none."""
    from scipy.stats import binom

    sizes = np.arange(episodes + 1)
    found = binom.ppf(alpha / 2, sizes, 0.5).astype(np.int64)
    # ppf gives the first count whose probability reaches alpha / 2: it rejects only if it does not exceed it.
    return np.where(binom.cdf(found, sizes, 0.5) <= alpha / 2, found, found - 1)
