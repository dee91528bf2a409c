"""Statistics of every episode as v3.0 stores them: columns of the episode table, cut up only when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.common.statistics import statistic_values

from .arrow import is_list, is_number, one_array

type Stored = Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
type _Columns = dict[str, dict[str, npt.NDArray[np.float64] | list[Any]]]


def stored_statistics(table: pa.Table) -> _Columns:
    """The columns `stats/FEATURE/NAME` by feature and name: an array `[episodes, …]`, or a list where rows differ."""
    found: _Columns = {}
    for name in dict.fromkeys(table.column_names):
        parts = name.split("/")
        if len(parts) >= 3 and parts[0] == "stats" and table.column_names.count(name) == 1:
            # A feature's name may hold a slash of its own.
            found.setdefault("/".join(parts[1:-1]), {})[parts[-1]] = _values(table[name])
    return found


def _values(column: pa.ChunkedArray) -> npt.NDArray[np.float64] | list[Any]:
    values = one_array(column)
    shape = [len(values)]
    while is_list(values.type):
        inner = values.flatten()
        lengths = None if pa.types.is_fixed_size_list(values.type) else values.value_lengths().to_numpy(False)
        if values.null_count or not len(values) or (lengths is not None and (lengths != lengths[0]).any()):
            return list(column.to_pylist())
        shape.append(len(inner) // len(values))
        values = inner
    if values.null_count or pa.types.is_boolean(values.type) or not is_number(values.type):
        return list(column.to_pylist())
    numbers = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(shape)
    return numbers if numbers.ndim > 1 else numbers[:, None]


class RowStatistics(Mapping[str, Mapping[str, npt.NDArray[np.float64]]]):
    """The statistics of one episode, read from the columns when somebody looks at them."""

    def __init__(self, columns: _Columns, place: int) -> None:
        self._columns, self._place = columns, place

    def __getitem__(self, key: str) -> Mapping[str, npt.NDArray[np.float64]]:
        found = {}
        for name, values in self._columns[key].items():
            value = values[self._place]
            if value is not None:
                with suppress(ValueError):
                    found[name] = statistic_values(value)
        if not found:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._columns if self._has(key))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return any(self._has(key) for key in self._columns)

    def _has(self, key: str) -> bool:
        return any(values[self._place] is not None for values in self._columns[key].values())
