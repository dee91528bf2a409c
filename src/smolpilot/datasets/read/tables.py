"""The numeric tables of a dataset in memory: states, actions, times and every other column, checked on the way in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.errors import DatasetError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.text import pluralize
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.features import NEEDED
from smolpilot.datasets.format.files import dataset_root, open_parquet, read_parquet, repair_advice
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.parquet_files import group_facts

from .columns import Column, UnusableError, needed_column, optional_column, why_unusable

# Rows of a file beyond those of its listed episodes: other episodes may be in it, but no thousand times as many.
_MORE, _SPARE = 10, 1_000_000
_REQUIRED = ("timestamp", "frame_index", "episode_index", "task_index")


@dataclass(frozen=True)
class Tables:
    """Columns of the loaded episodes, episode after episode.

    `columns[name]` is an array `[N, …]` (a list for texts); `spans[episode]` the (start, stop) rows of an episode;
    `file_rows` the row of each frame within its own parquet file; `left_out` the columns that samples cannot carry,
    with the reason.
    """

    columns: dict[str, Column]
    spans: dict[int, tuple[int, int]]
    file_rows: npt.NDArray[np.int64]
    left_out: dict[str, str] = field(default_factory=dict)

    def array(self, name: str) -> npt.NDArray[Any]:
        """A numeric column."""
        column = self.columns[name]
        assert isinstance(column, np.ndarray)
        return column


def load_tables(meta: DatasetMeta, episodes: list[Episode], *, trainable: bool = True) -> Tables:
    """Load all columns but the images of `episodes`.

    What no policy reads and no sample can carry goes into `left_out`: empty cells, lists of varying length, nested
    entries, columns that only some tables have. Raises DatasetError when a file is torn, a column that is needed is
    missing, has empty rows or another shape than the features say, an episode has too few rows, a task has no text,
    or a state, an action or a time is NaN or infinite. `trainable` False does without state and action.
    """
    by_file: dict[Path, list[Episode]] = {}
    for episode in episodes:
        by_file.setdefault(episode.data_path, []).append(episode)
    reader = _FileReader(meta, trainable)
    listed: Counter[Path] = Counter()
    for episode in meta.episodes:
        listed[episode.data_path] += episode.length
    parts: list[dict[str, Column]] = []
    rows_in_file: list[npt.NDArray[np.int64]] = []
    for path, wanted in by_file.items():
        columns = reader.read(path, listed[path])
        rows = _rows_of(path, columns, wanted)
        parts.append({name: _take(column, rows) for name, column in columns.items()})
        rows_in_file.append(rows)
    left_out = reader.left_out | _uneven(parts, reader.left_out) | reader.images.never_recorded(strict=trainable)
    columns = {name: _join([part[name] for part in parts]) for name in parts[0] if name not in left_out}
    inside = [episode for wanted in by_file.values() for episode in wanted]
    stops = np.cumsum([episode.length for episode in inside]).tolist()
    starts = [0, *stops[:-1]]
    spans = {e.index: span for e, span in zip(inside, zip(starts, stops, strict=True), strict=True)}
    if "index" not in columns:
        columns["index"] = np.arange(stops[-1], dtype=np.int64)
    left_out |= _lacking(meta, {*columns, *left_out, *meta.left_out})
    tables = Tables(columns, spans, np.concatenate(rows_in_file), left_out)
    _require_finite(tables, meta)
    _require_tasks(tables, meta)
    return tables


class _FileReader:
    """Reads one data file after another; remembers why columns are left out."""

    def __init__(self, meta: DatasetMeta, trainable: bool) -> None:
        self._needed = [*_REQUIRED, *(key for key in (STATE, ACTION) if trainable or key in meta.features)]
        self._declared = {*meta.features, *meta.left_out}
        self._features = {
            name: feature
            for name, feature in meta.features.items()
            if feature.dtype not in ("video", "image") and name not in meta.left_out
        }
        self.left_out: dict[str, str] = {}
        self.images = ImageColumns(meta)

    def read(self, path: Path, listed: int) -> dict[str, Column]:
        """The columns of a file, all rows; the meta folder lists so many of them."""
        file = open_parquet(path, "data file")
        rows = file.metadata.num_rows
        if rows > _MORE * listed + _SPARE:
            raise DatasetError(
                f"The data file {path} has {rows:,} rows; the episodes in it have {listed:,} by the meta folder.",
                expected="the rows of its episodes",
                fix=repair_advice(dataset_root(path), "keeps the episodes of the other files"),
            )
        schema = file.schema_arrow
        self.images.see(path, file)
        for name in self._needed:
            if name not in schema.names:
                advice = repair_advice(dataset_root(path), "makes index columns anew")
                raise DatasetError(
                    f"The data file {path} has no column '{name}'.",
                    expected="the columns that meta/info.json names, and LeRobot's index columns",
                    fix="" if name in (STATE, ACTION) else advice,
                )
        wanted = [name for name in schema.names if self._is_wanted(name, schema)]
        table = read_parquet(path, "data file", wanted)
        columns: dict[str, Column] = {}
        for name in wanted:
            if name in NEEDED:
                columns[name] = needed_column(table[name], name, self._features.get(name), path)
                continue
            try:
                columns[name] = optional_column(table[name], self._features[name])
            except UnusableError as reason:
                self._leave_out(name, str(reason))
        return columns

    def _is_wanted(self, name: str, schema: pa.Schema) -> bool:
        if name in NEEDED:
            return name in self._needed or name in self._features
        if name not in self._declared:
            own = "pandas' own index, which" if name.startswith("__index_level_") else "a column that"
            self._leave_out(name, f"{own} meta/info.json does not declare")
        if name in self.left_out or name not in self._features:
            return False
        reason = why_unusable(schema.field(name).type, self._features[name])
        if reason:
            self._leave_out(name, reason)
        return not reason

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out.setdefault(name, reason)


def _lacking(meta: DatasetMeta, known: set[str]) -> dict[str, str]:
    """Features that are declared, but that no table has."""
    return {
        name: "declared in meta/info.json, but no table has it"
        for name, feature in meta.features.items()
        if feature.dtype not in ("video", "image") and name not in known
    }


def _uneven(parts: Sequence[dict[str, Column]], known: dict[str, str]) -> dict[str, str]:
    """Columns that only some of the files have, or that are texts in some and numbers in others."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        having = [part[name] for part in parts if name in part]
        if name in known:
            continue
        if len(having) < len(parts):
            found[name] = f"only {len(having)} of {len(parts)} data files have it"
        elif len({isinstance(column, np.ndarray) for column in having}) > 1:
            found[name] = "numbers in some data files, texts in others"
    return found


