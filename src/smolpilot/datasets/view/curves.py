"""States and actions of single episodes as columns of plain numbers, also out of damaged tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.arrow import leaf_of, numbers_of
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.features import motion_keys
from smolpilot.datasets.format.files import open_parquet, read_parquet
from smolpilot.datasets.format.meta import DatasetMeta

_DIGITS = 5


class CurveReader:
    """Reads the numbers of one episode after another; keeps the last file, in which the next one usually is.

    State and action are found under the names that `motion_keys` knows; where one is not there, it has no curves.
    """

    def __init__(self, meta: DatasetMeta) -> None:
        self._meta = meta
        self._keys = motion_keys(meta.features)
        self._path: Path | None = None
        self._table: pa.Table | None = None
        self._rows: dict[float, npt.NDArray[np.int64]] = {}

    def rows(self, episode: Episode) -> npt.NDArray[np.int64]:
        """The rows of the episode within its data file."""
        self._load(episode.data_path)
        return self._rows.get(episode.index, np.array([], dtype=np.int64))

    def vectors(self, episode: Episode) -> dict[str, npt.NDArray[np.float64]]:
        """State `[n, S]` and action `[n, A]`; NaN stays NaN. DatasetError when the table is torn or of other shape."""
        rows = self.rows(episode)
        table = self._load(episode.data_path).take(pa.array(rows))
        return {word: self._matrix(table[key], key, episode) for word, key in self._keys.items()}

    def instructions(self, episode: Episode) -> list[str]:
        """The texts that the episode's rows point to, in order; empty when they point to none.

        DatasetError when rows have no task index.
        """
        table = self._load(episode.data_path)
        if "task_index" not in table.column_names:
            return []
        values = _plain_numbers(table["task_index"], "task_index")[self.rows(episode)]
        missing = int(np.count_nonzero(~np.isfinite(values)))
        if missing:
            raise DatasetError(f"{missing} of {len(values)} rows of episode {episode.index} have no task index.")
        return [self._meta.tasks[int(value)] for value in dict.fromkeys(values) if int(value) in self._meta.tasks]

    def _load(self, path: Path) -> pa.Table:
        if self._path != path or self._table is None:
            self._table = None
            needed = ["episode_index", *self._keys.values()]
            present = open_parquet(path, "data file").schema_arrow.names
            table = read_parquet(path, "data file", [name for name in [*needed, "task_index"] if name in present])
            for name in needed:
                if name not in table.column_names:
                    raise DatasetError(f"The data file {path} has no column '{name}'.")
            self._path, self._table = path, table
            self._rows = _rows_by_value(_plain_numbers(table["episode_index"], "episode_index"))
        return self._table

    def _matrix(self, column: pa.ChunkedArray, key: str, episode: Episode) -> npt.NDArray[np.float64]:
        width = self._meta.features[key].shape[0]
        numbers = _plain_numbers(column, key)
        if len(numbers) != len(column) * width:
            raise DatasetError(
                f"'{key}' of episode {episode.index} has {len(numbers)} numbers for {len(column)} rows.",
                expected=f"{width} per row",
            )
        return numbers.reshape(len(column), width)


def _plain_numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """The numbers of a column, one after another, whether they are scalars, lists or lists of one number."""
    try:
        return numbers_of(column).astype(np.float64)
    except (TypeError, ValueError):
        kind = leaf_of(column.type)
        raise DatasetError(f"The column '{name}' holds values of type {kind}.", expected="numbers") from None


def _rows_by_value(values: npt.NDArray[np.float64]) -> dict[float, npt.NDArray[np.int64]]:
    """The rows at which each value stands, in order."""
    if not len(values):
        return {}
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    return {float(values[rows[0]]): rows.astype(np.int64) for rows in np.split(order, cuts)}


def to_columns(matrix: npt.NDArray[np.float64]) -> list[list[float | None]]:
    """One list per dimension, in five digits, None where a value is not finite: JSON knows no NaN."""
    return [[_short(value) for value in column] for column in matrix.T.tolist()]


def _short(value: float) -> Any:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
