"""Every statistic over a grid, against two packages that others wrote: robostats and fieldtrial.

They agree with smolpilot in all that is compared here. Where they offer something else they are not asked: robostats'
unpaired interval is Miettinen and Nurminen's, not Newcombe's, and neither has a bootstrap over episodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import robostats
from fieldtrial import stats as fieldtrial
from fieldtrial.stats.compare import boschloo_test, fisher_test, newcombe_interval
from robostats.records import EpisodeRecord, PairedResult, RecordSet, align, pair

from smolpilot.evaluation.rates.intervals import difference_interval, rate_interval
from smolpilot.evaluation.rates.paired import PairedCounts, mcnemar, tango_interval
from smolpilot.evaluation.rates.power import episodes_needed, paired_power, smallest_difference
from smolpilot.evaluation.rates.rate_tests import cochran_q, holm, letters, pairwise, unpaired_test

SIZES = (1, 2, 5, 20, 50, 137)
RATES = [(k, n) for n in SIZES for k in sorted({0, 1, n // 3, n // 2, n - 1, n})]
TABLES = [
    (b, c, n)
    for n in (1, 2, 6, 20, 50, 200)
    for b in sorted({0, 1, n // 4, n // 2, n})
    for c in sorted({0, 1, n // 5, n})
    if b + c <= n
]
type Policies = list[dict[int, bool]]


def recorded(name: str, successes: dict[int, bool]) -> RecordSet:
    return RecordSet(
        EpisodeRecord(policy_id=name, task_id="t", success=success, scenario_id=f"{seed:04d}")
        for seed, success in successes.items()
    )


def table_of(only_a: int, only_b: int, episodes: int) -> PairedResult:
    """The same table as robostats counts it from the episodes."""
    both = (episodes - only_a - only_b) // 2
    rows = [(True, False)] * only_a + [(False, True)] * only_b + [(True, True)] * both
    rows += [(False, False)] * (episodes - len(rows))
    a, b = (recorded(name, {seed: row[place] for seed, row in enumerate(rows)}) for place, name in enumerate("ab"))
    return pair(a, b)


def policies(seed: int) -> Policies:
    """Two to six policies that met the same 5 to 60 episodes; easy scenes are easy for all."""
    rng = np.random.default_rng(seed)
    count, episodes = int(rng.integers(2, 7)), int(rng.integers(5, 61))
    ease, skill = rng.random(episodes), rng.random(count)
    succeeded = rng.random((count, episodes)) < (ease[None] + 2 * skill[:, None]) / 3
    return [{place: bool(one) for place, one in enumerate(row)} for row in succeeded]


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_one_rate(confidence: float) -> None:
    for successes, trials in RATES:
        ours = rate_interval(successes, trials, confidence)
        theirs = robostats.clopper_pearson(successes, trials, confidence)
        assert ours == pytest.approx((theirs.lower, theirs.upper), abs=1e-9)
        other = fieldtrial.proportion_ci(successes, trials, level=confidence, method="clopper-pearson").interval
        assert ours == pytest.approx((other.low, other.high), abs=1e-9)


def test_the_difference_of_unpaired_rates() -> None:
    for first, second in itertools.product(RATES, RATES):
        assert difference_interval(first, second) == pytest.approx(newcombe_interval(*first, *second), abs=1e-9)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_difference_of_paired_rates(confidence: float) -> None:
    for only_a, only_b, episodes in TABLES:
        ours = tango_interval(PairedCounts(0, only_a, only_b, episodes - only_a - only_b), confidence)
        assert ours == pytest.approx(fieldtrial.tango_interval(only_a, only_b, episodes, level=confidence), abs=1e-9)
        theirs = robostats.paired_difference(table_of(only_a, only_b, episodes), confidence=confidence)
        assert ours == pytest.approx((theirs.lower, theirs.upper), abs=1e-9)


def test_mcnemar() -> None:
    for only_a, only_b, episodes in TABLES:
        ours = mcnemar(PairedCounts(0, only_a, only_b, episodes - only_a - only_b))
        assert ours == pytest.approx(fieldtrial.mcnemar_exact(only_a, only_b).pvalue, abs=1e-12)
        assert ours == pytest.approx(robostats.mcnemar(table_of(only_a, only_b, episodes)).p_value, abs=1e-12)


def test_no_episode_that_differs_says_nothing() -> None:
    assert mcnemar(PairedCounts(7, 0, 0, 3)) == 1.0
    assert robostats.mcnemar(table_of(0, 0, 10)).p_value == 1.0
    assert fieldtrial.mcnemar_exact(0, 0).pvalue == 1.0


@pytest.mark.parametrize("trials", [5, 20, 50])
def test_boschloo(trials: int) -> None:
    """Also with sizes that differ."""
    counts = sorted({1, trials // 3, trials // 2, trials - 1})
    for first, second in itertools.product(counts, counts):
        ours, name = unpaired_test((first, trials), (second, trials + 3))
        theirs = boschloo_test(first, trials, second, trials + 3).pvalue
        assert ours == pytest.approx(theirs, abs=1e-9)
        assert name == "Boschloo"


@pytest.mark.parametrize(("first", "second"), [((180, 250), (150, 250)), ((3, 400), (9, 380)), ((201, 201), (1, 4))])
def test_fisher(first: tuple[int, int], second: tuple[int, int]) -> None:
    ours, name = unpaired_test(first, second)
    assert ours == pytest.approx(fisher_test(*first, *second).pvalue, abs=1e-12)
    assert name == "Fisher"


@pytest.mark.parametrize("seed", range(30))
def test_several_policies(seed: int) -> None:
    """Cochran's Q, Holm's pairs, and the policies that may be the best."""
    several = policies(seed)
    aligned = align(*(recorded(f"p{place}", one) for place, one in enumerate(several)))
    matrix = np.array([list(one.values()) for one in several], np.int64).T
    theirs = fieldtrial.cochran_q(matrix, adjustment="holm")
    assert cochran_q(several) == pytest.approx(theirs.pvalue, abs=1e-12)
    assert cochran_q(several) == pytest.approx(robostats.cochran_q(aligned).p_value, abs=1e-12)

    pairs = pairwise(several)
    assert pairs == pytest.approx({(one.arm_a, one.arm_b): one.adjusted_pvalue for one in theirs.comparisons})
    found = robostats.indistinguishable_set(aligned)
    assert pairs == pytest.approx(
        # Of a single pair robostats tells no corrected one: it is the same.
        {
            (one.index_a, one.index_b): one.p_value if one.p_value_corrected is None else one.p_value_corrected
            for one in found.pairwise.pairs
        }
    )

    rates = [float(rate) for rate in matrix.mean(axis=0)]
    shown = letters(rates, pairs)
    for (i, j), p_value in pairs.items():
        assert bool(set(shown[i]) & set(shown[j])) == (p_value >= 0.05)
    # Whom nobody beats: the best by rate, and all that share a letter with everybody above them.
    unbeaten = [
        place
        for place in range(len(several))
        if not any(
            rates[other] > rates[place] and not set(shown[other]) & set(shown[place]) for other in range(len(several))
        )
    ]
    assert tuple(unbeaten) == found.members


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03], [0.5], [0.02, 0.02, 0.9, 0.001], [0.0, 1.0]])
def test_holm(values: Sequence[float]) -> None:
    assert holm(values) == pytest.approx(list(fieldtrial.adjust_pvalues(values, method="holm").adjusted))


@pytest.mark.parametrize(("first", "second"), [(0.9, 0.7), (0.6, 0.1), (0.5, 0.5), (0.95, 0.9)])
def test_power(first: float, second: float) -> None:
    for episodes in (1, 6, 30, 100):
        theirs = fieldtrial.mcnemar_power(first * (1 - second), second * (1 - first), episodes)
        assert paired_power(first, second, episodes) == pytest.approx(theirs.power, abs=1e-9)


def test_the_episodes_that_a_difference_needs_are_the_first_that_show_it() -> None:
    needed = episodes_needed(0.9, 0.7)
    assert needed is not None
    powers = [fieldtrial.mcnemar_power(0.27, 0.07, count).power for count in (needed - 1, needed)]
    assert powers[0] < 0.8 <= powers[1]


@pytest.mark.parametrize(("rate", "episodes"), [(0.9, 50), (0.5, 100)])
def test_the_smallest_difference_that_is_shown(rate: float, episodes: int) -> None:
    found = smallest_difference(rate, episodes)
    assert found is not None
    others = [other for other in (rate - found, rate + found) if 0 < other < 1]

    def power(other: float) -> float:
        return fieldtrial.mcnemar_power(rate * (1 - other), other * (1 - rate), episodes).power

    assert max(power(other) for other in others) >= 0.8 > max(power(other + (rate - other) * 0.02) for other in others)
