"""Two policies on the same episodes: who succeeded where, McNemar's exact test and Tango's interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from smolpilot.common.errors import UsageError
from smolpilot.common.text import pluralize

from .intervals import CONFIDENCE, Interval


@dataclass(frozen=True)
class PairedCounts:
    """The 2x2 table of two policies A and B, in episodes of the same seeds."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @classmethod
    def of(cls, a: Mapping[int, bool], b: Mapping[int, bool]) -> PairedCounts:
        """From seed -> success of either. UsageError where the seeds differ: such rates are compared unpaired."""
        if a.keys() != b.keys():
            alone = len(a.keys() ^ b.keys())
            raise UsageError(
                f"The two rollouts do not share {pluralize(alone, 'seed')}.",
                expected="the same seeds in both, so that each scene is met by both policies",
                fix="run both with the same --seed and --episodes",
            )
        cells = [(bool(a[seed]), bool(b[seed])) for seed in a]
        return cls(*(cells.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def episodes(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def discordant(self) -> int:
        """Episodes in which one succeeded and the other did not: all that the test looks at."""
        return self.only_a + self.only_b

    @property
    def difference(self) -> float:
        """Rate of A minus rate of B; nan without episodes."""
        return (self.only_a - self.only_b) / self.episodes if self.episodes else math.nan


def mcnemar(counts: PairedCounts) -> float:
    """Two-sided exact p value that A and B succeed equally often; 1 where they never differ.

    Source: Q. McNemar, Psychometrika 12 (1947), with the binomial distribution in place of chi squared.
    """
    from scipy.stats import binomtest

    if counts.discordant == 0:
        return 1.0
    return float(binomtest(min(counts.only_a, counts.only_b), counts.discordant, 0.5).pvalue)


def tango_interval(counts: PairedCounts, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of the difference of two paired rates, A - B; (-1, 1) without episodes.

    Source: T. Tango, Stat. Med. 17 (1998): the differences that the score test does not reject.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if counts.episodes == 0:
        return Interval(-1.0, 1.0)
    limit = float(norm.ppf((1 + confidence) / 2))
    middle = counts.difference

    def beyond(difference: float) -> float:
        return abs(_tango_score(counts, difference)) - limit

    # The score falls as the assumed difference grows, and is 0 at the observed one.
    low = -1.0 if middle <= -1 or beyond(-1 + 1e-12) < 0 else brentq(beyond, -1 + 1e-12, middle)
    high = 1.0 if middle >= 1 or beyond(1 - 1e-12) < 0 else brentq(beyond, middle, 1 - 1e-12)
    return Interval(float(low), float(high))


def _tango_score(counts: PairedCounts, difference: float) -> float:
    """Standardized distance of the observed difference from an assumed one, with the nuisance rate at its maximum
    likelihood under that assumption."""
    n, b, c = counts.episodes, counts.only_a, counts.only_b
    square = 2 * n
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear - 4 * square * constant))
    nuisance = (root - linear) / (2 * square)
    variance = n * (2 * nuisance + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
