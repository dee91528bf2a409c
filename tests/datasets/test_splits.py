"""Held-out episodes: whole episodes, every task in its share, the same each time."""

from __future__ import annotations

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolpilot.datasets import split_episodes
from smolpilot.errors import UsageError


def recording(tasks: list[str]):
    episodes = [types.SimpleNamespace(index=3 * i, tasks=[task], length=5) for i, task in enumerate(tasks)]
    return types.SimpleNamespace(episodes=episodes)


def test_every_task_gives_its_share():
    tasks = ["a"] * 40 + ["b"] * 20 + ["c"] * 20
    train, held_out = split_episodes(recording(tasks), held_out=0.1, seed=3)
    assert sorted(train + held_out) == [3 * i for i in range(80)]
    assert sorted(tasks[index // 3] for index in held_out) == ["a"] * 4 + ["b"] * 2 + ["c"] * 2


def test_seeds_repeat_and_differ():
    meta = recording(["a", "b"] * 20)
    assert split_episodes(meta, seed=1) == split_episodes(meta, seed=1)
    assert len({tuple(split_episodes(meta, seed=seed)[1]) for seed in range(5)}) > 1


def test_few_episodes():
    assert split_episodes(recording(["a"])) == ([0], [])
    train, held_out = split_episodes(recording(["a", "b"]))
    assert (len(train), len(held_out)) == (1, 1)
    assert split_episodes(recording(["a"] * 5), held_out=0) == ([0, 3, 6, 9, 12], [])
    for wrong in (1.0, -0.1):
        with pytest.raises(UsageError, match="held_out"):
            split_episodes(recording(["a"]), held_out=wrong)


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=40), st.floats(0.01, 0.6), st.integers(0, 9))
def test_properties(tasks, share, seed):
    train, held_out = split_episodes(recording(tasks), held_out=share, seed=seed)
    assert sorted(train + held_out) == [3 * i for i in range(len(tasks))]
    assert train == sorted(train)
    assert 1 <= len(held_out) < len(tasks)
    if len(held_out) <= len(tasks) - len(set(tasks)):
        assert {tasks[index // 3] for index in train} == set(tasks)