def _rows_of(path: Path, columns: dict[str, Column], episodes: Sequence[Episode]) -> npt.NDArray[np.int64]:
    """The rows of the episodes, one after another: as many as the meta folder says, frames 0, 1, 2, … in order."""
    index, frame = np.asarray(columns["episode_index"]), np.asarray(columns["frame_index"])
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    wanted = np.array([episode.index for episode in episodes])
    lengths = np.array([episode.length for episode in episodes])
    first = np.searchsorted(ordered, wanted)
    counts = np.searchsorted(ordered, wanted, side="right") - first
    root = dataset_root(path)
    wrong = np.flatnonzero(counts != lengths)
    if len(wrong):
        place = int(wrong[0])
        raise DatasetError(
            f"Episode {wanted[place]} has {counts[place]} rows in {path}.",
            expected=f"{lengths[place]}, as the meta folder says",
            fix=repair_advice(root, "counts the rows, or leaves the episode out"),
        )
    rows = order[ranges(first, counts)].astype(np.int64)
    misplaced = np.flatnonzero(frame[rows] != ranges(np.zeros_like(counts), counts))
    if len(misplaced):
        place = int(np.searchsorted(np.cumsum(counts), misplaced[0], side="right"))
        raise DatasetError(
            f"The frames of episode {wanted[place]} in {path} are not numbered 0, 1, 2, … in order.",
            expected="one row per frame, in order",
            fix=repair_advice(root, "puts them in order, or leaves the episode out"),
        )
    return rows


