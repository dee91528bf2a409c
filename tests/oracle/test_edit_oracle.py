"""LeRobot 0.6.1 opens what the edits write, and gives the frames of the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.datasets import read_meta

from .test_datasets_oracle import record_with_lerobot

pytestmark = pytest.mark.oracle
RENUMBERED = {"index", "episode_index", "task_index", "task"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def opened(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("test/edit", root=root, video_backend="pyav")


def frames_of(dataset: Any) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, index in enumerate(dataset.hf_dataset["episode_index"]):
        found.setdefault(int(index), []).append(row)
    return found


def assert_frames(result: Path, source: Path, episodes: list[int]) -> Any:
    """The result's episodes are these of the source, in this order: every entry of every frame, by LeRobot."""
    ours, theirs = opened(result), opened(source)
    mine, original = frames_of(ours), frames_of(theirs)
    assert list(mine) == list(range(len(episodes)))
    assert [int(index) for index in ours.hf_dataset["index"]] == list(range(len(ours)))
    for new, old in enumerate(episodes):
        for row, from_row in zip(mine[new], original[old], strict=True):
            one, other = ours[row], theirs[from_row]
            assert set(one) == set(other)
            for key in set(one) - RENUMBERED:
                if isinstance(one[key], torch.Tensor):
                    assert torch.equal(one[key], other[key]), (new, key)
                else:
                    assert one[key] == other[key], (new, key)
    return ours


def instructions(dataset: Any) -> list[str]:
    return [dataset[rows[0]]["task"] for rows in frames_of(dataset).values()]


def test_exclude_merge_and_split(tmp_path: Path) -> None:
    source = tmp_path / "source"
    record_with_lerobot(source)
    texts = instructions(opened(source))
    assert main(["dataset", "exclude", str(source), str(tmp_path / "a"), "--episodes", "1"]) == 0
    assert instructions(assert_frames(tmp_path / "a", source, [0, 2, 3])) == [texts[i] for i in (0, 2, 3)]
    assert main(["dataset", "exclude", str(source), str(tmp_path / "b"), "--episodes", "0,2-3", "--to", "v2.1"]) == 0
    # Of both versions; the instruction of the second is known already or not.
    assert main(["dataset", "merge", str(tmp_path / "all"), str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    merged = assert_frames(tmp_path / "all", source, [0, 2, 3, 1])
    assert instructions(merged) == [texts[i] for i in (0, 2, 3, 1)]
    original = opened(source)
    for name in ("observation.state", "action"):
        for stat in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(merged.meta.stats[name][stat], original.meta.stats[name][stat], rtol=1e-5)
    assert main(["dataset", "split", str(source), str(tmp_path / "parts"), "--parts", "train=rest", "val=1,3"]) == 0
    assert_frames(tmp_path / "parts" / "train", source, [0, 2])
    assert_frames(tmp_path / "parts" / "val", source, [1, 3])


def test_tasks(tmp_path: Path) -> None:
    source = tmp_path / "source"
    record_with_lerobot(source)
    texts = instructions(opened(source))
    assert main(["dataset", "tasks", str(source), str(tmp_path / "set"), "--set", "1-2=wave slowly"]) == 0
    changed = assert_frames(tmp_path / "set", source, [0, 1, 2, 3])
    assert instructions(changed) == [texts[0], "wave slowly", "wave slowly", texts[3]]
    assert changed.meta.total_tasks == len(read_meta(tmp_path / "set").tasks) == len({*instructions(changed)})
    assert main(["dataset", "tasks", str(tmp_path / "set"), str(tmp_path / "back"), "--undo"]) == 0
    assert instructions(assert_frames(tmp_path / "back", source, [0, 1, 2, 3])) == texts
