"""LeRobot 0.6.1 loads what a repair and a rename leave, and gives the recorded states, actions and instructions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main

from ..datasets.helpers_damage import DAMAGES
from ..datasets.helpers_strangers import STRANGERS, Stranger, brought, recorded, renamed, write_sound

pytestmark = pytest.mark.oracle

# One of each kind of reading: types, columns, task table, places in videos, rate, rows, names, packets.
KINDS = [
    "camera never recorded",
    "places over a file's end",
    "index columns as float64",
    "index columns as texts, v3",
    "texts with nulls",
    "pandas' index",
    "no state at the end, v3",
    "another rate",
    "few key frames",
    "tasks as plain columns",
]
DAMAGED = ["another type", "swapped places in a video"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("ours"))


def loaded(root: Path, work: Path) -> Any:
    """The recording in LeRobot, which reads v3.0 only."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    if (root / "meta" / "tasks.jsonl").exists():
        assert main(["dataset", "convert", str(root), str(work / "as_v30")]) == 0
        root = work / "as_v30"
    return LeRobotDataset("test/repair", root=root, video_backend="pyav")


def assert_loads(dataset: Any, stranger: Stranger | None = None) -> None:
    """Every row, and the images of the first and last frame of each episode."""
    made = recorded()
    kept = [episode for episode in range(len(made)) if stranger is None or episode not in stranger.dropped]
    assert dataset.num_episodes == len(kept)
    at = 0
    for old in kept:
        first, last = (0, len(made[old])) if stranger is None else stranger.rows.get(old, (0, len(made[old])))
        for row in (first, last - 1):
            item = dataset[at + row - first]
            np.testing.assert_array_equal(item["observation.state"].numpy(), made[old].state[row])
            np.testing.assert_array_equal(item["action"].numpy(), made[old].action[row])
            assert item["task"] == made[old].task
            for key in dataset.meta.camera_keys:
                camera = key.rpartition(".")[2].replace("image", "front")
                wanted = made[old].pictures[camera][row]
                assert np.abs(item[key].numpy().transpose(1, 2, 0) * 255 - wanted).mean() < 6
        at += last - first
    assert len(dataset) == at


@pytest.mark.parametrize("name", KINDS)
def test_lerobot_loads_what_was_repaired(name: str, ours: dict[str, Path], tmp_path: Path) -> None:
    stranger = next(one for one in STRANGERS if one.name == name)
    source = brought(stranger, ours, tmp_path / "src")
    assert main(["dataset", "repair", str(source), str(tmp_path / "dst")]) == 0
    assert_loads(loaded(tmp_path / "dst", tmp_path), stranger)


@pytest.mark.parametrize("name", DAMAGED)
def test_lerobot_loads_repaired_damages(name: str, ours: dict[str, Path], tmp_path: Path) -> None:
    damage = next(one for one in DAMAGES if one.name == name)
    shutil.copytree(ours[damage.layout], tmp_path / "src")
    assert damage.spoil is not None
    damage.spoil(tmp_path / "src")
    assert main(["dataset", "repair", str(tmp_path / "src"), str(tmp_path / "dst")]) == 0
    assert_loads(loaded(tmp_path / "dst", tmp_path))


@pytest.mark.parametrize("version", ["same", "v2.1"])
def test_lerobot_loads_what_was_renamed(version: str, ours: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(ours["v3"], tmp_path / "src")
    names = {"observation.state": "state", "action": "actions", "observation.images.front": "image"}
    renamed(names)(tmp_path / "src")
    pairs = [f"{theirs}={mine}" for mine, theirs in names.items()]
    dst = tmp_path / "dst"
    assert main(["dataset", "rename", str(tmp_path / "src"), str(dst), "--to", version, "--feature", *pairs]) == 0
    assert_loads(loaded(dst, tmp_path))
