"""Tests of two unpaired rates and of several policies, corrected for how many pairs are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError

from .intervals import check_counts
from .paired import PairedCounts, mcnemar

EXACT_TRIALS = 200  # Boschloo's test takes under a second up to here, and many seconds at 500

Successes = Mapping[int, bool]
"""Seed -> success of one policy."""


def unpaired_test(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, str]:
    """Two-sided p value that two policies succeed equally often in different episodes, and the test's name.

    first, second: (successes, trials). Boschloo's exact test, Fisher's beyond 200 episodes. 1 without episodes.
    """
    from scipy.stats import boschloo_exact, fisher_exact

    for successes, trials in (first, second):
        check_counts(successes, trials)
    name = "Boschloo" if max(first[1], second[1]) <= EXACT_TRIALS else "Fisher"
    failures = (first[1] - first[0], second[1] - second[0])
    if not (first[1] and second[1] and sum(failures) and first[0] + second[0]):
        return 1.0, name  # nobody, or everybody, succeeded: nothing tells them apart
    table = [[first[0], second[0]], list(failures)]
    found = boschloo_exact(table) if name == "Boschloo" else fisher_exact(table)
    return min(1.0, float(found.pvalue)), name


def cochran_q(policies: Sequence[Successes]) -> float:
    """p value that all policies succeed equally often on the same seeds; 1 where no episode tells any apart.

    Source: W. Cochran, Biometrika 37 (1950). UsageError where seeds differ.
    """
    from scipy.stats import chi2

    table = _table(policies)
    by_episode, by_policy = table.sum(axis=1), table.sum(axis=0)
    k = table.shape[1]
    spread = float((by_episode * (k - by_episode)).sum())
    if spread == 0:
        return 1.0
    statistic = (k - 1) * k * float(((by_policy - by_policy.mean()) ** 2).sum()) / spread
    return float(chi2.sf(statistic, k - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number, in the order given. Source: S. Holm, Scand. J. Stat. 6 (1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * float(p_values[place]))
        adjusted[place] = min(1.0, largest)
    return adjusted


def pairwise(policies: Sequence[Successes]) -> dict[tuple[int, int], float]:
    """Holm-adjusted exact McNemar p value of each pair of policies, by their places."""
    pairs = list(combinations(range(len(policies)), 2))
    plain = [mcnemar(PairedCounts.of(policies[a], policies[b])) for a, b in pairs]
    return dict(zip(pairs, holm(plain), strict=True))


def letters(rates: Sequence[float], p_values: Mapping[tuple[int, int], float], alpha: float = 0.05) -> list[str]:
    """A compact letter display: policies that share a letter are not told apart; `a` goes to the highest rate.

    p_values: of each pair (i < j), adjusted already. Source: H.-P. Piepho, J. Comput. Graph. Stat. 13 (2004):
    insert and absorb.
    """
    columns = [set(range(len(rates)))]
    for (i, j), p_value in p_values.items():
        if p_value >= alpha:
            continue
        for column in [one for one in columns if {i, j} <= one]:
            columns.remove(column)
            columns += [column - {i}, column - {j}]
        columns = [one for one in columns if not any(one < other for other in columns)]
        columns = [one for at, one in enumerate(columns) if one not in columns[:at]]
    best_first = sorted(range(len(rates)), key=lambda place: (-rates[place], place))
    rank = {place: number for number, place in enumerate(best_first)}
    columns.sort(key=lambda column: sorted(rank[place] for place in column))
    return [
        "".join(_letter(number) for number, column in enumerate(columns) if place in column)
        for place in range(len(rates))
    ]


def _letter(number: int) -> str:
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else f"{letter}{number // 26}"


def _table(policies: Sequence[Successes]) -> npt.NDArray[np.int64]:
    """Successes [episodes, policies] as 0 and 1."""
    seeds = list(policies[0])
    for other in policies[1:]:
        if other.keys() != policies[0].keys():
            raise UsageError(
                "The policies did not meet the same seeds.", fix="run all with the same --seed and --episodes"
            )
    return np.array([[bool(one[seed]) for one in policies] for seed in seeds], np.int64).reshape(
        len(seeds), len(policies)
    )
