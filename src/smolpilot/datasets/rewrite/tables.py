"""The rows of an episode with every column and dtype, and hashes of columns that do not depend on their wrapping."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.datasets.files import open_parquet
from smolpilot.datasets.meta import DatasetMeta
from smolpilot.errors import DatasetError

_INDEX = "episode_index"


@dataclass(frozen=True)
class Rows:
    """Where an episode's rows are: the whole file, or (`whole` False) those with its index value.

    `offset` is the first row by the episodes' order and lengths, for files without an index column.
    """

    path: Path
    episode: int
    length: int
    whole: bool
    offset: int


def rows_of(meta: DatasetMeta) -> dict[int, Rows]:
    """The rows of every episode of a dataset."""
    inside: dict[Path, int] = {}
    count: dict[Path, int] = {}
    for episode in meta.episodes:
        count[episode.data_path] = count.get(episode.data_path, 0) + 1
    found = {}
    for episode in meta.episodes:
        offset = inside.get(episode.data_path, 0)
        inside[episode.data_path] = offset + episode.length
        whole = count[episode.data_path] == 1 and meta.version != "v3.0"
        found[episode.index] = Rows(episode.data_path, episode.index, episode.length, whole, offset)
    return found


class RowReader:
    """Reads episodes out of parquet files; keeps the last row group, so that memory stays bounded."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, _File] = OrderedDict()

    def read(self, rows: Rows, columns: list[str] | None = None) -> pa.Table:
        """The rows of one episode, in order; raises DatasetError when there are not as many as the meta data says."""
        file = self._files.get(rows.path)
        if file is None:
            self._files.clear()
            file = self._files[rows.path] = _File(rows.path)
        try:
            table = file.read(rows, columns)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"The data file {rows.path} is torn: {str(error).splitlines()[0]}",
                fix="Copy or download the file again, or leave its episodes out (`smolpilot dataset repair`).",
            ) from error
        if len(table) != rows.length:
            raise DatasetError(
                f"Episode {rows.episode} has {len(table)} rows in {rows.path}.",
                expected=f"{rows.length}, as the meta folder says",
                fix="See `smolpilot dataset check`; `smolpilot dataset repair` makes a copy in which they agree.",
            )
        return table


class _File:
    def __init__(self, path: Path) -> None:
        self._file = open_parquet(path, "data file")
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._index: npt.NDArray[np.int64] | None = None
        self._group: tuple[int, tuple[str, ...] | None, pa.Table] | None = None

    def read(self, rows: Rows, columns: list[str] | None) -> pa.Table:
        total = int(self._starts[-1])
        if rows.whole:
            return self._file.read(columns=columns)
        if _INDEX not in self._file.schema_arrow.names:
            return self._slice(rows.offset, min(rows.offset + rows.length, total), columns)
        if self._index is None:
            self._index = self._file.read(columns=[_INDEX])[_INDEX].to_numpy()
        mine = np.flatnonzero(self._index == rows.episode)
        if len(mine) == 0:
            return self._file.schema_arrow.empty_table()
        begin, end = int(mine[0]), int(mine[-1]) + 1
        table = self._slice(begin, end, columns)
        return table if end - begin == len(mine) else table.take(pa.array(mine - begin))

    def _slice(self, begin: int, end: int, columns: list[str] | None) -> pa.Table:
        parts = []
        for group in range(len(self._starts) - 1):
            first, last = int(self._starts[group]), int(self._starts[group + 1])
            if first < end and last > begin:
                parts.append(self._read_group(group, columns).slice(max(begin - first, 0), end - max(begin, first)))
        return pa.concat_tables(parts) if parts else self._file.schema_arrow.empty_table()

    def _read_group(self, group: int, columns: list[str] | None) -> pa.Table:
        key = None if columns is None else tuple(columns)
        if self._group is None or self._group[:2] != (group, key):
            self._group = None
            self._group = (group, key, self._file.read_row_group(group, columns=columns))
        return self._group[2]


