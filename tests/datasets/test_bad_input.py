"""Damaged and foreign recordings: one clear error each, naming the file, the episode or the joint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets import open_dataset

from .conftest import Build

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


def the_video(root: Path, camera: str = "front") -> Path:
    return root / "videos" / f"observation.images.{camera}" / "chunk-000" / "file-000.mp4"


def the_table(root: Path) -> Path:
    return root / "data" / "chunk-000" / "file-000.parquet"


def the_episodes(root: Path) -> Path:
    return root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"


def test_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")


def test_folder_and_file_that_are_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    for path in (tmp_path, tmp_path / "file.txt"):
        with pytest.raises(DatasetError, match=r"not a LeRobot dataset folder: it has no meta/info\.json"):
            open_dataset(path)


@pytest.mark.parametrize("version", ["v1.6", "v9.0", "1.6", ""])
def test_other_versions(
    copy: Path, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None], version: str
) -> None:
    edit_info(copy, lambda info: info.update(codebase_version=version))
    with pytest.raises(DatasetError, match="version") as error:
        open_dataset(copy)
    assert "v2.1 or v3.0" in str(error.value)
    assert "Fix:" in str(error.value)


@pytest.mark.parametrize("fps", [0, -1, None, "30", True])
def test_frame_rates_that_are_none(
    copy: Path, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None], fps: int | str | bool | None
) -> None:
    edit_info(copy, lambda info: info.update(fps=fps))
    with pytest.raises(DatasetError, match="fps"):
        open_dataset(copy)


def test_a_frame_rate_of_a_camera_that_is_none(
    copy: Path, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None]
) -> None:
    edit_info(copy, lambda info: info["features"]["observation.images.front"]["info"].update({"video.fps": "x"}))
    with pytest.raises(DatasetError, match=r"observation\.images\.front: info: video\.fps' is 'x'"):
        open_dataset(copy)


@pytest.mark.parametrize("column", ["length", "data/file_index", "videos/observation.images.front/chunk_index"])
def test_holes_in_the_episode_table(copy: Path, column: str) -> None:
    table = pq.read_table(the_episodes(copy))
    values = [None, *table[column].to_pylist()[1:]]
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, pa.int64())), the_episodes(copy))
    with pytest.raises(DatasetError, match=f"no value of '{column}' for 1 episodes"):
        open_dataset(copy)


@pytest.mark.parametrize("size", [0, None, "1000"])
def test_a_chunk_size_that_is_none(
    build_v21: Build, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None], size: int | str | None
) -> None:
    root = build_v21()
    edit_info(root, lambda info: info.update(chunks_size=size))
    with pytest.raises(DatasetError, match="chunks_size"):
        open_dataset(root)


@pytest.mark.parametrize(
    "place",
    [
        the_table,
        the_video,
        the_episodes,
        lambda root: root / "meta" / "tasks.parquet",
        lambda root: root / "meta" / "info.json",
        lambda root: root / "meta" / "stats.json",
    ],
    ids=["data", "video", "episodes", "tasks", "info", "statistics"],
)
def test_git_lfs_pointers(copy: Path, place: Callable[[Path], Path]) -> None:
    place(copy).write_bytes(POINTER)
    with pytest.raises(DatasetError, match="Git-LFS pointer") as error:
        open_dataset(copy)
    assert "git lfs pull" in str(error.value)
    assert place(copy).name in str(error.value)


@pytest.mark.parametrize(
    ("place", "word"),
    [(the_table, "missing"), (the_video, "missing"), (the_episodes, "missing")],
    ids=["data", "video", "episodes"],
)
def test_missing_files(copy: Path, place: Callable[[Path], Path], word: str) -> None:
    place(copy).unlink()
    with pytest.raises(DatasetError, match=word):
        open_dataset(copy)


@pytest.mark.parametrize("place", [the_table, the_episodes], ids=["data", "episodes"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_torn_tables(copy: Path, place: Callable[[Path], Path], keep: float) -> None:
    content = place(copy).read_bytes()
    place(copy).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DatasetError, match=r"torn|empty") as error:
        open_dataset(copy)
    assert "file-000.parquet" in str(error.value)


def test_torn_first_video_is_found_on_opening(copy: Path) -> None:
    content = the_video(copy).read_bytes()
    the_video(copy).write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"torn or cannot be decoded.*"):
        open_dataset(copy)


def test_info_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "meta" / "info.json").write_text('{"codebase_version": "v3.0", ')
    with pytest.raises(DatasetError, match=r"info\.json .*not valid JSON"):
        open_dataset(copy)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "nan"), (float("inf"), "inf")])
@pytest.mark.parametrize(("key", "name"), [("observation.state", "state"), ("action", "action")])
def test_numbers_that_are_not_finite(
    copy: Path,
    edit_rows: Callable[[Path, Callable[[dict[str, list[Any]]], object]], None],
    key: str,
    name: str,
    value: float,
    word: str,
) -> None:
    edit_rows(copy, lambda columns: columns[key][18 + 4].__setitem__(1, value))
    with pytest.raises(DatasetError, match=f"The {name} is {word} in episode 1, frame 4, joint 'lift'"):
        open_dataset(copy)
    assert len(open_dataset(copy, episodes=[0, 2])) == 38


@pytest.mark.parametrize("key", ["observation.state", "action"])
def test_state_or_action_missing(
    copy: Path,
    edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None],
    edit_rows: Callable[[Path, Callable[[dict[str, list[Any]]], object]], None],
    key: str,
) -> None:
    edit_rows(copy, lambda columns: columns.pop(key))
    with pytest.raises(DatasetError, match=f"no column '{key}'"):
        open_dataset(copy)
    edit_info(copy, lambda info: info["features"].pop(key))
    with pytest.raises(DatasetError, match=f"no feature '{key}'"):
        open_dataset(copy)


def test_a_state_of_another_size_than_stated(
    copy: Path, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None]
) -> None:
    edit_info(copy, lambda info: info["features"]["observation.state"].update(shape=[4], names=None))
    with pytest.raises(DatasetError, match="3 numbers per row"):
        open_dataset(copy)


def test_a_table_with_too_few_rows(copy: Path) -> None:
    table = pq.read_table(the_table(copy))
    pq.write_table(table.slice(0, len(table) - 3), the_table(copy))
    with pytest.raises(DatasetError, match="Episode 5 has 20 rows") as error:
        open_dataset(copy)
    assert "Expected: 23" in str(error.value)


def test_frames_out_of_order(
    copy: Path, edit_rows: Callable[[Path, Callable[[dict[str, list[Any]]], object]], None]
) -> None:
    def swap(columns: dict[str, list[Any]]) -> None:
        columns["frame_index"][2], columns["frame_index"][3] = 3, 2

    edit_rows(copy, swap)
    with pytest.raises(DatasetError, match="frames of episode 0"):
        open_dataset(copy)


def test_a_task_without_text(
    copy: Path, edit_rows: Callable[[Path, Callable[[dict[str, list[Any]]], object]], None]
) -> None:
    edit_rows(copy, lambda columns: columns["task_index"].__setitem__(0, 5))
    with pytest.raises(DatasetError, match="task 5, which has no text"):
        open_dataset(copy)


def test_a_video_shorter_than_its_table(build_v21: Build) -> None:
    from smolpilot.datasets.media.encode import VideoEncoder

    root = build_v21()
    path = root / "videos" / "chunk-000" / "observation.images.top" / "episode_000001.mp4"
    encoder = VideoEncoder(path, width=32, height=32, fps=10, codec="h264")
    for _ in range(6):
        encoder.add(np.zeros((32, 32, 3), dtype=np.uint8))
    encoder.close()
    dataset = open_dataset(root)
    message = "video of camera 'top' is shorter than the table at episode 1: 6 frames for 9 rows"
    with pytest.raises(DatasetError, match=message):
        dataset.check_videos()
    with pytest.raises(DatasetError, match=message):
        dataset[10]
    with pytest.raises(DatasetError, match=message):
        list(dataset.decode_episode("top", 1))
    assert dataset[0]["task"] == "push"
    dataset.select([0, 2]).check_videos()


def test_a_joined_video_with_too_few_frames(copy: Path) -> None:
    """Two episodes overlap in the file: each finds frames, but one of them would see the other's images."""
    table = pq.read_table(the_episodes(copy))
    column = "videos/observation.images.front/from_timestamp"
    starts = table[column].to_pylist()
    starts[-1] = starts[-2]
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(starts)), the_episodes(copy))
    with pytest.raises(DatasetError, match="camera 'front' is shorter than the table at episode 4: 0 frames"):
        open_dataset(copy).check_videos()