def ranges(first: npt.NDArray[Any], counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """`first[0], first[0] + 1, …` (`counts[0]` of them), then those of the next, in one array."""
    before = np.cumsum(counts) - counts
    steps = np.arange(int(np.sum(counts)), dtype=np.int64)
    return np.asarray(np.repeat(np.asarray(first, dtype=np.int64) - before, counts) + steps, dtype=np.int64)


def _take(column: Column, rows: npt.NDArray[np.int64]) -> Column:
    if len(rows) == len(column) and np.array_equal(rows, np.arange(len(rows))):
        return column
    return column[rows] if isinstance(column, np.ndarray) else [column[i] for i in rows]


def _join(parts: list[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def _require_finite(tables: Tables, meta: DatasetMeta) -> None:
    words = {STATE: "state", ACTION: "action", "timestamp": "time stamp"}
    for key, word in words.items():
        if key not in tables.columns:
            continue
        bad = ~np.isfinite(tables.array(key))
        if bad.any():
            row, *joint = (int(i) for i in np.argwhere(bad)[0])
            value = float(tables.array(key)[(row, *joint)])
            known = meta.names_of(key)
            where = f", joint '{known[joint[0]]}'" if joint and joint[0] < len(known) else ""
            raise DatasetError(
                f"The {word} is {value} in episode {int(tables.array('episode_index')[row])}, "
                f"frame {int(tables.array('frame_index')[row])}{where} "
                f"({int(bad.sum())} such values in all).",
                expected="finite numbers",
                fix=repair_advice(meta.root, "puts time stamps right and leaves out episodes that have none"),
            )


def _require_tasks(tables: Tables, meta: DatasetMeta) -> None:
    for index in np.unique(tables.array("task_index")).tolist():
        if index not in meta.tasks:
            known = sorted(meta.tasks)
            raise DatasetError(
                f"Frames of {meta.root} point to task {index}, which has no text.",
                expected=f"one of the task indices {known[:20]}{' …' if len(known) > 20 else ''}",
                fix=repair_advice(meta.root, "gives it a text"),
            )


class ImageColumns:
    """Counts, for each camera with images in the tables, the files and rows that have none."""

    def __init__(self, meta: DatasetMeta) -> None:
        self._meta = meta
        self._cameras = {camera.key: name for name, camera in meta.cameras.items() if not camera.is_video}
        self._files = 0
        self._without: dict[str, list[Path]] = {key: [] for key in self._cameras}
        self._holes: dict[str, tuple[Path, int]] = {}

    def see(self, path: Path, file: pq.ParquetFile) -> None:
        """Take note of a data file."""
        self._files += 1
        places = {file.schema.column(i).path: i for i in range(len(file.schema))} if self._cameras else {}
        for key in self._cameras:
            place = places.get(f"{key}.bytes", places.get(key))
            holes = 0 if place is None else _empty_cells(file, place)
            if place is None or 0 < holes == file.metadata.num_rows:
                self._without[key].append(path)
            elif holes:
                self._holes.setdefault(key, (path, holes))

    def never_recorded(self, *, strict: bool) -> dict[str, str]:
        """The cameras that no file has an image of, by key; with `strict` a DatasetError for those that some have."""
        found = {}
        for key, name in self._cameras.items():
            if len(self._without[key]) == self._files:
                found[key] = "a camera of which no table holds an image"
            elif strict and self._without[key]:
                raise self._lacking(name, self._without[key])
            elif strict and key in self._holes:
                path, holes = self._holes[key]
                raise DatasetError(
                    f"The camera '{name}' has no image in {pluralize(holes, 'row')} of {path}.",
                    expected="an image in every row",
                    fix=repair_advice(self._meta.root, "keeps the episodes that have all"),
                )
        return found

    def _lacking(self, camera: str, files: Collection[Path]) -> DatasetError:
        without = set(files)
        episodes = [episode.index for episode in self._meta.episodes if episode.data_path in without]
        some = ", ".join(map(str, episodes[:10])) + (f", … ({len(episodes)} in all)" if len(episodes) > 10 else "")
        return DatasetError(
            f"The camera '{camera}' has no images in episodes {some}, though it has them in others.",
            expected="an image of every camera in every row",
            fix=repair_advice(self._meta.root, "keeps the episodes that have all"),
        )


def _empty_cells(file: pq.ParquetFile, place: int) -> int:
    holes = 0
    for group in range(file.metadata.num_row_groups):
        try:
            statistics = group_facts(file, group, [place])[0].statistics
        except (pa.ArrowException, OSError):  # a damaged page of images costs its rows, when they are read
            continue
        if statistics is not None and statistics.has_null_count:
            holes += statistics.null_count
    return holes
