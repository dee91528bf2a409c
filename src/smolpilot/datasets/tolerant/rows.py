"""The tables' rows, episode by episode, wherever they are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa

from smolpilot.datasets.format.arrow import LANGUAGE, LARGE, is_list, is_number, one_array
from smolpilot.datasets.format.files import absurd_content, is_whole, torn_file
from smolpilot.datasets.format.metadata import Record
from smolpilot.datasets.format.parquet_files import broken_texts, mended, parquet_file

from .found_dataset import Array, FoundDataset, Progress, Rows
from .paths import Locator


def load_rows(dataset: FoundDataset, locator: Locator, progress: Progress | None = None) -> None:
    """Fill `dataset.rows`; images inside the tables stay where they are."""
    skip = {key for key, camera in dataset.cameras.items() if not camera.is_video}
    if dataset.format.shared_files:
        _shared_tables(dataset, locator, skip, progress)
    else:
        _own_tables(dataset, skip, progress)


def _own_tables(dataset: FoundDataset, skip: set[str], progress: Progress | None) -> None:
    for number, (index, record) in enumerate(dataset.records.items(), 1):
        if progress is not None:
            progress("reading tables", number, len(dataset.records))
        if record.data_path is None:
            dataset.report("file-missing", f"Episode {index} has no data file.", episode=index)
            continue
        with dataset.about([index]):
            columns = _data_table(dataset, record.data_path, skip)
        if columns is not None:
            dataset.rows[index] = _rows(record.data_path, columns, None)


def _shared_tables(dataset: FoundDataset, locator: Locator, skip: set[str], progress: Progress | None) -> None:
    by_path: dict[Path, list[Record]] = {}
    for record in dataset.records.values():
        if record.data_path is not None:
            by_path.setdefault(record.data_path, []).append(record)
    listed_episodes = list(dataset.records)
    paths = [*by_path, *(path for path in locator.tables if path not in by_path)]
    for number, path in enumerate(paths, 1):
        if progress is not None:
            progress("reading tables", number, len(paths))
        if number == len(by_path) + 1 and listed_episodes and all(i in dataset.rows for i in listed_episodes):
            # Every episode has its rows: what else lies about is a stray file.
            return
        listed = by_path.get(path, [])
        with dataset.about([record.index for record in listed]):
            columns = _data_table(dataset, path, skip)
        if columns is not None:
            _split(dataset, path, columns, listed)


def _split(dataset: FoundDataset, path: Path, columns: dict[str, Array], listed: list[Record]) -> None:
    index = columns.get("episode_index")
    numbers = index is not None and index.dtype.kind in "iuf" and index.ndim == 1
    if index is None or not numbers or not np.isfinite(index).all() or (index != np.round(index)).any():
        _split_by_span(dataset, path, columns, listed)
        return
    # Sorted once: a search through all rows for each episode would take the square of their number.
    order = np.argsort(index, kind="stable")
    values, starts = np.unique(index[order], return_index=True)
    for value, places in zip(values.tolist(), np.split(order, starts[1:]), strict=False):
        episode = int(value)
        if episode in dataset.rows:
            continue
        if episode not in dataset.records:
            dataset.records[episode] = Record(episode, data_path=path, listed=False)
        dataset.rows[episode] = _rows(path, columns, places)


def _split_by_span(dataset: FoundDataset, path: Path, columns: dict[str, Array], listed: list[Record]) -> None:
    """Without the column `episode_index`: by the places that the episode table states."""
    starts = [record.first for record in listed if record.first is not None]
    count = len(next(iter(columns.values()), ()))
    for record in listed:
        if record.first is not None and record.last is not None:
            first = record.first - min(starts)
            places = np.arange(max(first, 0), min(first + record.last - record.first, count))
            dataset.rows[record.index] = _rows(path, columns, places)


def _rows(path: Path, columns: dict[str, Array], places: Array | None) -> Rows:
    count = len(next(iter(columns.values()), ()))
    chosen = np.arange(count) if places is None else places
    # Neighbors, as they nearly always are, are a view of the file's columns and no copy.
    together = (
        len(chosen) > 0 and int(chosen[-1]) - int(chosen[0]) == len(chosen) - 1 and bool((np.diff(chosen) == 1).all())
    )
    part = slice(int(chosen[0]), int(chosen[-1]) + 1) if together else chosen
    return Rows(path, chosen.astype(np.int64), {name: values[part] for name, values in columns.items()})


def _data_table(dataset: FoundDataset, path: Path, skip: set[str]) -> dict[str, Array] | None:
    """The columns of a data file as arrays `[N, …]`, those in `skip` left out; None when the file is damaged."""
    if path in dataset.schemas or not is_whole(path, "data file", dataset):
        return None
    try:
        file = parquet_file(path)
        schema = file.schema_arrow
        # Threads cost more than they save in a small file, of which v2.x has one for every episode.
        columns_wanted = [name for name in schema.names if name not in skip and name not in LANGUAGE]
        absurd = absurd_content(path, file, columns_wanted)
        if absurd:
            dataset.report("parquet-torn", f"The data file {dataset.relative(path)} {absurd}.")
            return None
        table = file.read(columns=columns_wanted, use_threads=path.stat().st_size > LARGE)
        dataset.schemas[path] = schema
    except (pa.ArrowException, OSError, ValueError) as error:
        dataset.report_error("parquet-torn", torn_file(path, "data file", error, dataset.relative(path)))
        return None
    columns: dict[str, Array] = {}
    for name in dict.fromkeys(table.column_names):
        if table.column_names.count(name) > 1:
            dataset.report("column-undeclared", f"{dataset.relative(path)} has the column '{name}' twice.")
            continue
        values = _array(dataset, path, name, table[name])
        if values is not None:
            columns[name] = values
    return columns


def _array(dataset: FoundDataset, path: Path, name: str, column: pa.ChunkedArray) -> Array | None:
    """A column as numbers; an object array for texts; None (with a finding) when its rows have different lengths."""
    values = one_array(column)
    count = len(values)
    where = f"The column '{name}' of {dataset.relative(path)}"
    if values.null_count:
        empty = np.asarray(values.is_null().to_numpy(zero_copy_only=False))
        dataset.nulls[path, name] = np.flatnonzero(empty).astype(np.int64)
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            return None
    width: list[int] = []
    while is_list(values.type):
        inner = values.flatten()
        lengths = None if pa.types.is_fixed_size_list(values.type) else values.value_lengths().to_numpy(False)
        if lengths is not None and len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            dataset.report(
                "column-shape",
                f"{where} has rows of different lengths: {lengths[0]} numbers, then {lengths[row]} in row {row}.",
            )
            return None
        width.append(round(len(inner) / max(len(values), 1)))
        values = inner
    if not is_number(values.type):
        return _texts(column) if not width else None
    if values.null_count and pa.types.is_integer(values.type):
        values = values.fill_null(-1)
    numbers = np.asarray(values.to_numpy(zero_copy_only=False))
    shape = (count, *width)
    return numbers.reshape(shape) if numbers.size == math.prod(shape) else None


def _texts(column: pa.ChunkedArray) -> Array:
    """Texts (or whatever is no number) as objects, each of which is kept once."""
    try:
        coded = column.combine_chunks().dictionary_encode()
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        known = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
        places = np.asarray(coded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False))
        texts: Array = known[places]
        return texts
    except (pa.ArrowException, TypeError, ValueError, AttributeError):
        found = np.empty(len(column), dtype=object)
        found[:] = (mended(column) if broken_texts(pa.table({"": column})) else column).to_pylist()
        return found
