"""The writer: what is recorded comes back, and a recording is whole or absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets import DatasetWriter, open_dataset


def frame(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "observation.state": [float(number), 1.0],
        "action": [number + 0.5],
        "observation.images.front": np.full((32, 48, 3), 5 * number, dtype=np.uint8),
        "task": "push",
        **changes,
    }


def writer(path: Path, **changes: Any) -> DatasetWriter:
    settings: dict[str, Any] = {
        "fps": 20,
        "state_names": ["a", "b"],
        "action_names": ["a"],
        "cameras": {"front": (32, 48)},
    }
    return DatasetWriter(path, **{**settings, **changes})


def record(path: Path, lengths: Sequence[int], **changes: Any) -> None:
    with writer(path, **changes) as recording:
        for length in lengths:
            for number in range(length):
                recording.add_frame(frame(number))
            recording.end_episode()


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_round_trip(tmp_path: Path, codec: str) -> None:
    record(tmp_path / "d", [12, 30], codec=codec)
    dataset = open_dataset(tmp_path / "d", chunk_size=2)
    dataset.check_videos()
    assert dataset.meta.cameras["front"].codec == codec
    assert np.array_equal(dataset.states[:, 0], [*range(12), *range(30)])
    assert np.array_equal(dataset.actions[:, 0], dataset.states[:, 0] + 0.5)
    np.testing.assert_array_equal(dataset.timestamps, (dataset.frame_index / 20).astype(np.float32))
    assert dataset[0]["action"].shape == (2, 1)
    for i in range(len(dataset)):
        assert abs(float(dataset.images(i)["front"].mean()) - 5 * dataset.frame_index[i]) < 3


def test_videos_roll_over_and_begin_with_key_frames(tmp_path: Path) -> None:
    record(tmp_path / "d", [7, 9, 5, 6], video_file_frames=10)
    files = sorted((tmp_path / "d" / "videos").rglob("*.mp4"))
    assert [file.name for file in files] == ["file-000.mp4", "file-001.mp4"]
    dataset = open_dataset(tmp_path / "d")
    dataset.check_videos()
    for episode in dataset.meta.episodes:
        span = episode.videos["front"]
        index = dataset._media.videos.index(span.path)
        first = int(index.positions(np.array([span.start]))[0])
        assert int(index.keyframe[first]) == first
    assert [round(float(dataset.images(i)["front"].mean()) / 5) for i in (0, 6, 7, 15, 16, 21, 26)] == [
        0, 6, 0, 8, 0, 0, 5,
    ]  # fmt: skip


def test_float_pictures(tmp_path: Path) -> None:
    with writer(tmp_path / "d") as recording:
        picture = np.full((3, 32, 48), 0.5, dtype=np.float32)
        recording.add_frame(frame(0, **{"observation.images.front": picture}))
    assert abs(float(open_dataset(tmp_path / "d").images(0)["front"].mean()) - 128) < 3


def test_without_cameras(tmp_path: Path) -> None:
    record(tmp_path / "d", [4], cameras={})
    dataset = open_dataset(tmp_path / "d")
    assert dataset.meta.camera_names == []
    assert dataset.images(0) == {}
    dataset.check_videos()


def test_statistics_of_pictures_and_joints(tmp_path: Path) -> None:
    record(tmp_path / "d", [9])
    stats = json.loads((tmp_path / "d" / "meta" / "stats.json").read_text())
    # Frames 0, 4 and 8 are sampled: levels 0, 20 and 40 of 255.
    picture = stats["observation.images.front"]
    np.testing.assert_allclose(np.squeeze(picture["mean"]), 20 / 255, atol=1e-9)
    np.testing.assert_allclose(np.squeeze(picture["std"]), np.std([0, 20, 40]) / 255, atol=1e-9)
    np.testing.assert_allclose(np.squeeze(picture["max"]), 40 / 255)
    np.testing.assert_allclose(np.squeeze(picture["q50"]), 20 / 255)
    assert picture["count"] == [3]
    assert stats["observation.state"]["mean"] == [4.0, 1.0]
    episodes = pq.read_table(tmp_path / "d" / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    assert episodes[0]["stats/observation.state/max"] == [8.0, 1.0]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="broken"), writer(tmp_path / "d") as recording:  # noqa: PT012
        recording.add_frame(frame(0))
        raise KeyError("broken")
    assert list(tmp_path.iterdir()) == []


def test_nothing_recorded_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Nothing was recorded"), writer(tmp_path / "d"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_kept(tmp_path: Path) -> None:
    record(tmp_path / "d", [3])
    with pytest.raises(UsageError, match="exists already"):
        writer(tmp_path / "d")
    assert len(open_dataset(tmp_path / "d")) == 3


def test_a_killed_recording_leaves_no_dataset_and_the_next_cleans_up(tmp_path: Path) -> None:
    program = (
        "import os, sys, numpy as np\n"
        "from smolpilot.datasets import DatasetWriter\n"
        "w = DatasetWriter(sys.argv[1], fps=10, state_names=['a'], action_names=['a'], cameras={'c': (32, 32)})\n"
        "f = {'observation.state': [0.], 'action': [0.], 'task': 't', "
        "'observation.images.c': np.zeros((32, 32, 3), np.uint8)}\n"
        "w.add_frame(f); w.end_episode(); w.add_frame(f)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "d"
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=dict(os.environ), check=False)
    assert done.returncode == -9
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    record(path, [3])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation.state": [1.0]}, "'observation.state' has shape"),
        ({"action": [float("nan")]}, "not finite at joint 'a'"),
        ({"task": ""}, "no instruction"),
        ({"observation.images.front": np.zeros((16, 16, 3), dtype=np.uint8)}, "has shape"),
        ({"observation.images.front": np.full((3, 32, 48), 200.0)}, r"outside \[0, 1\]"),
        ({"observation.images.front": np.zeros((32, 48, 3))}, "float64"),
    ],
)
def test_frames_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message), writer(tmp_path / "d") as recording:  # noqa: PT012
        recording.add_frame(frame(0))
        recording.add_frame(frame(1, **changes))
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("key", ["observation.state", "action", "observation.images.front", "task"])
def test_frames_with_something_missing(tmp_path: Path, key: str) -> None:
    incomplete = frame(0)
    del incomplete[key]
    words = "has no instruction" if key == "task" else f"'{key}'"
    with pytest.raises(DatasetError, match=words), writer(tmp_path / "d") as recording:
        recording.add_frame(incomplete)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 0}, r"fps is 0\."),
        ({"fps": float("nan")}, r"fps is nan\."),
        ({"codec": "vp9"}, r"Unknown video codec 'vp9'"),
        ({"codec": "hevc"}, r"hevc cannot encode images 48 pixels wide\.\nExpected: 64 or more\nFix: Use h264\."),
    ],
    ids=["no rate", "a rate that is no number", "unknown codec", "too narrow for hevc"],
)
def test_settings_that_cannot_be_are_refused_and_leave_nothing(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        writer(tmp_path / "d", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the recording fails with a system error and leaves nothing."""
    program = (
        "import resource, signal, sys, numpy as np\n"
        "from smolpilot.datasets import DatasetWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "noise = np.random.default_rng(0).integers(0, 255, (8, 96, 96, 3), dtype=np.uint8)\n"
        "try:\n"
        "    with DatasetWriter(sys.argv[1], fps=10, state_names=['a'], action_names=['a'], "
        "cameras={'c': (96, 96)}) as w:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "        for i in range(60):\n"
        "            w.add_frame({'observation.state': [0.], 'action': [0.], 'task': 't', "
        "'observation.images.c': noise[i % 8]})\n"
        "except OSError as error:\n"
        "    print('system error:', error.strerror)\n"
    )
    path = tmp_path / "d"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert "system error: File too large" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
