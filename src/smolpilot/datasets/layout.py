"""Where the two folder layouts (v2.0 and v2.1: a file per episode, v3.0: many episodes per file) keep things."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from smolpilot.datasets.features import CameraInfo
from smolpilot.datasets.files import MISSING_FIX, iter_jsonl, read_json, read_jsonl, read_parquet, require_file
from smolpilot.errors import DatasetError
from smolpilot.statistics import Statistics, merge_fitting, readable_statistics


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames of one camera lie: a video file and the episode's start in it, in seconds.

    `stop` is the end where the meta folder states it (v3.0).
    """

    path: Path
    start: float
    stop: float | None = None


@dataclass(frozen=True)
class Episode:
    """One demonstration: its index value, number of frames, instructions, and where its data is."""

    index: int
    length: int
    tasks: list[str]
    data_path: Path
    videos: dict[str, VideoSpan] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """Its data file and its video files."""
        return [self.data_path, *(span.path for span in self.videos.values())]


@dataclass(frozen=True)
class Layout:
    """What the meta folder of either version says, in one form; absolute paths."""

    tasks: dict[int, str]
    episodes: list[Episode]
    statistics: Statistics


def read_layout(root: Path, version: str, info: dict[str, Any], cameras: dict[str, CameraInfo]) -> Layout:
    """Read tasks, episodes and statistics of a dataset of version `v2.0`, `v2.1` or `v3.0`."""
    videos = {name: camera for name, camera in cameras.items() if camera.is_video}
    layout = _read_v30(root, info, videos) if version == "v3.0" else _read_v21(root, info, videos)
    if not layout.episodes:
        raise DatasetError(f"The dataset {root} has no episodes.", fix="Record at least one.")
    indices = [episode.index for episode in layout.episodes]
    if len(set(indices)) != len(indices):
        raise DatasetError(f"The dataset {root} lists an episode twice in its meta folder.")
    for episode in layout.episodes:
        require_file(episode.data_path, "data file")
        for name, span in episode.videos.items():
            require_file(span.path, f"video of camera '{name}'")
    return layout


