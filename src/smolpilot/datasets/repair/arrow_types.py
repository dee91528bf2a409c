"""Arrow's types and LeRobot's words for them; columns as plain arrays of a wanted type."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_WORDS: dict[str, pa.DataType] = {
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def is_listed(kind: pa.DataType) -> bool:
    """Whether the type is a list of any kind."""
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether the type is a number or a truth value that LeRobot has a word for."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def leaf_of(kind: pa.DataType) -> pa.DataType:
    """The type inside lists, extension types and dictionaries."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or is_listed(kind):
            kind = kind.value_type
        else:
            return kind


def with_leaf(kind: pa.DataType, leaf: pa.DataType) -> pa.DataType:
    """The same nesting of lists around another type."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind if leaf_of(kind) == leaf else with_leaf(kind.storage_type, leaf)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(with_leaf(kind.value_type, leaf), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(with_leaf(kind.value_type, leaf))
    return pa.list_(with_leaf(kind.value_type, leaf)) if pa.types.is_list(kind) else leaf


def word_of(kind: pa.DataType) -> str | None:
    """LeRobot's word for a type, None when it has none."""
    return next((word for word, known in _WORDS.items() if known == kind), None)


def to_type(word: object) -> pa.DataType | None:
    """The type of LeRobot's word; None for other words."""
    return _WORDS.get(word) if isinstance(word, str) else None


def type_of(kind: pa.DataType) -> str:
    """A type in words for a person: `float64`, `lists of int32`."""
    leaf = leaf_of(kind)
    word = word_of(leaf) or ("string" if pa.types.is_large_string(leaf) else str(leaf))
    return f"lists of {word}" if is_listed(kind) else word


def plain(column: pa.ChunkedArray) -> pa.Array:
    """One array, without extension types and dictionaries."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=column.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def converted(column: pa.ChunkedArray, kind: pa.DataType, *, scalar: bool, fill: bool) -> pa.Array | pa.ChunkedArray:
    """The column as `kind`; the caller knows that every value fits. `scalar`: lists of one value become the value."""
    if column.type == kind and not fill:
        return column
    values = plain(column)
    if scalar:
        values = values.flatten()
    if fill:
        values = pc.fill_null(values, "")
    return values if values.type == kind else values.cast(kind, safe=False)
