"""Two policies on the same seeds."""

from __future__ import annotations

import math

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.evaluation.rates.paired import PairedCounts, mcnemar, tango_interval


def counts(only_a: int, only_b: int, episodes: int) -> PairedCounts:
    return PairedCounts(0, only_a, only_b, episodes - only_a - only_b)


def test_the_table_of_two_rollouts() -> None:
    a = {0: True, 1: True, 2: False, 3: False, 4: True}
    b = {4: True, 3: False, 2: True, 1: False, 0: False}  # the order of the seeds does not matter
    found = PairedCounts.of(a, b)
    assert found == PairedCounts(both=1, only_a=2, only_b=1, neither=1)
    assert found.difference == pytest.approx(0.2)
    assert (found.episodes, found.discordant) == (5, 3)


def test_other_seeds_are_not_paired() -> None:
    with pytest.raises(UsageError, match="do not share 2 seeds"):
        PairedCounts.of({0: True, 1: True}, {0: True, 2: False})


def test_policies_that_never_differ_are_not_told_apart() -> None:
    """statsmodels' `mcnemar(exact=False)` gives p = 0 here."""
    assert mcnemar(PairedCounts(30, 0, 0, 20)) == 1.0
    low, high = tango_interval(PairedCounts(30, 0, 0, 20))
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.1


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"), [(5, 1, 0.21875), (0, 5, 0.0625), (0, 6, 0.03125), (10, 10, 1.0)]
)
def test_mcnemar(only_a: int, only_b: int, p_value: float) -> None:
    assert mcnemar(counts(only_a, only_b, 40)) == pytest.approx(p_value)
    assert mcnemar(counts(only_b, only_a, 40)) == pytest.approx(p_value)


@pytest.mark.parametrize(
    ("only_a", "only_b", "episodes", "low", "high"),
    [
        (5, 1, 20, -0.0491285936, 0.4369082634),  # test_rates_oracle.py has a grid
        (30, 10, 200, 0.0398963654, 0.1636418092),
        (20, 0, 20, 0.6777496839, 1.0),
    ],
)
def test_tango(only_a: int, only_b: int, episodes: int, low: float, high: float) -> None:
    assert tango_interval(counts(only_a, only_b, episodes)) == pytest.approx((low, high), abs=1e-9)
    turned = tango_interval(counts(only_b, only_a, episodes))
    assert turned == pytest.approx((-high, -low), abs=1e-9)


def test_nothing_is_known_without_episodes() -> None:
    none = PairedCounts(0, 0, 0, 0)
    assert tango_interval(none) == (-1.0, 1.0)
    assert math.isnan(none.difference)
