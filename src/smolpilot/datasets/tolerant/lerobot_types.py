"""What LeRobot's cast of a table's columns to the declared features takes, and what it does not.

LeRobot gives the features to Hugging Face's `datasets` (datasets/table.py, cast_table_to_schema): a shape of (1,) is a
plain value, one dimension a list of that length, more are nested lists; values are cast as Arrow casts them safely.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from smolpilot.datasets.format.arrow import WORDS, is_list, is_text, one_array, storage
from smolpilot.datasets.format.parquet_files import parquet_file

_TYPES: dict[str, pa.DataType] = {
    **WORDS,
    "float": pa.float32(),
    "double": pa.float64(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
}


def known_type(dtype: str) -> bool:
    """Whether a feature can have this dtype."""
    return dtype in _TYPES


def misfit(path: Path, schema: pa.Schema, name: str, dtype: str, shape: tuple[int, ...]) -> str:
    """Why a column cannot be cast to its feature, in words; empty when it can. Cells are read where types differ."""
    kind = storage(schema.field(name).type)
    if dtype == "image":
        return "" if _is_picture(kind) else f"{str(kind)[:60]}; a picture is a struct of bytes and path"
    depth = 0 if shape == (1,) else len(shape)
    inner, lists = kind, 0
    while is_list(inner):
        inner, lists = storage(inner.value_type), lists + 1
    if pa.types.is_null(kind):
        return ""
    if lists != depth:
        stored = "plain values" if lists == 0 else "lists" if lists == 1 else f"lists of {lists} levels"
        wanted = "a plain value" if depth == 0 else "a list" if depth == 1 else f"a list of {depth} levels"
        return f"{stored}; LeRobot reads {wanted} for shape {list(shape)}"
    target = _TYPES[dtype]
    if inner == target or pa.types.is_null(inner):
        return ""
    if pa.types.is_struct(inner):
        return f"a struct; declared is {dtype}"
    return _cast_problem(path, name, target, dtype)


def _cast_problem(path: Path, name: str, target: pa.DataType, dtype: str) -> str:
    try:
        column = parquet_file(path).read(columns=[name]).column(0)
        for chunk in column.chunks:
            values = one_array(chunk)
            while is_list(values.type):
                values = one_array(values.flatten())
            values.cast(target)
    except (pa.ArrowException, NotImplementedError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        return f"values that are no {dtype} ({reason[:100]})"
    return ""


def _is_picture(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool({field.name for field in kind} & {"bytes", "path"})
    text = is_text(kind) or pa.types.is_null(kind)
    return bool(text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or is_list(kind))


def _word(kind: pa.DataType) -> str:
    return str(kind)[:60]
