"""The rows of an episode with every column and dtype, and hashes of columns that do not depend on their wrapping."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.arrow import LARGE, is_list, leaf_of, list_items, list_lengths, numbers_of, plain_column
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.files import GET_AGAIN, dataset_root, open_parquet, repair_advice
from smolpilot.datasets.format.meta import DatasetMeta

_INDEX = "episode_index"
PANDAS_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas leaves of a table's row numbers; no feature of a dataset unless info.json says so."""
# Row groups that are read in one go: a file of ours has one for each episode.
_RUN_ROWS, _RUN_BYTES = 4096, 16 * 1024 * 1024


@dataclass(frozen=True)
class TableForm:
    """How a dataset's tables are read: `scalars` are features of one number, `without` columns that are left out.

    `renamed` are the names of columns in the files, and those that they are to have.
    """

    declared: frozenset[str] = frozenset()
    scalars: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)

    def drops(self, column: str) -> bool:
        """Whether a column is left out: by choice, or as pandas' own."""
        return column in self.without or (column not in self.declared and bool(PANDAS_INDEX.fullmatch(column)))

    def unwraps(self, column: pa.Field) -> bool:
        """Whether a column is stored as lists though its feature is one number."""
        return column.name in self.scalars and is_list(column.type)


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
    form: TableForm = TableForm()


def form_of(meta: DatasetMeta, renamed: Mapping[str, str] | None = None) -> TableForm:
    """How the tables of a dataset are read."""
    scalars = frozenset(name for name, one in meta.features.items() if one.shape == (1,))
    return TableForm(frozenset(meta.features), scalars, meta.without, renamed or {})


def rows_of(meta: DatasetMeta, renamed: Mapping[str, str] | None = None) -> dict[int, Rows]:
    """The rows of every episode of a dataset; `renamed` as in `copy_episodes`."""
    inside: dict[Path, int] = {}
    count = Counter(episode.data_path for episode in meta.episodes)
    form, found = form_of(meta, renamed), {}
    for episode in meta.episodes:
        offset = inside.get(episode.data_path, 0)
        inside[episode.data_path] = offset + episode.length
        whole = count[episode.data_path] == 1 and not meta.format.shared_files
        found[episode.index] = Rows(episode.data_path, episode.index, episode.length, whole, offset, form)
    return found


class RowReader:
    """Reads episodes out of parquet files; keeps a few row groups of the last file, so that memory stays bounded.

    A file that has changed since is opened anew.
    """

    def __init__(self) -> None:
        self._file: _File | None = None

    def read(self, rows: Rows, columns: list[str] | None = None) -> pa.Table:
        """The rows of one episode, in order; raises DatasetError when there are not as many as the meta data says.

        Columns that the dataset's form leaves out are not read; lists of one number of a feature that is one number
        become plain numbers.
        """
        if self._file is None or not self._file.is_of(rows.path):
            self._file = None
            self._file = _File(rows.path)
        try:
            table = self._file.read(rows, columns)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(
                f"The data file {rows.path} cannot be read: {str(error).splitlines()[0]}",
                expected="a whole parquet file",
                fix=f"`smolpilot dataset repair` copies what can be read; {GET_AGAIN}",
            ) from error
        if len(table) != rows.length:
            raise DatasetError(
                f"Episode {rows.episode} has {len(table)} rows in {rows.path}.",
                expected=f"{rows.length}, as the meta folder says",
                fix="See `smolpilot dataset check`; `smolpilot dataset repair` makes a copy in which they agree.",
            )
        return table


def thread_reader() -> RowReader:
    """This thread's reader: parts that are written one after another go on in the file where the last one stopped.

    `release_reader` closes it.
    """
    reader: RowReader | None = getattr(_threads, "reader", None)
    if reader is None:
        reader = _threads.reader = RowReader()
    return reader


def release_reader() -> None:
    """Close what this thread's reader holds; readers of other threads end with them."""
    _threads.reader = None


_threads = threading.local()


