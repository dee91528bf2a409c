"""Arrow's types and LeRobot's words for them; columns as plain arrays, however lists and texts are wrapped."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

WORDS: dict[str, pa.DataType] = {
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""The dtypes of features, and the types of their values."""
LANGUAGE = ("language_persistent", "language_events")
"""LeRobot's own columns of nested messages: it knows their type by their names."""
LARGE = 16 * 1024 * 1024
"""Bytes of a file below which spreading its columns over threads takes longer than reading them."""


def is_list(kind: pa.DataType) -> bool:
    """Whether the type is a list of any kind."""
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether the type is a number or a truth value."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether the type is a text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def storage(kind: pa.DataType) -> pa.DataType:
    """The type in which values of an extension type are stored; other types as they are."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def leaf_of(kind: pa.DataType) -> pa.DataType:
    """The type inside lists, extension types and dictionaries."""
    while (kind := storage(kind)) is not None and (pa.types.is_dictionary(kind) or is_list(kind)):
        kind = kind.value_type
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
    return next((word for word, known in WORDS.items() if known == kind), None)


def type_named(word: object) -> pa.DataType | None:
    """The type of LeRobot's word; None for other words."""
    return WORDS.get(word) if isinstance(word, str) else None


def type_words(kind: pa.DataType) -> str:
    """A type in words for a person: `float64`, `lists of int32`."""
    leaf = leaf_of(kind)
    word = word_of(leaf) or ("string" if pa.types.is_large_string(leaf) else str(leaf))
    return f"lists of {word}" if is_list(kind) else word


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array, without extension types."""
    if isinstance(column, pa.ChunkedArray):
        values = column.combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=column.type)
        column = values
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def without_dictionary(values: pa.Array) -> pa.Array:
    """The values themselves, where they are stored as places in a dictionary."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def plain_column(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array of plain lists, texts and numbers, without offsets into larger buffers."""
    return _plain(one_array(column))


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


def list_lengths(array: pa.Array, null: int) -> npt.NDArray[np.int32]:
    """Numbers of values in each list, `null` where there is none."""
    if not array.null_count and not pa.types.is_fixed_size_list(array.type):
        return np.diff(array.offsets.to_numpy()).astype(np.int32)
    # Loaded where it is needed: it takes a tenth of a second, of a command that is over in two.
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(pc.list_value_length(array), null)).astype(np.int32)


def numbers_of(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column of one number in each row, also where it is stored as lists of one."""
    array = plain_column(column)
    while is_list(array.type):
        array = list_items(array)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def replace_column(table: pa.Table, name: str, values: npt.NDArray[Any]) -> pa.Table:
    """The table with other values in a column, in the same place and, where it exists, of the same dtype."""
    place = table.schema.get_field_index(name)
    if place < 0:
        return table.append_column(name, pa.array(values))
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(values).cast(field.type))


def _plain(array: pa.Array) -> pa.Array:
    array = without_dictionary(one_array(array))
    kind = array.type
    if pa.types.is_large_string(kind):
        return array.cast(pa.string())
    if pa.types.is_large_binary(kind):
        return array.cast(pa.binary())
    if pa.types.is_fixed_size_list(kind) and not array.null_count:
        offsets = np.arange(len(array) + 1, dtype=np.int32) * np.int32(kind.list_size)
        return pa.ListArray.from_arrays(_offsets(offsets), _plain(list_items(array)))
    if is_list(kind):
        offsets = np.concatenate([[0], np.cumsum(list_lengths(array, 0))]).astype(np.int32)
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(_offsets(offsets), _plain(list_items(array)), mask=mask)
    return array


def _offsets(offsets: npt.NDArray[np.int32]) -> pa.Array:
    # `pa.array` would load `numpy.ma` to see whether the array is a masked one.
    return pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)])
