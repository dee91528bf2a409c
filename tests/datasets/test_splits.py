"""Held-out episodes: whole episodes, every task in its share, the same each time."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolpilot.common.errors import UsageError
from smolpilot.datasets import episode_ranges, parse_episodes, split_episodes


def recording(tasks: list[str]) -> Any:
    episodes = [types.SimpleNamespace(index=3 * i, tasks=[task], length=5) for i, task in enumerate(tasks)]
    return types.SimpleNamespace(episodes=episodes)


def test_every_task_gives_its_share() -> None:
    tasks = ["a"] * 40 + ["b"] * 20 + ["c"] * 20
    train, held_out = split_episodes(recording(tasks), held_out=0.1, seed=3)
    assert sorted(train + held_out) == [3 * i for i in range(80)]
    assert sorted(tasks[index // 3] for index in held_out) == ["a"] * 4 + ["b"] * 2 + ["c"] * 2


def test_seeds_repeat_and_differ() -> None:
    meta = recording(["a", "b"] * 20)
    assert split_episodes(meta, seed=1) == split_episodes(meta, seed=1)
    assert len({tuple(split_episodes(meta, seed=seed)[1]) for seed in range(5)}) > 1


def test_few_episodes() -> None:
    assert split_episodes(recording(["a"])) == ([0], [])
    train, held_out = split_episodes(recording(["a", "b"]))
    assert (len(train), len(held_out)) == (1, 1)
    assert split_episodes(recording(["a"] * 5), held_out=0) == ([0, 3, 6, 9, 12], [])
    for wrong in (1.0, -0.1):
        with pytest.raises(UsageError, match="held_out"):
            split_episodes(recording(["a"]), held_out=wrong)


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=40), st.floats(0.01, 0.6), st.integers(0, 9))
def test_properties(tasks: list[str], share: float, seed: int) -> None:
    train, held_out = split_episodes(recording(tasks), held_out=share, seed=seed)
    assert sorted(train + held_out) == [3 * i for i in range(len(tasks))]
    assert train == sorted(train)
    assert 1 <= len(held_out) < len(tasks)
    if len(held_out) <= len(tasks) - len(set(tasks)):
        assert {tasks[index // 3] for index in train} == set(tasks)


def test_chosen_episodes_alone_are_split() -> None:
    meta = recording(["a", "b"] * 10)
    chosen = [0, 6, 9, 12, 21, 30]
    train, held_out = split_episodes(meta, held_out=0.3, seed=2, episodes=chosen)
    assert sorted(train + held_out) == chosen
    assert len(held_out) == 2


@given(st.sets(st.integers(0, 29), min_size=1))
def test_lists_of_episodes_are_written_and_read_alike(episodes: set[int]) -> None:
    meta: Any = types.SimpleNamespace(episodes=[types.SimpleNamespace(index=i) for i in range(30)], root="data")
    assert parse_episodes(episode_ranges(episodes), meta) == sorted(episodes)


def test_ranges_are_short() -> None:
    assert episode_ranges([9, 0, 1, 2, 7, 8, 4]) == "0-2,4,7-9"
    assert episode_ranges([]) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "--episodes names no episode"),
        ("3-1", "ends before it begins"),
        ("0,9", "no episode 9"),
        ("5-9", "no episode 9"),
        ("a", "cannot be read"),
    ],
)
def test_wrong_lists(text: str, words: str) -> None:
    meta: Any = types.SimpleNamespace(episodes=[types.SimpleNamespace(index=i) for i in range(6)], root="data")
    with pytest.raises(UsageError, match=words):
        parse_episodes(text, meta)


@pytest.mark.parametrize(
    ("known", "words"), [([0, 2, 5], "one of its 3 episodes, 0,2,5"), (range(0, 99, 2), "36,38,… up to 98")]
)
def test_known_episodes_are_listed(known: Sequence[int], words: str) -> None:
    meta: Any = types.SimpleNamespace(episodes=[types.SimpleNamespace(index=i) for i in known], root="data")
    with pytest.raises(UsageError) as caught:
        parse_episodes("3", meta)
    assert words in str(caught.value.expected)