def _state(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class _File:
    def __init__(self, path: Path) -> None:
        self._path, self._state = path, _state(path) if path.exists() else None
        self._file = open_parquet(path, "data file")
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._size = path.stat().st_size
        self._schema = self._file.schema_arrow
        _require_numbers(self._schema, path)
        self._order: npt.NDArray[np.int64] | None = None
        self._sorted: npt.NDArray[Any] = np.empty(0)
        self._run: tuple[int, int, tuple[str, ...], pa.Table] | None = None

    def is_of(self, path: Path) -> bool:
        """Whether this is the file of a path, which may have changed since it was opened."""
        return path == self._path and path.exists() and _state(path) == self._state

    def read(self, rows: Rows, columns: list[str] | None) -> pa.Table:
        names = {old: rows.form.renamed.get(old, old) for old in self._schema.names}
        wanted = [
            old for old, name in names.items() if not rows.form.drops(name) and (columns is None or name in columns)
        ]
        table = self._rows(rows, wanted)
        if rows.form.renamed:
            # Without what `datasets` and pandas noted in the file: it speaks of the old names.
            table = table.rename_columns([names[old] for old in wanted]).replace_schema_metadata(None)
        for place, column in enumerate(table.schema):
            if rows.form.unwraps(column):
                array = plain_column(table[column.name])
                if array.null_count == 0 and (list_lengths(array, -1) == 1).all():
                    table = table.set_column(place, column.name, list_items(array))
        return table

    def _rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        total = int(self._starts[-1])
        if rows.whole:
            # A name that begins another one's would bring that one, too.
            large = self._size > LARGE
            return self._file.read(columns=columns, use_threads=large).select(columns)
        if _INDEX not in self._schema.names:
            return self._slice(rows.offset, min(rows.offset + rows.length, total), columns)
        if self._order is None:
            column = numbers_of(self._file.read(columns=[_INDEX])[_INDEX])
            self._order = np.argsort(column, kind="stable")
            self._sorted = column[self._order]
        left, right = (int(np.searchsorted(self._sorted, rows.episode, side=side)) for side in ("left", "right"))
        mine = self._order[left:right]
        if len(mine) == 0:
            return self._schema.empty_table().select(columns)
        begin, end = int(mine[0]), int(mine[-1]) + 1
        table = self._slice(begin, end, columns)
        return table if end - begin == len(mine) else table.take(pa.array(mine - begin))

    def _slice(self, begin: int, end: int, columns: list[str]) -> pa.Table:
        parts = []
        group = max(int(np.searchsorted(self._starts, begin, side="right")) - 1, 0)
        while group < len(self._starts) - 1 and int(self._starts[group]) < end:
            first, last, table = self._read_run(group, tuple(columns))
            start, stop = int(self._starts[first]), int(self._starts[last])
            parts.append(table.slice(max(begin - start, 0), min(end, stop) - max(begin, start)))
            group = last
        return pa.concat_tables(parts) if parts else self._schema.empty_table().select(columns)

    def _read_run(self, group: int, columns: tuple[str, ...]) -> tuple[int, int, pa.Table]:
        """A row group with those that follow it, as far as they are small: (first, behind the last, rows)."""
        if self._run is not None and self._run[2] == columns and self._run[0] <= group < self._run[1]:
            return self._run[0], self._run[1], self._run[3]
        self._run = None
        last, size = group + 1, self._file.metadata.row_group(group).total_byte_size
        while last < len(self._starts) - 1:
            size += self._file.metadata.row_group(last).total_byte_size
            if size > _RUN_BYTES or self._starts[last + 1] - self._starts[group] > _RUN_ROWS:
                break
            last += 1
        groups, names = list(range(group, last)), list(columns)
        table = self._file.read_row_groups(groups, columns=names, use_threads=size > LARGE).select(names)
        self._run = (group, last, columns, table)
        return group, last, table


def _require_numbers(schema: pa.Schema, path: Path) -> None:
    """Running numbers stored as texts or anything else are found in no list of episodes or tasks."""
    for column in schema:
        kind = leaf_of(column.type)
        # A column without any value has its own words, where it is needed.
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        if column.name in INDEX_COLUMNS and not number:
            raise DatasetError(
                f"The column '{column.name}' of {path} is of type {column.type}.",
                expected="numbers",
                fix=repair_advice(dataset_root(path), "writes it as numbers"),
            )


def stored(path: Path) -> tuple[int, pa.Schema]:
    """Uncompressed bytes of a parquet file's columns, which LeRobot's limit counts, and their dtypes: its footer."""
    file = open_parquet(path, "data file")
    size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
    return size, file.schema_arrow


def column_digests(table: pa.Table) -> dict[str, list[str]]:
    """[type, hash of all values bit by bit] of each column; lists of any kind and texts of any width count the same."""
    found = {}
    for name in table.column_names:
        plain = plain_column(table[name])
        digest = hashlib.blake2b(digest_size=16)
        _hash(plain, digest)
        found[name] = [intern(str(plain.type)), digest.hexdigest()]
    return found


def _hash(array: pa.Array, digest: Any) -> None:
    kind = array.type
    digest.update(f"{len(array)};{array.null_count};".encode())
    if array.null_count:
        digest.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_list(kind):
        digest.update(list_lengths(array, -1).tobytes())
        _hash(list_items(array), digest)
    elif pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            digest.update(kind.field(i).name.encode())
            _hash(plain_column(array.field(i)), digest)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        # As bytes: parquet takes text that is no UTF-8, and Python does not.
        for value in array.cast(pa.binary()).to_pylist():
            content = value or b""
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    elif pa.types.is_null(kind):
        return
    elif array.null_count:
        digest.update(repr(array.to_pylist()).encode())
    else:
        digest.update(np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).tobytes())
