"""Frame for frame and value for value against LeRobotDataset 0.6.1, on recordings of both writers.

LeRobot decodes with its PyAV backend here; equality is exact (torch.equal). Its other backend, torchcodec, converts
colors with its own code and may differ in the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from smolpilot.datasets import DatasetWriter, compute_statistics, open_dataset

pytestmark = pytest.mark.oracle

FPS, HORIZON = 10, 6
CAMERAS = ("front", "side")
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    "action": {"dtype": "float32", "shape": (2,), "names": None},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    "observation.grid": {"dtype": "float32", "shape": (2, 3), "names": None},
    "observation.count": {"dtype": "int64", "shape": (2,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def picture(camera: int, episode: int, number: int) -> npt.NDArray[Any]:
    generator = np.random.default_rng(1000 * camera + 100 * episode + number)
    return generator.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def record_with_lerobot(root: Path, encoder: Any = None, *, dtype: str = "video", small_files: bool = False) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = ["height", "width", "channels"]
    cameras = {f"observation.images.{name}": {"dtype": dtype, "shape": (48, 64, 3), "names": names} for name in CAMERAS}
    dataset = LeRobotDataset.create(
        "test/oracle", fps=FPS, features={**FEATURES, **cameras}, root=root, robot_type="toy", rgb_encoder=encoder
    )
    if small_files:
        dataset.meta.info.video_files_size_in_mb = dataset.meta.info.data_files_size_in_mb = 1e-6
    generator = np.random.default_rng(0)
    for episode, length in enumerate((9, 14, 11, 12)):
        for number in range(length):
            frame = {
                "observation.state": generator.normal(size=3).astype(np.float32),
                "action": generator.normal(size=2).astype(np.float32),
                "next.reward": np.array([number / 7], dtype=np.float32),
                "next.success": np.array([number == length - 1]),
                "observation.grid": generator.normal(size=(2, 3)).astype(np.float32),
                "observation.count": np.array([number, episode]),
                "note": f"frame {number}",
                "task": ["push", "pull", "push", "lift"][episode],
            }
            for camera, name in enumerate(CAMERAS):
                frame[f"observation.images.{name}"] = picture(camera, episode, number)
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()


def record_with_ours(root: Path, codec: Any) -> None:
    generator = np.random.default_rng(0)
    cameras = dict.fromkeys(CAMERAS, (48, 64))
    with DatasetWriter(
        root, fps=FPS, state_names=["a", "b", "c"], action_names=["x", "y"], cameras=cameras, robot_type="toy",
        codec=codec, video_file_frames=20,
    ) as writer:  # fmt: skip
        for episode, length in enumerate((9, 14, 11, 12)):
            for number in range(length):
                frame = {
                    "observation.state": generator.normal(size=3),
                    "action": generator.normal(size=2),
                    "task": ["push", "pull", "push", "lift"][episode],
                }
                for camera, name in enumerate(CAMERAS):
                    frame[f"observation.images.{name}"] = picture(camera, episode, number)
                writer.add_frame(frame)
            writer.end_episode()


def assert_equal_to_lerobot(root: Path, episodes: list[int] | None = None) -> int:
    """Compare every entry of every frame; gives the number of frames."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [step / FPS for step in range(HORIZON)]}
    theirs = LeRobotDataset("test/oracle", root=root, episodes=episodes, video_backend="pyav", delta_timestamps=deltas)
    ours = open_dataset(root, episodes=episodes, chunk_size=HORIZON)
    ours.check_videos()
    assert len(ours) == len(theirs)
    order = np.random.default_rng(2).permutation(len(ours)).tolist()
    batched = [sample for start in range(0, len(ours), 16) for sample in ours.__getitems__(order[start : start + 16])]
    for i, of_batch in zip(order, batched, strict=True):
        expected, found = theirs[i], ours[i]
        assert all(torch.equal(of_batch[key], value) for key, value in found.items() if isinstance(value, torch.Tensor))
        assert set(found) == set(expected)
        for key, value in expected.items():
            if isinstance(value, str):
                assert found[key] == value, (i, key)
            else:
                assert found[key].dtype == value.dtype, (i, key)
                assert torch.equal(found[key], value), (i, key)
    return len(ours)


@pytest.mark.parametrize("codec", ["av1 (their default)", "h264", "hevc"])
def test_recordings_of_lerobot(tmp_path: Path, codec: str) -> None:
    from lerobot.configs import RGBEncoderConfig

    # LeRobot's PyAV backend cannot find the frames of its own hevc files when the groups are longer than two.
    encoder = None if codec.startswith("av1") else RGBEncoderConfig(vcodec=codec, g=7 if codec == "h264" else 2)
    record_with_lerobot(tmp_path / "d", encoder)
    assert assert_equal_to_lerobot(tmp_path / "d") == 46
    assert open_dataset(tmp_path / "d").meta.cameras["side"].codec == codec.split()[0]