def test_a_video_at_another_rate(
    copy: Path,
    edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None],
    edit_rows: Callable[[Path, Callable[[dict[str, list[Any]]], object]], None],
) -> None:
    edit_info(copy, lambda info: info.update(fps=30))

    def squeeze(columns: dict[str, list[Any]]) -> None:
        columns["timestamp"] = [time / 3 for time in columns["timestamp"]]

    edit_rows(copy, squeeze)
    with pytest.raises(DatasetError, match="no frame of its own for frame 1 of episode 0"):
        open_dataset(copy).check_videos()


def test_depth_and_float_cameras_are_left_out(
    copy: Path, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None]
) -> None:
    name = "observation.images.front"
    original = (copy / "meta" / "info.json").read_text()
    for change, word in (
        ({"info": {"is_depth_map": True}}, "depth camera"),
        ({"shape": [48, 64, 1]}, "depth camera"),
        ({"shape": [48, 64, 4]}, "channels = 4"),
        ({"dtype": "float32"}, "float32 numbers"),
    ):
        edit_info(copy, lambda info, change=change: info["features"][name].update(change))  # type: ignore[misc]
        dataset = open_dataset(copy)
        assert word in dataset.meta.left_out[name]
        assert dataset.meta.camera_names == ["wrist"]
        assert name not in dataset[0]
        assert "observation.images.wrist" in dataset[0]
        (copy / "meta" / "info.json").write_text(original)


