"""What LeRobot itself writes has no error: each dtype and shape, joints at rest, one episode, images, old forms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.datasets.check import check_dataset

pytestmark = pytest.mark.oracle

FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (4,), "names": ["pan", "rest", "far", "grip"]},
    "action": {"dtype": "float32", "shape": (4,), "names": ["pan", "rest", "far", "grip"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "wide": {"dtype": "float64", "shape": (1,), "names": None},
    "half": {"dtype": "float16", "shape": (2,), "names": None},
    "counts": {"dtype": "int64", "shape": (2,), "names": None},
    "small": {"dtype": "uint8", "shape": (3,), "names": None},
    "pose": {"dtype": "float32", "shape": (4, 4), "names": None},
    "cube": {"dtype": "float32", "shape": (2, 2, 2), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def record(root: Path, episodes: int, *, dtype: str = "video", depth: bool = False, finish: bool = True) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = ["height", "width", "channels"]
    cameras: dict[str, Any] = {"observation.images.top": {"dtype": dtype, "shape": (48, 64, 3), "names": names}}
    if depth:
        about = {"is_depth_map": True, "depth_unit": "mm"}
        cameras["observation.images.depth"] = {"dtype": dtype, "shape": (48, 64, 1), "names": names, "info": about}
    dataset = LeRobotDataset.create(
        "test/check", fps=10, features={**FEATURES, **cameras}, root=root, robot_type="toy", use_videos=dtype == "video"
    )
    generator = np.random.default_rng(0)
    for episode in range(episodes):
        for i in range(16):
            state = np.array([50 * np.sin(i / 5 + episode), 12.3, 1e4, i * 0.5], dtype=np.float32)
            frame: dict[str, Any] = {
                "observation.state": state,
                "action": state + np.float32(0.5),
                "next.reward": np.array([0.3], dtype=np.float32),
                "next.done": np.array([i == 15]),
                "wide": np.array([i * 1e-3]),
                "half": np.array([1, 2], dtype=np.float16),
                "counts": np.array([i, 7]),
                "small": np.array([1, 2, 3], dtype=np.uint8),
                "pose": generator.normal(size=(4, 4)).astype(np.float32),
                "cube": generator.normal(size=(2, 2, 2)).astype(np.float32),
                "note": f"frame {i}",
                "task": "put the cube into the box",
                "observation.images.top": generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
                .repeat(8, 0)
                .repeat(8, 1),
            }
            if depth:
                frame["observation.images.depth"] = np.full((48, 64, 1), 500 + 10 * i, dtype=np.uint16)
            dataset.add_frame(frame)
        dataset.save_episode()
    if finish:
        dataset.finalize()
    return dataset


def errors(root: Path) -> list[tuple[str, str]]:
    result = check_dataset(root)
    assert [found.message for found in result.everything if found.code == "check-failed"] == []
    return [(found.code, found.message) for found in result.findings if found.severity == "error"]


def older(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    for one in stats.values():
        change(one)
    path.write_text(json.dumps(stats))


def without_quantiles(stats: dict[str, Any]) -> None:
    """0.3 had none."""
    for name in [name for name in stats if name.startswith("q")]:
        del stats[name]


def other_quantiles(stats: dict[str, Any]) -> None:
    """0.4 took others, and of a constant it made 4e-16."""
    without_quantiles(stats)
    stats["q05"] = stats["min"]
    stats["q95"] = stats["max"]


@pytest.mark.parametrize("episodes", [1, 2])
def test_every_dtype_and_shape(tmp_path: Path, episodes: int) -> None:
    record(tmp_path / "set", episodes)
    assert errors(tmp_path / "set") == []
    for number, change in enumerate((without_quantiles, other_quantiles)):
        old = tmp_path / f"old {number}"
        shutil.copytree(tmp_path / "set", old)
        older(old, change)
        assert errors(old) == []


def test_images_in_the_tables(tmp_path: Path) -> None:
    record(tmp_path / "set", 1, dtype="image")
    assert errors(tmp_path / "set") == []


@pytest.mark.parametrize("dtype", ["video", "image"])
def test_a_depth_camera_is_a_remark(tmp_path: Path, dtype: str) -> None:
    record(tmp_path / "set", 1, dtype=dtype, depth=True)
    result = check_dataset(tmp_path / "set")
    assert "LeRobot" not in result.unloadable
    # Whether smolpilot's reader opens it is for the reader's tests to say.
    assert {code for code, _ in errors(tmp_path / "set")} <= {"sample-unloadable"}
    about = [(found.code, found.severity) for found in result.findings if found.camera == "depth"]
    assert about == [("camera-unusable", "warning")]


def test_a_recorder_that_was_killed(tmp_path: Path) -> None:
    """Its process ends without closing the files: no episode table yet, and rows without an end."""
    dataset = record(tmp_path / "set", 1, finish=False)
    copy = Path(shutil.copytree(tmp_path / "set", tmp_path / "killed"))
    dataset.finalize()
    assert [code for code, _ in errors(copy)] == ["recording-interrupted"]


def test_a_recording_before_its_first_episode(tmp_path: Path) -> None:
    record(tmp_path / "set", 0)
    assert [code for code, _ in errors(tmp_path / "set")] == ["recording-empty"]
