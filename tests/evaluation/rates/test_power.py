"""What so many episodes can show."""

from __future__ import annotations

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.evaluation.rates.intervals import rate_interval
from smolpilot.evaluation.rates.paired import PairedCounts, mcnemar
from smolpilot.evaluation.rates.power import (
    episodes_needed,
    paired_power,
    recipe_rate,
    smallest_difference,
)


@pytest.mark.parametrize(
    ("first", "second", "episodes"), [(0.9, 0.7, 70), (0.9, 0.8, 200), (0.6, 0.1, 20), (0.5, 0.5, 30)]
)
def test_power_is_the_share_of_simulated_studies_that_reject(first: float, second: float, episodes: int) -> None:
    rng = np.random.default_rng(0)
    studies = 2_000
    a, b = (rng.random((studies, episodes)) < rate for rate in (first, second))
    tables: dict[tuple[int, int], int] = {}
    for study in range(studies):
        key = (int((a[study] & ~b[study]).sum()), int((b[study] & ~a[study]).sum()))
        tables[key] = tables.get(key, 0) + 1
    rejected = sum(
        number
        for (only_a, only_b), number in tables.items()
        if mcnemar(PairedCounts(0, only_a, only_b, episodes - only_a - only_b)) < 0.05
    )
    assert paired_power(first, second, episodes) == pytest.approx(rejected / studies, abs=0.03)


def test_a_test_of_size_5_percent_rejects_no_more_than_that() -> None:
    for rate in (0.2, 0.5, 0.9):
        assert paired_power(rate, rate, 100) <= 0.05


def test_episodes_that_a_difference_needs() -> None:
    needed = episodes_needed(0.9, 0.7)
    assert needed is not None
    assert 65 <= needed <= 80
    assert paired_power(0.9, 0.7, needed) >= 0.8
    assert episodes_needed(0.9, 0.7) == episodes_needed(0.7, 0.9)
    assert episodes_needed(0.5, 0.5) is None
    assert episodes_needed(0.5, 0.501) is None


@pytest.mark.parametrize(("rate", "episodes"), [(0.9, 50), (0.5, 100), (0.0, 20)])
def test_the_smallest_difference_is_just_shown(rate: float, episodes: int) -> None:
    found = smallest_difference(rate, episodes)
    assert found is not None
    others = [other for other in (rate - found, rate + found) if 0 <= other <= 1]
    assert max(paired_power(rate, other, episodes) for other in others) >= 0.8
    assert max(paired_power(rate, other + (rate - other) * 0.02, episodes) for other in others) < 0.8


def test_three_episodes_show_nothing() -> None:
    assert smallest_difference(0.5, 3) is None


def test_the_two_spreads_of_a_recipe() -> None:
    """Seeds that truly differ by 0.1, and seeds that differ by chance alone."""
    rng = np.random.default_rng(1)
    rates = rng.normal(0.6, 0.1, 400).clip(0, 1)
    spread = recipe_rate([(int(k), 50) for k in rng.binomial(50, rates)])
    assert spread.between_seeds == pytest.approx(0.1, abs=0.015)
    assert spread.within_seeds == pytest.approx(np.sqrt(0.23 / 50), abs=0.005)
    alike = recipe_rate([(int(k), 50) for k in rng.binomial(50, 0.6, 400)])
    assert alike.between_seeds < 0.03


def test_one_checkpoint_is_no_recipe() -> None:
    with pytest.raises(UsageError, match="rests on 2 training seeds"):
        recipe_rate([(5, 10), (7, 10)])


def test_seeds_that_agree_leave_no_spread() -> None:
    found = recipe_rate([(10, 10)] * 3)
    assert (found.mean, found.between_seeds, found.within_seeds) == (1.0, 0.0, 0.0)
    assert found.interval == rate_interval(10, 10)  # ten episodes cannot tell more of any of them
