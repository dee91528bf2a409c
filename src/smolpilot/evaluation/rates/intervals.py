"""Intervals of a rate, of a difference of two rates, and of an error that is averaged over episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError

CONFIDENCE = 0.95
_RESAMPLES = 10_000


class Interval(NamedTuple):
    """The two ends of a two-sided interval."""

    low: float
    high: float


def rate_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Clopper-Pearson (exact) interval of a success rate, as fractions; (0, 1) without trials.

    It covers the true rate at least as often as it says. Wilson's does not near 0 and 1, where policies live: of 50
    episodes at a true rate of 0.99 its 95 % interval covers it in 91 %.
    Source: C. Clopper, E. Pearson, Biometrika 26 (1934).
    """
    from scipy.stats import binomtest

    check_counts(successes, trials)
    if trials == 0:
        return Interval(0.0, 1.0)
    found = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return Interval(float(found.low), float(found.high))


def clustered_interval(successes: Sequence[int], trials: Sequence[int], confidence: float = CONFIDENCE) -> Interval:
    """Interval of a rate whose trials come in clusters, such as the episodes of one scene under each of its texts.

    successes, trials: of each cluster. Korn and Graubard's: Clopper-Pearson with the number of independent trials that
    would vary as much as the clusters do; here never more than the trials, and never fewer than the clusters are worth,
    which is also what counts where all succeed or none, and nothing tells how alike a cluster's trials are. The
    bootstrap of whole clusters knows of no failure where it saw none: of 50 pairs at a true rate of 0.98 its 95 %
    interval covers it in two of three cases. Source: E. Korn, B. Graubard, Survey Methodology 24 (1998).
    """
    from scipy.stats import beta, t

    for one, of in zip(successes, trials, strict=True):
        check_counts(one, of)
    hits, tried = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    total, clusters = float(tried.sum()), int(np.count_nonzero(tried))
    if total == 0:
        return Interval(0.0, 1.0)
    rate = float(hits.sum()) / total
    fewest = total**2 / float((tried**2).sum())
    effective = fewest
    if clusters > 1 and 0 < rate < 1:
        variance = clusters / (clusters - 1) * float(((hits - rate * tried) ** 2).sum()) / total**2
        tail = (1 + confidence) / 2
        worth = float(t.ppf(tail, total - 1) / t.ppf(tail, clusters - 1)) ** 2 * rate * (1 - rate)
        effective = total if variance * total <= worth else max(fewest, worth / variance)
    reached, missed = rate * effective, (1 - rate) * effective
    low = float(beta.ppf((1 - confidence) / 2, reached, missed + 1)) if rate > 0 else 0.0
    high = float(beta.ppf((1 + confidence) / 2, reached + 1, missed)) if rate < 1 else 1.0
    return Interval(low, high)


def rate_row(successes: int, episodes: int) -> dict[str, Any]:
    """A rate as documents have it: counts, share, exact interval."""
    return {
        "episodes": episodes,
        "successes": successes,
        "success_rate": successes / episodes if episodes else 0.0,
        "interval": list(rate_interval(successes, episodes)),
    }


def difference_interval(first: tuple[int, int], second: tuple[int, int], confidence: float = CONFIDENCE) -> Interval:
    """Newcombe's hybrid score interval of the difference of two unpaired rates, first - second.

    first, second: (successes, trials), of different episodes. Source: R. Newcombe, Stat. Med. 17 (1998), method 10.
    """
    from scipy.stats import binomtest

    ends = []
    for successes, trials in (first, second):
        check_counts(successes, trials)
        if trials == 0:
            return Interval(-1.0, 1.0)
        found = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
        ends.append((successes / trials, float(found.low), float(found.high)))
    (p, p_low, p_high), (q, q_low, q_high) = ends
    return Interval(
        p - q - math.hypot(p - p_low, q_high - q),
        p - q + math.hypot(p_high - p, q - q_low),
    )


def episode_bootstrap(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], *, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """Interval of a mean over frames that draws whole EPISODES: frames of one episode are no independent samples.

    sums, counts: [E], of each episode the sum of the errors and how many there are. (nan, nan) for fewer than two
    episodes, from which no spread can be told. BCa of 10,000 draws; source: B. Efron, J. Am. Stat. Assoc. 82 (1987).
    """
    from scipy.stats import bootstrap

    kept = counts > 0
    sums, counts = sums[kept], counts[kept]
    at_once = max(1, min(_RESAMPLES, 10_000_000 // max(1, len(sums))))  # 80 MB for each array of draws
    if len(sums) < 2 or not np.isfinite(sums).all():
        return Interval(math.nan, math.nan)
    if np.ptp(sums / counts) == 0:
        same = float(sums[0] / counts[0])
        return Interval(same, same)
    found = bootstrap(
        (sums, counts), lambda total, count, axis: total.sum(axis) / count.sum(axis), paired=True, vectorized=True,
        n_resamples=_RESAMPLES, batch=at_once, confidence_level=confidence, method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(float(found.low), float(found.high))


def check_counts(successes: int, trials: int) -> None:
    """UsageError for counts that cannot be."""
    if not 0 <= successes <= trials:
        raise UsageError(
            f"{successes} of {trials} episodes cannot have succeeded.", expected="0 <= successes <= episodes"
        )
