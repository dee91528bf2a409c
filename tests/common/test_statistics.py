"""Statistics: exact values, merging, and the way to JSON and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolpilot.common.errors import DatasetError
from smolpilot.common.statistics import array_statistics, merge_statistics, statistics_from_json, statistics_to_json


def test_exact_values_of_large_offsets() -> None:
    """Float32 sums would lose the spread entirely; the population's std is asked for."""
    values = (1e6 + np.array([0.0, 0.25, 0.5, 0.75])).astype(np.float32)[:, None]
    stats = array_statistics(values)
    assert stats["mean"].tolist() == [1e6 + 0.375]
    np.testing.assert_allclose(stats["std"], np.std([0, 0.25, 0.5, 0.75]), rtol=1e-9)
    assert (stats["min"][0], stats["max"][0], stats["count"][0]) == (1e6, 1e6 + 0.75, 4)
    assert stats["q50"].tolist() == [1e6 + 0.375]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 99))
def test_merging_parts_equals_the_whole(lengths: list[int], width: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [generator.normal(generator.normal() * 5, 2, (length, width)) for length in lengths]
    merged = merge_statistics([{"action": array_statistics(part)} for part in parts])["action"]
    whole = array_statistics(np.concatenate(parts))
    for name in ("mean", "std", "min", "max", "count"):
        np.testing.assert_allclose(merged[name], whole[name], atol=1e-9)
    assert np.all(merged["q01"] <= merged["q99"])


def test_merging_keeps_what_all_parts_have() -> None:
    full = array_statistics(np.ones((3, 2)))
    bare = {name: full[name] for name in ("mean", "std", "min", "max", "count")}
    merged = merge_statistics([{"action": full, "only": full}, {"action": bare}])
    assert set(merged["action"]) == set(bare)
    assert set(merged["only"]) == set(full)
    with pytest.raises(DatasetError, match="different shapes"):
        merge_statistics([{"action": full}, {"action": array_statistics(np.ones((3, 4)))}])


def test_json_round_trip() -> None:
    stats = {"action": array_statistics(np.random.default_rng(0).normal(size=(20, 3)))}
    again = statistics_from_json(statistics_to_json(stats))
    assert set(again["action"]) == set(stats["action"])
    for name, value in stats["action"].items():
        assert again["action"][name].dtype == np.float64
        assert np.array_equal(again["action"][name], value)
    for wrong in ("[1]", '{"action": {"mean": ["x"]}}', "{", '{"action": [1]}'):
        with pytest.raises(DatasetError, match="cannot be read"):
            statistics_from_json(wrong)
    with pytest.raises(ValueError, match="at least one row"):
        array_statistics(np.zeros((0, 3)))
