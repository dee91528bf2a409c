"""One column of a data file as an array of fixed shape, or as texts; or the reason why samples cannot carry it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smolpilot.common.errors import DatasetError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.format.arrow import is_list, is_number, is_text, leaf_of, one_array, storage, without_dictionary
from smolpilot.datasets.format.features import INDEX_COLUMNS, Feature
from smolpilot.datasets.format.files import dataset_root, repair_advice

type Column = npt.NDArray[Any] | list[Any]

# All numbers are kept in memory; what has more of them in a frame (images as numbers) would not fit.
_MOST_NUMBERS = 1 << 16
_NUMERIC = ("float", "int", "uint", "bool")


class UnusableError(Exception):
    """The column is no array of numbers of fixed shape and no text in every row; the reason, as words."""


def why_unusable(kind: pa.DataType, feature: Feature) -> str:
    """What can be told before a column is read: from its type and its feature; empty when samples may carry it."""
    if math.prod(feature.shape) > _MOST_NUMBERS:
        return f"{math.prod(feature.shape):,} numbers in a frame: too many to keep in memory"
    listed, kind = is_list(storage(kind)), leaf_of(kind)
    if is_number(kind):
        return ""
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return "nested entries, not numbers of a fixed shape"
    if pa.types.is_null(kind):
        return "a column without any value"
    if not is_text(kind):
        return f"values of type {kind}, neither numbers nor texts"
    if listed:
        return "lists of texts"
    return f"texts, where meta/info.json says {feature.dtype}" if feature.dtype.startswith(_NUMERIC) else ""


def needed_column(values: pa.ChunkedArray, name: str, feature: Feature | None, path: Path) -> npt.NDArray[Any]:
    """A column that no sample can do without, as numbers; DatasetError when it has empty rows or another form.

    State and action are `[N, D]` float32; the running numbers int64, also where a writer stored them as floats.
    """
    shape = feature.shape if feature is not None and name not in INDEX_COLUMNS else (1,)
    found = one_array(values)
    fix = repair_advice(dataset_root(path), "puts right what can be, and leaves out the episodes of the rest")
    if found.null_count:
        row = int(pc.index(found.is_null(), True).as_py())
        raise DatasetError(
            f"The column '{name}' of {path} has {found.null_count} empty rows, the first is row {row}.",
            expected="a value in every row",
            fix=fix,
        )
    if why_unusable(values.type, Feature("float32", shape, None)):
        raise DatasetError(f"The column '{name}' of {path} is of type {values.type}.", expected="numbers", fix=fix)
    try:
        numbers = _numbers(found, shape)
    except UnusableError as reason:
        raise DatasetError(
            f"The column '{name}' of {path} has {reason}.",
            expected=f"shape {list(shape)}, as meta/info.json says" if feature is not None else "one number per row",
            fix=fix,
        ) from None
    if name in (STATE, ACTION):
        # A feature of one number is stored as a scalar; a state is a vector all the same.
        return np.array(numbers, dtype=np.float32).reshape(len(values), math.prod(shape))
    numbers = numbers.reshape(len(values))
    return numbers if name == "timestamp" else _whole(numbers, name, path, fix)


def optional_column(values: pa.ChunkedArray, feature: Feature) -> Column:
    """Another column as LeRobot gives it: an array `[N, …]`, or a list of texts; UnusableError with the reason."""
    reason = why_unusable(values.type, feature)
    if reason:
        raise UnusableError(reason)
    found = one_array(values)
    if found.null_count:
        raise UnusableError(f"empty cells in {found.null_count} of {len(found)} rows")
    if is_text(leaf_of(found.type)):
        try:
            return list(found.to_pylist())
        except UnicodeDecodeError:
            raise UnusableError("texts that are no UTF-8") from None
    numbers = _numbers(found, feature.shape)
    return numbers.reshape(len(found), *(() if feature.shape == (1,) else feature.shape))


def _numbers(values: pa.Array, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The numbers of all rows, one after another, once every row is known to have `prod(shape)` of them."""
    count, per_row = len(values), 1
    while is_list(values.type):
        if not pa.types.is_fixed_size_list(values.type):
            lengths = pc.list_value_length(values)
            least, most = pc.min_max(lengths)["min"].as_py(), pc.min_max(lengths)["max"].as_py()
            if least != most:
                raise UnusableError(f"lists of {least} to {most} entries")
        values = one_array(values.flatten())
        if values.null_count:
            raise UnusableError(f"empty places in its lists ({values.null_count})")
    values = without_dictionary(values)
    per_row = len(values) // count if count else math.prod(shape)
    if len(values) != count * math.prod(shape):
        raise UnusableError(f"{per_row} numbers per row, where meta/info.json says {list(shape)}")
    numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    # torch has no wide unsigned integers, and an array of arrow's is read-only.
    return np.array(numbers, dtype=np.int64 if numbers.dtype.kind == "u" and numbers.itemsize > 1 else None)


def _whole(numbers: npt.NDArray[Any], name: str, path: Path, fix: str) -> npt.NDArray[np.int64]:
    """Whole numbers as int64, whatever they are stored as; DatasetError for 1.5, NaN and truth values."""
    if numbers.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(numbers) | (np.abs(numbers) >= 2**53) | (np.trunc(numbers) != numbers))
        if len(bad):
            raise DatasetError(
                f"The column '{name}' of {path} holds {numbers[bad[0]]} in row {int(bad[0])}.",
                expected="whole numbers",
                fix=fix,
            )
    elif numbers.dtype.kind not in "iu":
        raise DatasetError(
            f"The column '{name}' of {path} is of type {numbers.dtype}.", expected="whole numbers", fix=fix
        )
    return numbers.astype(np.int64, copy=False)
