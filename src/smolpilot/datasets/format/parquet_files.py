"""Parquet with page checksums: written into every file of ours, verified in every file that has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DAMAGED = "CRC checksum verification failed"
"""What Arrow says of a page whose bytes are not those that were written."""


def parquet_file(path: Path) -> pq.ParquetFile:
    """Open a parquet file (its footer only). Reading from it raises OSError for a page that fails its checksum."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def group_facts(file: pq.ParquetFile, group: int, places: Sequence[int]) -> list[pq.ColumnChunkMetaData]:
    """What the footer says of columns, by their places, in a row group.

    OSError for a footer that contradicts itself: asking it would end the whole process (Arrow 26), which reading a row
    of these columns does not.
    """
    paths = [file.metadata.schema.column(place).path for place in places]
    next(file.iter_batches(1, row_groups=[group], columns=paths, use_threads=False), None)
    facts = file.metadata.row_group(group)
    return [facts.column(place) for place in places]


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of a parquet file, a table after the other."""
    return pq.ParquetWriter(path, schema, write_page_checksum=True)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a whole parquet file."""
    pq.write_table(table, path, write_page_checksum=True)


def broken_texts(table: pa.Table) -> list[str]:
    """The columns whose text is no UTF-8."""
    found = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _as_bytes(column.type) != column.type:
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                found.append(name)
    return found


def mended(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same column, each byte that is no UTF-8 as U+FFFD."""
    values = [_decoded(value) for value in column.cast(_as_bytes(column.type)).to_pylist()]
    return pa.chunked_array([pa.array(values, type=column.type)])


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in the place of text."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
    if pa.types.is_large_list(kind):
        return pa.large_list(_as_bytes(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _as_bytes(field.type)) for field in kind])
    return kind


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    return {key: _decoded(part) for key, part in value.items()} if isinstance(value, dict) else value


def tasks_table(tasks: Mapping[int, str]) -> pa.Table:
    """The table of instruction texts by task index.

    LeRobot reads this table with pandas and expects the text as its index: said in the schema's metadata.
    """
    table = pa.table(
        {"task_index": pa.array(list(tasks), pa.int64()), "task": pa.array(list(tasks.values()), pa.string())}
    )
    columns = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    description = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [{**column, "metadata": None} for column in columns],
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(description)})
