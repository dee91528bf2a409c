"""Our conversions against LeRobot 0.6.1: the same tensors as from its own converter, which reads our v2.1, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from smolpilot.datasets import open_dataset, read_meta
from smolpilot.datasets.compare import compare
from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions, EpisodePlan, copy_episodes

from .test_datasets_oracle import record_with_lerobot, record_with_ours

GRID = "observation.grid"
pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def without_grid(table: pa.Table) -> pa.Table:
    return table.drop_columns(GRID)


def convert_with_lerobot(root: Path) -> Path:
    """In place, as theirs does it."""
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    convert_dataset("test/convert", root=root, push_to_hub=False)
    return root


def assert_same_tensors(ours: Path, theirs: Path, *, sampled: bool = False) -> int:
    """Every entry of every frame as LeRobotDataset gives it."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    found = LeRobotDataset("test/ours", root=ours, video_backend="pyav")
    expected = LeRobotDataset("test/theirs", root=theirs, video_backend="pyav")
    assert len(found) == len(expected)
    assert found.meta.total_episodes == expected.meta.total_episodes
    for i in range(len(expected)):
        one, other = expected[i], found[i]
        assert set(one) == set(other)
        for key, value in one.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == other[key].dtype, (i, key)
                assert torch.equal(value, other[key]), (i, key)
            else:
                assert value == other[key], (i, key)
    for name, stats in expected.meta.stats.items():
        # Statistics of images depend on which frames are looked at, before or after encoding.
        for key, value in () if sampled and "image" in name else stats.items():
            np.testing.assert_allclose(found.meta.stats[name][key], value, rtol=1e-5, atol=1e-6)
    return len(expected)


@pytest.mark.parametrize("dtype", ["video", "image"])
def test_both_converters_give_the_same_tensors(tmp_path: Path, dtype: str) -> None:
    """A recording of LeRobot's becomes v2.1 by ours, then v3.0 by theirs and by ours."""
    record_with_lerobot(tmp_path / "recorded", dtype=dtype)
    # Its converter cannot read two-dimensional columns (pandas refuses the extension type): see the next test.
    meta = read_meta(tmp_path / "recorded")
    info = json.loads((meta.root / "meta" / "info.json").read_text())
    del info["features"][GRID]
    plans = [EpisodePlan(meta, episode.index, change=without_grid) for episode in meta.episodes]
    copy_episodes(plans, tmp_path / "v21", CopyOptions(version="v2.1"), info=info)
    convert(tmp_path / "v21", tmp_path / "ours", CopyOptions())
    theirs = convert_with_lerobot(Path(shutil.copytree(tmp_path / "v21", tmp_path / "theirs")))
    assert assert_same_tensors(tmp_path / "ours", theirs) == 46
    assert compare(tmp_path / "v21", tmp_path / "ours").equal
    assert compare(tmp_path / "v21", theirs).differences == []


def test_every_kind_of_column_comes_back_as_it_was(tmp_path: Path) -> None:
    record_with_lerobot(tmp_path / "recorded", small_files=True)
    convert(tmp_path / "recorded", tmp_path / "v21", CopyOptions(version="v2.1"))
    convert(tmp_path / "v21", tmp_path / "ours", CopyOptions())
    assert assert_same_tensors(tmp_path / "ours", tmp_path / "recorded") == 46


def test_a_recording_without_statistics_opens_in_lerobot(tmp_path: Path) -> None:
    """v2.0 has statistics of the whole recording only: those of the episodes are computed."""
    record_with_ours(tmp_path / "recorded", "h264")
    convert(tmp_path / "recorded", tmp_path / "v20", CopyOptions(version="v2.1"))
    info = json.loads((tmp_path / "v20" / "meta" / "info.json").read_text())
    (tmp_path / "v20" / "meta" / "info.json").write_text(json.dumps({**info, "codebase_version": "v2.0"}))
    (tmp_path / "v20" / "meta" / "episodes_stats.jsonl").unlink()
    convert(tmp_path / "v20", tmp_path / "ours", CopyOptions())
    assert assert_same_tensors(tmp_path / "ours", tmp_path / "recorded", sampled=True) == 46


def test_image_statistics_are_those_of_lerobot(tmp_path: Path) -> None:
    record_with_lerobot(tmp_path / "recorded")
    convert(tmp_path / "recorded", tmp_path / "v21", CopyOptions(version="v2.1"))
    (tmp_path / "v21" / "meta" / "episodes_stats.jsonl").unlink()
    convert(tmp_path / "v21", tmp_path / "ours", CopyOptions())
    stored, computed = (open_dataset(tmp_path / name).meta.statistics for name in ("recorded", "ours"))
    for key in ("mean", "std", "min", "max"):
        # Theirs are of the images before, ours after encoding.
        np.testing.assert_allclose(
            computed["observation.images.side"][key], stored["observation.images.side"][key], atol=0.1
        )
        np.testing.assert_allclose(computed["action"][key], stored["action"][key], rtol=1e-5, atol=1e-6)
    assert computed["observation.images.side"]["count"] == stored["observation.images.side"]["count"]


@pytest.mark.real
def test_a_real_recording(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "g1_bottle_v21"
    convert(source, tmp_path / "ours", CopyOptions())
    theirs = convert_with_lerobot(Path(shutil.copytree(source, tmp_path / "theirs")))
    # Theirs loses the license.
    assert [found.text for found in compare(tmp_path / "ours", theirs).differences] == [
        "LICENSE: only in the first dataset"
    ]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    found = LeRobotDataset("test/ours", root=tmp_path / "ours", video_backend="pyav")
    expected = LeRobotDataset("test/theirs", root=theirs, video_backend="pyav")
    for i in (0, 1, 277, 278, 1500, len(expected) - 1):
        for key, value in expected[i].items():
            assert value == found[i][key] if isinstance(value, str) else torch.equal(value, found[i][key]), (i, key)
