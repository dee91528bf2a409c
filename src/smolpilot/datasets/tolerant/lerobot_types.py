"""What LeRobot's cast of a table's columns to the declared features takes, and what it does not.

LeRobot gives the features to Hugging Face's `datasets` (datasets/table.py, cast_table_to_schema): a shape of (1,) is a
plain value, one dimension a list of that length, more are nested lists; values are cast as Arrow casts them safely.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from smolpilot.datasets.format.parquet_files import parquet_file

# Its two columns of annotations have a form of their own.
LANGUAGE = ("language_persistent", "language_events")
_TYPES: dict[str, pa.DataType] = {
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
}


def known_type(dtype: str) -> bool:
    """Whether a feature can have this dtype."""
    return dtype in _TYPES


def misfit(path: Path, schema: pa.Schema, name: str, dtype: str, shape: tuple[int, ...]) -> str:
    """Why a column cannot be cast to its feature, in words; empty when it can. Cells are read where types differ."""
    kind = _storage(schema.field(name).type)
    if dtype == "image":
        return "" if _is_picture(kind) else f"{_word(kind)}; a picture is a struct of bytes and path"
    depth = 0 if shape == (1,) else len(shape)
    inner, lists = kind, 0
    while _is_list(inner):
        inner, lists = _storage(inner.value_type), lists + 1
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
            values = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
            while _is_list(values.type):
                values = values.flatten()
                values = values.storage if isinstance(values, pa.ExtensionArray) else values
            values.cast(target)
    except (pa.ArrowException, NotImplementedError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        return f"values that are no {dtype} ({reason[:100]})"
    return ""


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_picture(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool({field.name for field in kind} & {"bytes", "path"})
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    return bool(text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _is_list(kind))


def _word(kind: pa.DataType) -> str:
    return str(kind)[:60]
