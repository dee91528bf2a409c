"""Unpaired rates and several policies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.evaluation.rates.rate_tests import cochran_q, holm, letters, pairwise, unpaired_test


@pytest.mark.parametrize(
    ("first", "second", "p_value", "test"),
    [
        ((17, 20), (14, 20), 0.2871, "Boschloo"),  # Fisher: 0.451
        ((45, 50), (35, 50), 0.0132, "Boschloo"),  # Fisher: 0.023
        ((180, 250), (150, 250), 0.0061, "Fisher"),
        ((0, 50), (0, 50), 1.0, "Boschloo"),
        ((50, 50), (50, 50), 1.0, "Boschloo"),
        ((0, 0), (3, 5), 1.0, "Boschloo"),
    ],
)
def test_unpaired(first: tuple[int, int], second: tuple[int, int], p_value: float, test: str) -> None:
    found, name = unpaired_test(first, second)
    assert found == pytest.approx(p_value, abs=5e-5)
    assert name == test
    assert unpaired_test(second, first)[0] == pytest.approx(found, abs=1e-9)


def test_cochran() -> None:
    """Of three policies on 12 seeds: Q = 2 * (3 * 154 - 20**2) / (3 * 20 - 46) = 62 / 7 by hand."""
    rows = [(1, 1, 1)] * 4 + [(1, 1, 0)] * 2 + [(1, 0, 0)] * 4 + [(0, 0, 0)] * 2
    policies = [{seed: bool(row[place]) for seed, row in enumerate(rows)} for place in range(3)]
    totals = [sum(one.values()) for one in policies]
    assert totals == [10, 6, 4]
    q = 2 * (3 * sum(total**2 for total in totals) - 20**2) / (3 * 20 - sum(sum(row) ** 2 for row in rows))
    from scipy.stats import chi2

    assert cochran_q(policies) == pytest.approx(chi2.sf(q, 2))
    assert cochran_q([policies[0], policies[0]]) == 1.0


def test_cochran_needs_the_same_seeds() -> None:
    with pytest.raises(UsageError, match="did not meet the same seeds"):
        cochran_q([{0: True}, {1: True}])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_are_adjusted() -> None:
    good = dict.fromkeys(range(20), True)
    fair = {seed: seed >= 6 for seed in range(20)}
    found = pairwise([good, fair, good])
    assert found == pytest.approx({(0, 1): 3 * 0.03125, (0, 2): 1.0, (1, 2): 3 * 0.03125})


def test_letters_by_hand() -> None:
    assert letters([0.9, 0.85, 0.5], {(0, 1): 0.5, (0, 2): 0.001, (1, 2): 0.06}) == ["a", "ab", "b"]
    assert letters([0.1, 0.9], {(0, 1): 0.001}) == ["b", "a"]
    assert letters([0.5, 0.5, 0.5], {(0, 1): 1.0, (0, 2): 1.0, (1, 2): 1.0}) == ["a", "a", "a"]


@pytest.mark.parametrize("seed", range(20))
def test_policies_share_a_letter_exactly_where_no_test_rejects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 7))
    pairs = list(itertools.combinations(range(count), 2))
    p_values = {pair: float(rng.choice([0.001, 0.5])) for pair in pairs}
    found = letters([float(rate) for rate in rng.random(count)], p_values)
    for (i, j), p_value in p_values.items():
        assert bool(set(found[i]) & set(found[j])) == (p_value >= 0.05)
    assert all(found)