def test_pictures_of_another_size_than_stated(
    copy: Path, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None]
) -> None:
    edit_info(copy, lambda info: info["features"]["observation.images.front"].update(shape=[96, 128, 3]))
    with pytest.raises(DatasetError, match=r"is 64x48, .* says 128x96"):
        open_dataset(copy)


def test_statistics_of_another_robot(copy: Path) -> None:
    path = copy / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats["action"] = {name: [1.0] for name in ("mean", "std", "min", "max", "count")}
    path.write_text(json.dumps(stats))
    with pytest.raises(DatasetError, match=r"stored mean of 'action' .* has shape"):
        open_dataset(copy)


def test_paths_that_leave_the_dataset(
    copy: Path, edit_info: Callable[[Path, Callable[[dict[str, Any]], object]], None]
) -> None:
    edit_info(copy, lambda info: info.update(data_path="../../{chunk_index}/{file_index}.parquet"))
    with pytest.raises(DatasetError, match="points out of the dataset"):
        open_dataset(copy)


def test_a_torn_picture_in_a_table(build_v21: Build) -> None:
    root = build_v21(pictures_in_table=True)
    path = root / "data" / "chunk-000" / "episode_000000.parquet"
    table = pq.read_table(path)
    key = "observation.images.top"
    cells = table[key].to_pylist()
    cells[2]["bytes"] = cells[2]["bytes"][:40]
    pq.write_table(table.set_column(table.column_names.index(key), key, pa.array(cells)), path)
    dataset = open_dataset(root)
    assert dataset.images(1)["top"].shape == (32, 32, 3)
    with pytest.raises(DatasetError, match=r"Row 2 of column 'observation\.images\.top' .* torn image"):
        dataset.images(2)


def test_torn_json_lines(build_v21: Build) -> None:
    root = build_v21()
    path = root / "meta" / "episodes.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DatasetError, match=r"episodes\.jsonl is torn"):
        open_dataset(root)
