"""The cost of `dataset check` grows as the recording: counted in calls of functions, which no busy machine changes."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path

import numpy as np
import pytest

from smolpilot.datasets import DatasetWriter
from smolpilot.datasets.audit import audit


def recording(root: Path, episodes: int) -> Path:
    """Many short episodes without cameras, an instruction for every second of them."""
    generator = np.random.default_rng(0)
    with DatasetWriter(root, fps=10, state_names=["a", "b"], action_names=["a", "b"], cameras={}) as writer:
        for episode in range(episodes):
            walk = np.cumsum(generator.normal(size=(6, 2)), axis=0).astype(np.float32)
            for row in walk:
                task = f"put object number {episode // 2} into the yellow basket on the left"
                writer.add_frame({"observation.state": row, "action": row + 1, "task": task})
            writer.end_episode()
    return root


def calls(root: Path) -> tuple[int, int]:
    """(function calls, findings) of a check."""
    profile = cProfile.Profile()
    profile.enable()
    result = audit(root, jobs=1)
    profile.disable()
    return int(pstats.Stats(profile).total_calls), len(result.findings)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, int]]:
    base = tmp_path_factory.mktemp("cost")
    calls(recording(base / "warm", 4))
    return [calls(recording(base / str(episodes), episodes)) for episodes in (60, 240)]


def test_four_times_the_episodes_cost_at_most_five_times_as_much(counted):
    (few, found), (many, found_then) = counted
    assert many <= 5 * few
    # Both really looked at every episode.
    assert found >= 60
    assert found_then >= 240