def _read_v21(root: Path, info: dict[str, Any], videos: dict[str, CameraInfo]) -> Layout:
    meta = root / "meta"
    tasks = _task_map(read_jsonl(meta / "tasks.jsonl", "task list"), meta / "tasks.jsonl")
    chunk_size = _whole(info.get("chunks_size", 1000))
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise DatasetError(f"{meta / 'info.json'} has chunks_size {chunk_size!r}.", expected="episodes per folder")
    episodes = []
    for row in read_jsonl(meta / "episodes.jsonl", "episode list"):
        index = _integer(row, "episode_index", meta / "episodes.jsonl")
        names = {"episode_chunk": index // chunk_size, "episode_index": index}
        spans = {
            name: VideoSpan(_path(root, info, "video_path", {**names, "video_key": camera.key}), 0.0)
            for name, camera in videos.items()
        }
        episodes.append(
            Episode(
                index=index,
                length=_integer(row, "length", meta / "episodes.jsonl"),
                tasks=_texts(row.get("tasks")),
                data_path=_path(root, info, "data_path", names),
                videos=spans,
            )
        )
    statistics: Statistics = {}
    if (meta / "episodes_stats.jsonl").exists():
        rows = iter_jsonl(meta / "episodes_stats.jsonl", "statistics")
        statistics = merge_fitting(readable_statistics(row.get("stats")) for row in rows)
    elif (meta / "stats.json").exists():
        # v2.0 keeps those of the whole recording only.
        statistics = readable_statistics(read_json(meta / "stats.json", "statistics"))
    return Layout(tasks, sorted(episodes, key=lambda episode: episode.index), statistics)


def _read_v30(root: Path, info: dict[str, Any], videos: dict[str, CameraInfo]) -> Layout:
    meta = root / "meta"
    tasks = _task_map(_v30_tasks(meta / "tasks.parquet"), meta / "tasks.parquet")
    files = sorted((meta / "episodes").glob("*/*.parquet"))
    if not files:
        raise DatasetError(
            f"The episode tables under {meta / 'episodes'} are missing.",
            expected="meta/episodes/chunk-000/file-000.parquet, …",
            fix=MISSING_FIX,
        )
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    ends = [f"videos/{camera.key}/to_timestamp" for camera in videos.values()]
    for camera in videos.values():
        columns += [f"videos/{camera.key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    episodes = []
    for path in files:
        # Whole tables: the statistics columns are small, and a torn column shows up here.
        table = read_parquet(path, "episode table")
        absent = [column for column in columns if column not in table.column_names]
        if absent:
            raise DatasetError(
                f"The episode table {path} lacks the column '{absent[0]}'.",
                expected="an index, a length and the place of data and videos for each episode",
            )
        empty = [column for column in columns if table[column].null_count]
        if empty:
            raise DatasetError(
                f"The episode table {path} has no value of '{empty[0]}' for {table[empty[0]].null_count} episodes.",
                expected="an index, a length and the place of data and videos for each episode",
                fix="`smolpilot dataset repair` counts these places from the data and videos, into a copy.",
            )
        for column in [*columns, *(end for end in ends if end in table.column_names)]:
            kind = table.schema.field(column).type
            seconds = column.endswith("_timestamp") and pa.types.is_floating(kind)
            if not pa.types.is_integer(kind) and not seconds:
                raise DatasetError(
                    f"The column '{column}' of the episode table {path} is of type {kind}.", expected="numbers"
                )
        texts = table["tasks"].to_pylist() if "tasks" in table.column_names else [None] * len(table)
        wanted = [*columns, *(end for end in ends if end in table.column_names)]
        for row, instructions in zip(table.select(wanted).to_pylist(), texts, strict=True):
            episodes.append(_v30_episode(root, info, videos, row, _texts(instructions)))
    statistics: Statistics = {}
    if (meta / "stats.json").exists():
        statistics = readable_statistics(read_json(meta / "stats.json", "statistics"))
    return Layout(tasks, sorted(episodes, key=lambda episode: episode.index), statistics)


def _v30_episode(
    root: Path, info: dict[str, Any], videos: dict[str, CameraInfo], row: dict[str, Any], tasks: list[str]
) -> Episode:
    place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
    spans = {}
    for name, camera in videos.items():
        prefix = f"videos/{camera.key}"
        names = {
            "video_key": camera.key,
            "chunk_index": row[f"{prefix}/chunk_index"],
            "file_index": row[f"{prefix}/file_index"],
        }
        stop = row.get(f"{prefix}/to_timestamp")
        spans[name] = VideoSpan(
            _path(root, info, "video_path", names),
            float(row[f"{prefix}/from_timestamp"]),
            None if stop is None else float(stop),
        )
    return Episode(
        index=int(row["episode_index"]),
        length=int(row["length"]),
        tasks=tasks,
        data_path=_path(root, info, "data_path", place),
        videos=spans,
    )


def _v30_tasks(path: Path) -> list[dict[str, Any]]:
    table = read_parquet(path, "task list")
    # LeRobot keeps the text as the index of a pandas table; unnamed, that index is a column of this name.
    names = ["task" if name == "__index_level_0__" else name for name in table.column_names]
    rows: list[dict[str, Any]] = table.rename_columns(names).to_pylist()
    return rows


def _task_map(rows: list[dict[str, Any]], path: Path) -> dict[int, str]:
    """Instruction texts by index VALUE; gaps are fine, a value twice is not."""
    tasks: dict[int, str] = {}
    for row in rows:
        index = _integer(row, "task_index", path)
        if "task" not in row:
            raise DatasetError(f"{path} has no text for task {index}.")
        if index in tasks:
            raise DatasetError(f"{path} names task {index} twice.", expected="one instruction per task index")
        tasks[index] = str(row["task"])
    return tasks


def _texts(value: Any) -> list[str]:
    """The instructions of an episode; none when the list holds something else."""
    return [str(text) for text in value] if isinstance(value, list) else []


def _integer(row: dict[str, Any], key: str, path: Path) -> int:
    value = _whole(row.get(key))
    if not isinstance(value, int):
        raise DatasetError(f"{path} has a row without a whole number as '{key}'.")
    return value


def _whole(value: Any) -> Any:
    """1000.0 as 1000: some writers know no whole numbers. Everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _path(root: Path, info: dict[str, Any], key: str, names: dict[str, Any]) -> Path:
    template = info.get(key)
    if not isinstance(template, str):
        raise DatasetError(f"{root / 'meta' / 'info.json'} has no '{key}'.", expected="the pattern of the file names")
    try:
        relative = Path(template.format(**names))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DatasetError(f"The '{key}' of {root / 'meta' / 'info.json'} is no usable pattern: {template}") from error
    if relative.is_absolute() or ".." in relative.parts:
        raise DatasetError(f"The '{key}' of {root / 'meta' / 'info.json'} points out of the dataset: {relative}")
    return root / relative