def stored(path: Path) -> tuple[int, pa.Schema]:
    """Uncompressed bytes of a parquet file's columns, which LeRobot's limit counts, and their dtypes: its footer."""
    file = open_parquet(path, "data file")
    meta: pq.FileMetaData = file.metadata
    size = sum(
        meta.row_group(i).column(j).total_uncompressed_size
        for i in range(meta.num_row_groups)
        for j in range(meta.num_columns)
    )
    return size, file.schema_arrow


def column_digests(table: pa.Table) -> dict[str, list[str]]:
    """[type, hash of all values bit by bit] of each column; lists of any kind and texts of any width count the same."""
    found = {}
    for name in table.column_names:
        plain = plain_column(table[name])
        digest = hashlib.blake2b(digest_size=16)
        _hash(plain, digest)
        found[name] = [str(plain.type), digest.hexdigest()]
    return found


def plain_column(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array of plain lists, texts and numbers, without offsets into larger buffers."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=column.type)
    return _plain(array)


def _plain(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if pa.types.is_large_string(kind):
        return array.cast(pa.string())
    if pa.types.is_large_binary(kind):
        return array.cast(pa.binary())
    if pa.types.is_fixed_size_list(kind) and not array.null_count:
        offsets = np.arange(len(array) + 1, dtype=np.int32) * np.int32(kind.list_size)
        return pa.ListArray.from_arrays(_offsets(offsets), _plain(list_items(array)))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = _list_lengths(array, 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(_offsets(offsets), _plain(list_items(array)), mask=mask)
    return array


def _offsets(offsets: npt.NDArray[np.int32]) -> pa.Array:
    # `pa.array` would load `numpy.ma` to see whether the array is a masked one.
    return pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)])


def list_items(array: pa.Array) -> pa.Array:
    """The values of all lists, one after another; those of missing lists are left out."""
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        return array.flatten() if array.null_count else array.values.slice(array.offset * size, len(array) * size)
    offsets = array.offsets.to_numpy()
    if array.null_count and np.diff(offsets)[array.is_null().to_numpy(zero_copy_only=False)].any():
        return array.flatten()
    # Not flatten where it can be done without: it has no way to copy LeRobot's language columns (JSON in structs).
    return array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))


def _list_lengths(array: pa.Array, null: int) -> npt.NDArray[np.int32]:
    """Numbers of values in each list, `null` where there is none."""
    if not array.null_count and not pa.types.is_fixed_size_list(array.type):
        return np.diff(array.offsets.to_numpy()).astype(np.int32)
    # Loaded where it is needed: it takes a tenth of a second, of a command that is over in two.
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(pc.list_value_length(array), null)).astype(np.int32)


def _hash(array: pa.Array, digest: Any) -> None:
    kind = array.type
    digest.update(f"{len(array)};{array.null_count};".encode())
    if array.null_count:
        digest.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_list(kind):
        digest.update(_list_lengths(array, -1).tobytes())
        _hash(list_items(array), digest)
    elif pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            digest.update(kind.field(i).name.encode())
            _hash(_plain(array.field(i)), digest)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        for value in array.to_pylist():
            content = value.encode() if isinstance(value, str) else value or b""
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    elif pa.types.is_null(kind):
        return
    elif array.null_count:
        digest.update(repr(array.to_pylist()).encode())
    else:
        digest.update(np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).tobytes())


def replace_column(table: pa.Table, name: str, values: npt.NDArray[Any]) -> pa.Table:
    """The table with other values in a column, in the same place and, where it exists, of the same dtype."""
    place = table.schema.get_field_index(name)
    if place < 0:
        return table.append_column(name, pa.array(values))
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(values).cast(field.type))


def texts_of(table: pa.Table, tasks: Mapping[int, str]) -> list[str]:
    """The instructions of an episode in the order of their first use."""
    used = list(dict.fromkeys(table["task_index"].to_pylist())) if "task_index" in table.column_names else []
    return [tasks[index] for index in used if index in tasks]
