"""What a dataset's lists, patterns and saved places cannot be: refused in one clear error, also behind a sound row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets import Loader, open_dataset, read_meta
from smolpilot.datasets.copy import CopyOptions
from smolpilot.datasets.media.video import VideoReader

from .helpers_damage import change_info, change_lines
from .test_video import write

type Rows = list[dict[str, Any]]


def second(**values: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[1].update(values)


def without(key: str) -> Callable[[Rows], None]:
    return lambda rows: rows[1].pop(key) and None


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("tasks.jsonl", second(task_index=0), "Task 0 stands twice in"),
        ("tasks.jsonl", second(task_index="one"), "'task_index'"),
        ("tasks.jsonl", second(task_index=1.5), "'task_index'"),
        ("tasks.jsonl", without("task"), "Task 1 in .* has None as its instruction"),
        ("episodes.jsonl", second(episode_index=None), "'episode_index'"),
        ("episodes.jsonl", second(length="long"), "'length'"),
        ("episodes.jsonl", without("length"), "'length'"),
    ],
)
def test_lists_of_a_recording(
    sound: dict[str, Path], tmp_path: Path, name: str, change: Callable[[Rows], None], words: str
) -> None:
    root = Path(shutil.copytree(sound["v21"], tmp_path / "copy"))
    change_lines(root, name, change)
    with pytest.raises(DatasetError, match=words):
        read_meta(root)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data_path": "data/{nothing}.parquet"}, "'data_path'"),
        ({"data_path": "data/{episode_index:x.3}.parquet"}, "'data_path'"),
        ({"video_path": "/videos/{episode_index}.mp4"}, "'video_path' .* points out of the dataset"),
        ({"data_path": None}, "'data_path' of .* is missing"),
        ({"codebase_version": "v9.0"}, "says version v9.0"),
        ({"codebase_version": ""}, "says no version"),
    ],
)
def test_patterns_and_versions(sound: dict[str, Path], tmp_path: Path, values: dict[str, Any], words: str) -> None:
    root = Path(shutil.copytree(sound["v21"], tmp_path / "copy"))
    change_info(root, **values)
    with pytest.raises(DatasetError, match=words):
        read_meta(root)


def test_numbers_that_lost_their_type_are_still_read(sound: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(sound["v21"], tmp_path / "copy"))
    change_lines(root, "tasks.jsonl", second(task_index=1.0))
    change_lines(root, "episodes.jsonl", second(length=27.0))
    assert sorted(read_meta(root).tasks) == [0, 1]
    assert read_meta(root).episodes[1].length == 27


@pytest.mark.parametrize("changes", [{"version": "v1.6"}, {"jobs": 0}, {"data_file_mb": 0}, {"chunk_files": 0}])
def test_options_of_a_rewrite(changes: dict[str, Any]) -> None:
    CopyOptions(jobs=1, data_file_mb=1, video_file_mb=1, chunk_files=1)
    with pytest.raises(UsageError, match=r"v1\.6|--(jobs|data-file-mb|chunk-files) is 0"):
        CopyOptions(**changes)


def test_a_saved_place_is_one_that_can_have_been_saved(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    loader = Loader(dataset, batch_size=4, order="sequential")
    state = loader.state_dict()
    whole = len(dataset) // 4 * 4
    for position in (0, 4, whole - 4):
        loader.load_state_dict({**state, "position": position})
    for odd in (3, whole + 1, -4, len(dataset) + 4, 1.5):
        with pytest.raises(UsageError, match="The saved position is"):
            loader.load_state_dict({**state, "position": odd})
    with pytest.raises(UsageError, match="epoch"):
        loader.load_state_dict({**state, "epoch": -1})
    with pytest.raises(UsageError, match="batch_size"):
        loader.load_state_dict({**state, "batch_size": 5})


def test_damaged_info_is_told_with_its_place(sound: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(sound["v21"], tmp_path / "copy"))
    (root / "meta" / "info.json").write_text(json.dumps([1, 2]))
    with pytest.raises(DatasetError, match=r"info\.json"):
        read_meta(root)


# -- videos that are read through the demuxer --------------------------------------------------------------------------


def test_frames_of_files_that_are_no_mp4(tmp_path: Path) -> None:
    """Their packets do not lie in the file as the decoder takes them; two of one kind are never mixed up."""
    paths = [tmp_path / f"{name}.mkv" for name in ("one", "two")]
    write(paths[0], {"bf": "0", "preset": "veryfast", "crf": "4"}, 12)
    write(paths[1], {"bf": "0", "preset": "veryfast", "crf": "4"}, 5)
    reader = VideoReader(open_files=1)
    assert [reader.index(path).packets.plain for path in paths] == [False, False]
    for position in (0, 49, 7, 8, 9, 3, 3, 30, 13, 12, 11, 48, 1):
        for path in paths:
            assert abs(float(np.asarray(reader.frame(path, position)).mean()) - (5 + 4 * position)) < 2
