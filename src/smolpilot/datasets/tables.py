"""The numeric tables of a dataset in memory: states, actions, times and every other column, checked on the way in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.datasets.features import Feature
from smolpilot.datasets.files import open_parquet, read_parquet
from smolpilot.datasets.layout import Episode
from smolpilot.datasets.meta import DatasetMeta
from smolpilot.errors import DatasetError
from smolpilot.keys import ACTION, STATE

_REQUIRED = ("timestamp", "frame_index", "episode_index", "task_index")

type Column = npt.NDArray[Any] | list[Any]


@dataclass(frozen=True)
class Tables:
    """Columns of the loaded episodes, episode after episode.

    `columns[name]` is an array `[N, …]` (a list for texts); `spans[episode]` the (start, stop) rows of an episode;
    `file_rows` the row of each frame within its own parquet file.
    """

    columns: dict[str, Column]
    spans: dict[int, tuple[int, int]]
    file_rows: npt.NDArray[np.int64]

    def array(self, name: str) -> npt.NDArray[Any]:
        """A numeric column."""
        column = self.columns[name]
        assert isinstance(column, np.ndarray)
        return column


def load_tables(meta: DatasetMeta, episodes: list[Episode]) -> Tables:
    """Load all columns but the pictures of `episodes`.

    Raises DatasetError when a file is torn, a column is missing or of another shape than the features say, an
    episode has too few rows, a task has no text, or a state or action is NaN or infinite.
    """
    by_file: dict[Path, list[Episode]] = {}
    for episode in episodes:
        by_file.setdefault(episode.data_path, []).append(episode)
    features = {name: feature for name, feature in meta.features.items() if feature.dtype not in ("video", "image")}
    parts: list[dict[str, Column]] = []
    rows_in_file: list[npt.NDArray[np.int64]] = []
    spans: dict[int, tuple[int, int]] = {}
    start = 0
    for path, wanted in by_file.items():
        columns = _read_columns(path, features)
        rows = _rows_of(path, columns, wanted)
        for episode, episode_rows in zip(wanted, rows, strict=True):
            spans[episode.index] = (start, start + len(episode_rows))
            start += len(episode_rows)
        order = np.concatenate(rows)
        parts.append({name: _take(column, order) for name, column in columns.items()})
        rows_in_file.append(order)
    columns = {name: _join([part[name] for part in parts if name in part]) for name in parts[0]}
    if "index" not in columns:
        columns["index"] = np.arange(start, dtype=np.int64)
    tables = Tables(columns, spans, np.concatenate(rows_in_file))
    _require_finite(tables, meta)
    _require_tasks(tables, meta)
    return tables


def _read_columns(path: Path, features: dict[str, Feature]) -> dict[str, Column]:
    table = read_parquet(path, "data file", _numeric_columns(path, features))
    for name in (*_REQUIRED, STATE, ACTION):
        if name not in table.column_names:
            raise DatasetError(
                f"The data file {path} has no column '{name}'.",
                expected="the columns that meta/info.json names, and LeRobot's index columns",
            )
    columns = {name: _to_column(table[name], name, features.get(name), path) for name in table.column_names}
    for name in (*_REQUIRED, STATE, ACTION):
        if not isinstance(columns[name], np.ndarray):
            kind = table.schema.field(name).type
            raise DatasetError(f"The column '{name}' of {path} is of type {kind}.", expected="numbers")
    return columns


def _numeric_columns(path: Path, features: dict[str, Feature]) -> list[str]:
    present = open_parquet(path, "data file").schema_arrow.names
    return [name for name in present if name in features or name in _REQUIRED]


def _to_column(column: pa.ChunkedArray, name: str, feature: Feature | None, path: Path) -> Column:
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=column.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    count = len(values)
    if values.null_count:
        raise DatasetError(f"The column '{name}' of {path} has {values.null_count} empty rows.")
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type) or _is_large_list(values.type):
        values = values.flatten()
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
        return list(column.to_pylist())
    numbers = values.to_numpy(zero_copy_only=False)
    shape = feature.shape if feature is not None else (1,)
    if len(numbers) != count * math.prod(shape):
        raise DatasetError(
            f"The column '{name}' of {path} has {len(numbers) / max(count, 1):g} numbers per row.",
            expected=f"shape {list(shape)}, as meta/info.json says",
        )
    if name in (STATE, ACTION):
        # A feature of one number is stored as a scalar; a state is a vector all the same.
        return np.array(numbers, dtype=np.float32).reshape(count, shape[0])
    return np.array(numbers).reshape(count, *(() if shape == (1,) else shape))


def _is_large_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_list(kind))


def _rows_of(path: Path, columns: dict[str, Column], episodes: list[Episode]) -> list[npt.NDArray[np.int64]]:
    """The rows of each episode, checked: as many as the meta folder says, frames 0, 1, 2, … in order."""
    index = np.asarray(columns["episode_index"])
    frame = np.asarray(columns["frame_index"])
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    found = []
    for episode in episodes:
        rows = order[np.searchsorted(ordered, episode.index) : np.searchsorted(ordered, episode.index, side="right")]
        if len(rows) != episode.length:
            raise DatasetError(
                f"Episode {episode.index} has {len(rows)} rows in {path}.",
                expected=f"{episode.length}, as the meta folder says",
                fix="See `smolpilot dataset check`; `smolpilot dataset repair` makes a copy in which they agree.",
            )
        if not np.array_equal(frame[rows], np.arange(len(rows))):
            raise DatasetError(
                f"The frames of episode {episode.index} in {path} are not numbered 0, 1, 2, … in order.",
                fix="Record the episode anew, or leave it out.",
            )
        found.append(rows.astype(np.int64))
    return found


def _take(column: Column, rows: npt.NDArray[np.int64]) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else [column[i] for i in rows]


def _join(parts: list[Column]) -> Column:
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def _require_finite(tables: Tables, meta: DatasetMeta) -> None:
    for key, names, word in ((STATE, meta.state_names, "state"), (ACTION, meta.action_names, "action")):
        bad = ~np.isfinite(tables.array(key))
        if bad.any():
            row, joint = (int(i) for i in np.argwhere(bad)[0])
            value = float(tables.array(key)[row, joint])
            raise DatasetError(
                f"The {word} is {value} in episode {int(tables.array('episode_index')[row])}, "
                f"frame {int(tables.array('frame_index')[row])}, joint '{names[joint]}' "
                f"({int(bad.sum())} such values in all).",
                expected="finite numbers",
                fix="Leave these episodes out, or record them anew.",
            )


def _require_tasks(tables: Tables, meta: DatasetMeta) -> None:
    for index in np.unique(tables.array("task_index")).tolist():
        # 1.5 and NaN of a column of floats are no keys either, 1.0 is one.
        if index not in meta.tasks:
            raise DatasetError(
                f"Frames of {meta.root} point to task {index}, which has no text.",
                expected=f"one of the task indices {sorted(meta.tasks)}",
                fix="Add the instruction to the task list in meta/.",
            )