def test_recordings_of_lerobot_in_many_files(tmp_path: Path) -> None:
    record_with_lerobot(tmp_path / "d", small_files=True)
    assert len(list((tmp_path / "d" / "data").rglob("*.parquet"))) > 1
    assert len(list((tmp_path / "d" / "videos").rglob("*.mp4"))) > 2
    assert assert_equal_to_lerobot(tmp_path / "d") == 46
    assert assert_equal_to_lerobot(tmp_path / "d", episodes=[1, 3]) == 26


def test_recordings_of_lerobot_with_pictures_in_tables(tmp_path: Path) -> None:
    record_with_lerobot(tmp_path / "d", dtype="image")
    assert assert_equal_to_lerobot(tmp_path / "d") == 46


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_our_recordings_open_in_lerobot(tmp_path: Path, codec: str) -> None:
    record_with_ours(tmp_path / "d", codec)
    assert assert_equal_to_lerobot(tmp_path / "d") == 46
    assert assert_equal_to_lerobot(tmp_path / "d", episodes=[0, 2]) == 20


def test_meta_data_means_the_same_to_lerobot(tmp_path: Path) -> None:
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

    record_with_ours(tmp_path / "d", "h264")
    theirs = LeRobotDatasetMetadata("test/oracle", root=tmp_path / "d")
    ours = open_dataset(tmp_path / "d").meta
    assert (theirs.total_episodes, theirs.total_frames, theirs.total_tasks) == (4, 46, 3)
    assert (theirs.fps, theirs.robot_type) == (FPS, "toy")
    assert dict(zip(theirs.tasks["task_index"], theirs.tasks.index, strict=True)) == ours.tasks
    assert theirs.camera_keys == [camera.key for camera in ours.cameras.values()]
    assert [list(row["tasks"]) for row in theirs.episodes] == [episode.tasks for episode in ours.episodes]
    assert theirs.episodes[3]["dataset_to_index"] == 46
    for name, stats in ours.statistics.items():
        for key, value in stats.items():
            np.testing.assert_array_equal(theirs.stats[name][key], value)


def test_statistics_agree_with_lerobots(tmp_path: Path) -> None:
    """Equal up to float32 rounding in LeRobot's; its quantiles of short episodes are read from a histogram."""
    record_with_lerobot(tmp_path / "d")
    dataset = open_dataset(tmp_path / "d")
    exact, stored = compute_statistics(dataset), dataset.meta.statistics
    for feature in ("observation.state", "action"):
        for name in ("mean", "std", "min", "max", "count"):
            np.testing.assert_allclose(exact[feature][name], stored[feature][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", ["random", "local"])
def test_a_loader_gives_lerobots_tensors(tmp_path: Path, order: Any, workers: int) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from smolpilot.datasets import Loader

    record_with_ours(tmp_path / "d", "av1")
    deltas = {"action": [step / FPS for step in range(HORIZON)]}
    theirs = LeRobotDataset("test/oracle", root=tmp_path / "d", video_backend="pyav", delta_timestamps=deltas)
    seen = 0
    for batch in Loader(open_dataset(tmp_path / "d", chunk_size=HORIZON), 8, order=order, workers=workers, window=16):
        expected = torch.utils.data.default_collate([theirs[int(i)] for i in batch["index"]])
        assert set(batch) == set(expected)
        for key, value in expected.items():
            assert batch[key] == value if key == "task" else torch.equal(batch[key], value), key
        seen += len(batch["task"])
    assert seen == 46


def test_lerobot_can_train_on_our_recording_in_batches(tmp_path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    record_with_ours(tmp_path / "d", "h264")
    deltas = {"action": [step / FPS for step in range(HORIZON)]}
    theirs = LeRobotDataset("test/oracle", root=tmp_path / "d", video_backend="pyav", delta_timestamps=deltas)
    batch = next(iter(torch.utils.data.DataLoader(theirs, batch_size=8)))
    ours = open_dataset(tmp_path / "d", chunk_size=HORIZON)
    again = next(iter(torch.utils.data.DataLoader(cast(Any, ours), batch_size=8)))
    assert batch["task"] == again["task"]
    assert torch.equal(batch["observation.images.side"], again["observation.images.side"])
    assert torch.equal(batch["action"], again["action"])
