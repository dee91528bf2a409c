"""`dataset check` says "Sound" where LeRobot 0.6.1 really loads the samples that were recorded, and only there."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.datasets import DatasetWriter
from smolpilot.datasets.check import check_dataset

from .helpers_valid import SPOILS

pytestmark = pytest.mark.oracle

FPS, LENGTHS, TASKS = 10, (7, 9, 8), ("push", "pull", "push")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def state(episode: int, i: int) -> npt.NDArray[Any]:
    return np.array([np.sin(i / 4 + episode), np.cos(i / 5), i * 0.1], dtype=np.float32)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "v3"
    with DatasetWriter(
        root, fps=FPS, state_names=["a", "b", "c"], action_names=["a", "b", "c"], cameras={"front": (32, 48)}
    ) as writer:
        for episode, length in enumerate(LENGTHS):
            for i in range(length):
                picture = np.full((32, 48, 3), 60 + 10 * episode, dtype=np.uint8)
                picture[4 + i : 12 + i, 8:16] = (200, 30, 30)
                frame = {"observation.state": state(episode, i), "action": state(episode, i + 2)}
                writer.add_frame({**frame, "task": TASKS[episode], "observation.images.front": picture})
            writer.end_episode()
    return root


def loads_in_lerobot(root: Path) -> str:
    """Why LeRobot does not load samples as they were recorded; empty when it does."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from torch.utils.data import default_collate

    try:
        dataset = LeRobotDataset(
            "test/check", root=root, delta_timestamps={"action": [0, 1 / FPS]}, video_backend="pyav"
        )
        if len(dataset) != sum(LENGTHS):
            return f"{len(dataset)} rows"
        starts = np.cumsum([0, *LENGTHS])
        batch = []
        for episode, (start, stop) in enumerate(pairwise(starts)):
            for i in (int(start), int(stop) - 1):
                item = dataset[i]
                if item["task"] != TASKS[episode]:
                    return f"instruction {item['task']!r}"
                frame = i - int(start)
                if not np.array_equal(item["observation.state"].numpy(), state(episode, frame)):
                    return "another row"
                if not np.array_equal(item["action"][0].numpy(), state(episode, frame + 2)):
                    return "another action"
                if item["action_is_pad"].tolist() != [False, frame == stop - start - 1]:
                    return "another end"
                background = float(item["observation.images.front"][:, 30, 46].mean()) * 255
                if abs(background - (60 + 10 * episode)) > 4:
                    return "another image"
                batch.append(item)
        for items in (batch, [dataset[i] for i in range(4)]):
            # LeRobot batches annotations by a function of its own.
            default_collate([{k: v for k, v in item.items() if not k.startswith("language_")} for item in items])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def spoiled(name: str, sound: Path, root: Path) -> Path:
    shutil.copytree(sound, root)
    SPOILS[name](root)
    return root


@pytest.mark.parametrize("name", SPOILS)
def test_check_and_lerobot_agree(name: str, sound: Path, tmp_path: Path) -> None:
    root = spoiled(name, sound, tmp_path / "copy")
    result = check_dataset(root)
    reason = loads_in_lerobot(root)
    errors: list[Any] = [(found.code, found.message) for found in result.everything if found.severity == "error"]
    assert [found.message for found in result.everything if found.code == "check-failed"] == []
    assert ("LeRobot" in result.unloadable) == bool(reason), (reason, errors)
    if reason:
        assert result.failed(), reason
