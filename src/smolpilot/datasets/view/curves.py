"""States and actions of single episodes as columns of plain numbers, also out of damaged tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smolpilot.datasets.files import open_parquet, read_parquet
from smolpilot.datasets.layout import Episode
from smolpilot.datasets.meta import DatasetMeta
from smolpilot.errors import DatasetError
from smolpilot.keys import ACTION, STATE

_DIGITS = 5


class CurveReader:
    """Reads the numbers of one episode after another; keeps the last file, in which the next one usually is."""

    def __init__(self, meta: DatasetMeta) -> None:
        self._meta = meta
        self._path: Path | None = None
        self._table: pa.Table | None = None

    def rows(self, episode: Episode) -> npt.NDArray[np.int64]:
        """The rows of the episode within its data file."""
        table = self._load(episode.data_path)
        return np.flatnonzero(table["episode_index"].to_numpy() == episode.index)

    def vectors(self, episode: Episode) -> dict[str, npt.NDArray[np.float64]]:
        """State `[n, S]` and action `[n, A]`; NaN stays NaN. DatasetError when the table is torn or of other shape."""
        rows = self.rows(episode)
        table = self._load(episode.data_path).take(pa.array(rows))
        return {key: self._matrix(table[key], key, episode) for key in (STATE, ACTION)}

    def instructions(self, episode: Episode) -> list[str]:
        """The texts that the episode's rows point to, in order; empty when they point to none.

        DatasetError when rows have no task index.
        """
        table = self._load(episode.data_path)
        if "task_index" not in table.column_names:
            return []
        values = table["task_index"].to_numpy()[self.rows(episode)]
        missing = int(np.count_nonzero(~np.isfinite(values.astype(np.float64))))
        if missing:
            raise DatasetError(f"{missing} of {len(values)} rows of episode {episode.index} have no task index.")
        return [self._meta.tasks[int(value)] for value in dict.fromkeys(values) if int(value) in self._meta.tasks]

    def _load(self, path: Path) -> pa.Table:
        if self._path != path or self._table is None:
            self._table = None
            wanted = ["episode_index", "task_index", STATE, ACTION]
            present = open_parquet(path, "data file").schema_arrow.names
            table = read_parquet(path, "data file", [name for name in wanted if name in present])
            for name in ("episode_index", STATE, ACTION):
                if name not in table.column_names:
                    raise DatasetError(f"The data file {path} has no column '{name}'.")
            self._path, self._table = path, table
        return self._table

    def _matrix(self, column: pa.ChunkedArray, key: str, episode: Episode) -> npt.NDArray[np.float64]:
        width = self._meta.features[key].shape[0]
        values = column
        while isinstance(values.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
            values = pc.list_flatten(values)
        numbers: npt.NDArray[np.float64] = values.to_numpy().astype(np.float64)
        if len(numbers) != len(column) * width:
            raise DatasetError(
                f"'{key}' of episode {episode.index} has {len(numbers)} numbers for {len(column)} rows.",
                expected=f"{width} per row",
            )
        return numbers.reshape(len(column), width)


def to_columns(matrix: npt.NDArray[np.float64]) -> list[list[float | None]]:
    """One list per dimension, in five digits, None where a value is not finite: JSON knows no NaN."""
    return [[_short(value) for value in column] for column in matrix.T.tolist()]


def _short(value: float) -> Any:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
