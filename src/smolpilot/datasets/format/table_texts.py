"""Text in tables that is no UTF-8: parquet does not look at it, and Python cannot read it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


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
