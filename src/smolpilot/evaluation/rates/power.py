"""What a number of episodes can show, and how many a difference needs; several trainings of one recipe."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError

from .intervals import CONFIDENCE, Interval, check_counts

POWER = 0.8
ALPHA = 0.05
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
    interval: Interval  # over the training seeds, Student's t
    between_seeds: float  # standard deviation that another training seed adds
    within_seeds: float  # standard deviation that the number of episodes alone would give


def recipe_rate(counts: Sequence[tuple[int, int]], confidence: float = CONFIDENCE) -> RecipeRate:
    """From (successes, episodes) of one checkpoint for each training seed. UsageError for fewer than three: another
    seed moves success by 10 to 15 points, which one or two checkpoints cannot tell from the recipe."""
    from scipy.stats import t

    if len(counts) < 3:
        raise UsageError(
            f"A claim about a recipe rests on {len(counts)} training seeds.", expected="three or more",
            fix="train the same recipe again with other values of --seed",
        )  # fmt: skip
    for successes, trials in counts:
        check_counts(successes, trials)
    rates = np.array([successes / trials for successes, trials in counts])
    mean = float(rates.mean())
    within = float(
        np.mean([rate * (1 - rate) / max(1, trials - 1) for rate, (_, trials) in zip(rates, counts, strict=True)])
    )
    observed = float(rates.var(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, len(counts) - 1)) * math.sqrt(observed / len(counts))
    return RecipeRate(
        mean=mean,
        interval=Interval(max(0.0, mean - half), min(1.0, mean + half)),
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
