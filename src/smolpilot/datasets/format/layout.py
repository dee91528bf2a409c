"""Where the two folder layouts (v2.0 and v2.1: a file per episode, v3.0: many episodes per file) keep things."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smolpilot.common.errors import DatasetError
from smolpilot.common.paths import OwnFiles
from smolpilot.common.statistics import Statistics, merge_fitting, readable_statistics
from smolpilot.common.text import LIMIT, plain, shown

from .completeness import Absent, require_complete, require_recorded
from .features import CameraInfo
from .files import file_state, iter_jsonl, open_parquet, read_json, read_jsonl, read_meta_table, repair_advice
from .templates import fill_template

NEVER_RECORDED = "a camera of which no episode has a video"

_PLACES = ("episode_index", "length", "data/chunk_index", "data/file_index")
_VIDEO_PLACES = ("chunk_index", "file_index", "from_timestamp")

MOST_ROWS = 2**53
"""Above all indices and lengths: up to there floats, too, are whole numbers."""

type Spans = dict[str, VideoSpan]


@dataclass(frozen=True, slots=True)
class VideoSpan:
    """Where an episode's frames of one camera lie: a video file and the episode's start in it, in seconds.

    `stop` is the end where the meta folder states it (v3.0).
    """

    path: Path
    start: float
    stop: float | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """One demonstration: its index value, number of frames, instructions, and where its data is."""

    index: int
    length: int
    tasks: list[str]
    data_path: Path
    videos: Spans = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """Its data file and its video files."""
        return [self.data_path, *(span.path for span in self.videos.values())]


@dataclass(frozen=True)
class Layout:
    """What the meta folder of either version says, in one form; absolute paths.

    `never_recorded` are cameras that no episode has; `absent` files that are named but are not there.
    """

    tasks: dict[int, str]
    episodes: list[Episode]
    statistics: Statistics
    never_recorded: list[str] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)


def read_layout(
    root: Path, version: str, info: dict[str, Any], cameras: dict[str, CameraInfo], *, complete: bool = True
) -> Layout:
    """Read tasks, episodes and statistics of a dataset of version `v2.0`, `v2.1` or `v3.0`.

    Raises DatasetError for a dataset without episodes, and for files that are not there; with `complete` False those
    files are listed in `absent` instead.
    """
    require_recorded(root, version, info, complete=complete)
    videos = {name: camera for name, camera in cameras.items() if camera.is_video}
    layout = _read_v30(root, info, videos, complete) if version == "v3.0" else _read_v21(root, info, videos, complete)
    if not layout.episodes and complete:
        raise DatasetError(f"The dataset {root} has no episodes.", fix="Record at least one.")
    indices = [episode.index for episode in layout.episodes]
    if len(set(indices)) != len(indices):
        raise DatasetError(
            f"The dataset {root} lists an episode twice in its meta folder.",
            expected="each episode once",
            fix=repair_advice(root, "lists each once"),
        )
    layout = _without_never_recorded(layout, version, info, videos)
    absent = [*layout.absent, *_absent_files(root, layout.episodes)]
    if complete and absent:
        require_complete(root, absent, len(layout.episodes))
    return replace(layout, absent=absent)


def _read_v21(root: Path, info: dict[str, Any], videos: dict[str, CameraInfo], complete: bool) -> Layout:
    meta = root / "meta"
    absent: list[Absent] = []
    task_rows = _listed(meta / "tasks.jsonl", "task list", absent, complete)
    tasks = _task_map(task_rows, meta / "tasks.jsonl")
    chunk_size = _whole(info.get("chunks_size", 1000))
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or not 1 <= chunk_size < MOST_ROWS:
        raise DatasetError(
            f"{meta / 'info.json'} has chunks_size {shown(chunk_size)}.",
            expected="episodes per folder",
            fix=repair_advice(root, "finds it from the files"),
        )
    episodes = []
    for row in _listed(meta / "episodes.jsonl", "episode list", absent, complete):
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
                tasks=_texts(row.get("tasks"), index, meta / "episodes.jsonl"),
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
    return Layout(tasks, sorted(episodes, key=lambda episode: episode.index), statistics, absent=absent)


def _listed(path: Path, what: str, absent: list[Absent], complete: bool) -> list[dict[str, Any]]:
    if not complete and file_state(path) == "missing":
        absent.append(Absent(path, what, "missing"))
        return []
    return read_jsonl(path, what)


def _read_v30(root: Path, info: dict[str, Any], videos: dict[str, CameraInfo], complete: bool) -> Layout:
    meta = root / "meta"
    absent: list[Absent] = []
    tasks: dict[int, str] = {}
    if complete or file_state(meta / "tasks.parquet") != "missing":
        tasks = _task_map(_v30_tasks(meta / "tasks.parquet"), meta / "tasks.parquet")
    else:
        absent.append(Absent(meta / "tasks.parquet", "task list", "missing"))
    files = sorted((meta / "episodes").glob("*/*.parquet"))
    if not files and complete:
        raise DatasetError(
            f"The episode tables under {meta / 'episodes'} are missing.",
            expected="meta/episodes/chunk-000/file-000.parquet, …",
            fix=repair_advice(root, "makes them anew from the data"),
        )
    if not files:
        absent.append(Absent(meta / "episodes", "episode tables", "missing"))
    schemas = {path: open_parquet(path, "episode table").schema_arrow for path in files}
    recorded = {
        name: camera
        for name, camera in videos.items()
        if any(f"videos/{camera.key}/chunk_index" in schema.names for schema in schemas.values())
        or any((root / "videos" / camera.key).rglob("*.mp4"))
    }
    paths = _PathMaker(root, info)
    tables = [(path, _episode_table(path, schema, recorded)) for path, schema in schemas.items()]
    # A camera whose places are empty in all tables was never recorded either; in some, that is damage.
    for name, camera in list(recorded.items()):
        columns = [table[f"videos/{camera.key}/file_index"] for _, table in tables]
        if columns and all(column.null_count == len(column) for column in columns):
            del recorded[name]
    episodes: list[Episode] = []
    for path, table in tables:
        _require_places(path, table, recorded)
        episodes += _v30_episodes(path, table, recorded, paths)
    statistics: Statistics = {}
    if (meta / "stats.json").exists():
        statistics = readable_statistics(read_json(meta / "stats.json", "statistics"))
    never = [name for name in videos if name not in recorded] if files else []
    return Layout(tasks, sorted(episodes, key=lambda episode: episode.index), statistics, never, absent)


def _episode_table(path: Path, schema: pa.Schema, videos: dict[str, CameraInfo]) -> pa.Table:
    """The columns of an episode table that say where things are; not its statistics, which are most of it."""
    columns = _places(videos)
    lacking = [column for column in columns if column not in schema.names]
    if lacking:
        raise DatasetError(
            f"The episode table {path} lacks the column '{lacking[0]}'.",
            expected="an index, a length and the place of data and videos for each episode",
            fix=repair_advice(path.parents[3], "makes the table anew from the data"),
        )
    ends = [f"videos/{camera.key}/to_timestamp" for camera in videos.values()]
    wanted = [*columns, *(name for name in (*ends, "tasks") if name in schema.names)]
    return read_meta_table(path, "episode table", wanted)


def _places(videos: dict[str, CameraInfo]) -> list[str]:
    return [*_PLACES, *(f"videos/{camera.key}/{part}" for camera in videos.values() for part in _VIDEO_PLACES)]


def _require_places(path: Path, table: pa.Table, videos: dict[str, CameraInfo]) -> None:
    expected = "an index, a length and the place of data and videos for each episode"
    fix = repair_advice(path.parents[3], "makes the table anew from the data")
    columns = _places(videos)
    for column in columns:
        if table[column].null_count:
            raise DatasetError(
                f"The episode table {path} has no value of '{column}' for {table[column].null_count} episodes"
                f"{_without(table, column)}.",
                expected=expected,
                fix=fix,
            )
    for column in [*columns, *(name for name in table.column_names if name.endswith("/to_timestamp"))]:
        kind = table.schema.field(column).type
        seconds = column.endswith("_timestamp") and (pa.types.is_floating(kind) or pa.types.is_null(kind))
        if not pa.types.is_integer(kind) and not seconds:
            raise DatasetError(
                f"The column '{column}' of the episode table {path} is of type {kind}.", expected="numbers", fix=fix
            )
        values = table[column].drop_null().to_numpy()
        wrong = ~np.isfinite(values) if seconds else (values < 0) | (values >= MOST_ROWS)
        if wrong.any():
            raise DatasetError(
                f"The column '{column}' of the episode table {path} holds {values[wrong][0]}.",
                expected="seconds" if seconds else f"whole numbers from 0 to {MOST_ROWS - 1:,}",
                fix=fix,
            )


def _without(table: pa.Table, column: str, limit: int = 10) -> str:
    """The episodes in whose row a column is empty, as words in brackets."""
    if column == "episode_index" or table["episode_index"].null_count:
        return ""
    found = table["episode_index"].filter(table[column].is_null()).to_pylist()
    return f" ({', '.join(map(str, found[:limit]))}{', …' if len(found) > limit else ''})"


def _v30_episodes(file: Path, table: pa.Table, videos: dict[str, CameraInfo], path_of: _PathMaker) -> list[Episode]:
    def column(name: str) -> list[Any]:
        return table[name].to_pylist() if name in table.column_names else [None] * len(table)

    spans: list[Spans] = [{} for _ in range(len(table))]
    for name, camera in videos.items():
        prefix = f"videos/{camera.key}"
        parts = (column(f"{prefix}/{part}") for part in (*_VIDEO_PLACES, "to_timestamp"))
        for row, (chunk, number, start, stop) in zip(spans, zip(*parts, strict=True), strict=True):
            path = path_of("video_path", chunk, number, camera.key)
            row[name] = VideoSpan(path, float(start), None if stop is None else float(stop))
    rows = zip(*(column(name) for name in (*_PLACES, "tasks")), spans, strict=True)
    return [
        Episode(int(index), int(length), _texts(tasks, index, file), path_of("data_path", chunk, number), videos_of)
        for index, length, chunk, number, tasks, videos_of in rows
    ]


class _PathMaker:
    """The paths of v3.0 files; many episodes share one."""

    def __init__(self, root: Path, info: dict[str, Any]) -> None:
        self._root, self._info = root, info
        self._known: dict[tuple[str, int, int, str | None], Path] = {}

    def __call__(self, template: str, chunk: int, file: int, key: str | None = None) -> Path:
        place = (template, chunk, file, key)
        if place not in self._known:
            names = {"chunk_index": chunk, "file_index": file} | ({} if key is None else {"video_key": key})
            self._known[place] = _path(self._root, self._info, template, names)
        return self._known[place]


def _without_never_recorded(
    layout: Layout, version: str, info: dict[str, Any], videos: dict[str, CameraInfo]
) -> Layout:
    """The layout without cameras that no episode has a video of, though info.json declares them.

    v2.x only: v3.0 says in its episode tables which videos there are. A camera with statistics was recorded: its
    files are missing. Where no camera has any, the videos are not here, unless info.json counts none.
    """
    never = set(layout.never_recorded)
    if version != "v3.0" and layout.episodes:
        unseen = {name for name in videos if not any(e.videos[name].path.exists() for e in layout.episodes)}
        if len(unseen) < len(videos) or info.get("total_videos") == 0:
            never = {name for name in unseen if videos[name].key not in layout.statistics}
    if not never:
        return layout
    episodes = [
        replace(episode, videos={name: span for name, span in episode.videos.items() if name not in never})
        for episode in layout.episodes
    ]
    return replace(layout, episodes=episodes, never_recorded=sorted(never))


def _absent_files(root: Path, episodes: list[Episode]) -> list[Absent]:
    """Data and video files that are named, but missing, empty or Git-LFS pointers.

    DatasetError for one that is not the dataset's own.
    """
    places = OwnFiles(root)
    users: dict[Path, tuple[str, list[int]]] = {}
    for episode in episodes:
        users.setdefault(episode.data_path, ("data file", []))[1].append(episode.index)
        for name, span in episode.videos.items():
            users.setdefault(span.path, (f"video of camera '{name}'", []))[1].append(episode.index)
    for path, (what, _) in users.items():
        places.require(path, what)
    states = ((path, file_state(path)) for path in users)
    return [Absent(path, users[path][0], state, users[path][1]) for path, state in states if state != "whole"]


def _v30_tasks(path: Path) -> list[dict[str, Any]]:
    table = read_meta_table(path, "task list")
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
            raise DatasetError(f"{path} has no text for task {index}.", fix=_repair(path))
        if index in tasks:
            raise DatasetError(
                f"{path} names task {index} twice.", expected="one instruction per task index", fix=_repair(path)
            )
        tasks[index] = _text(row["task"], f"task {index}", path)
    return tasks


def _texts(value: Any, index: int, path: Path) -> list[str]:
    """The instructions of an episode; none where the list does not say."""
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    return [_text(text, f"an instruction of episode {index}", path) for text in listed]


def _text(value: Any, what: str, path: Path) -> str:
    if not isinstance(value, str):
        raise DatasetError(
            f"{path} has {shown(value)} as {what}, which is no text.", expected="an instruction", fix=_repair(path)
        )
    return value


def _integer(row: dict[str, Any], key: str, path: Path) -> int:
    value = _whole(row.get(key))
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST_ROWS:
        raise DatasetError(
            f"{path} has a row with {shown(row.get(key))} as '{key}'.",
            expected=f"a whole number from 0 to {MOST_ROWS - 1:,}",
            fix=_repair(path),
        )
    return value


def _whole(value: Any) -> Any:
    """1000.0 as 1000: some writers know no whole numbers. Everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _repair(path: Path) -> str:
    return repair_advice(path.parent.parent, "puts the list right where the data says how")


def _path(root: Path, info: dict[str, Any], key: str, names: dict[str, Any]) -> Path:
    template = info.get(key)
    where, fix = root / "meta" / "info.json", repair_advice(root, "finds the files and writes the pattern")
    if not isinstance(template, str):
        raise DatasetError(f"{where} has no '{key}'.", expected="the pattern of the file names", fix=fix)
    try:
        return root / fill_template(template, names)
    except ValueError as error:
        raise DatasetError(
            f"The '{key}' of {where} {error}: {plain(template, LIMIT)}",
            expected="a pattern such as data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            fix=fix,
        ) from error
