"""Checks of what callers hand to Dataset, SampleOrder and Loader: whole numbers, kinds of images, frame indices."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence
from typing import Any

from smolpilot.common.errors import UsageError

_IMAGES = ("float32", "uint8")


def whole_number(name: str, value: Any, *, least: int) -> int:
    """`value` as an int; UsageError when it is not a whole number or below `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UsageError(f"{name} is {value!r}.", expected=f"a whole number, at least {least}")
    return int(value)


def check_images(images: Any) -> None:
    """UsageError unless `images` is a kind of images, or None for no images."""
    if images is not None and not (isinstance(images, str) and images in _IMAGES):
        raise UsageError(f"images is {images!r}.", expected="'float32', 'uint8' or None for no images")


def check_threads(threads: Any) -> None:
    """UsageError unless `threads` is a number of threads, or None for the default."""
    if threads is not None:
        whole_number("threads", threads, least=1)


def plain_indices(key: Any, count: int) -> int | Sequence[int]:
    """What stands between the brackets of `dataset[…]`, as one int or several; `count` is the dataset's length.

    Takes an integer, a slice, a sequence, 1-d array or tensor of integers, or a mask of `count` booleans. UsageError
    for everything else. Whether the frames exist is left to the reader.
    """
    if isinstance(key, slice):
        try:
            return range(*key.indices(count))
        except (TypeError, ValueError) as error:
            raise UsageError(f"The slice {key} selects no frames: {error}.", expected="whole numbers") from error
    # Arrays and tensors (of any device) alike, without importing torch.
    values = key.tolist() if hasattr(key, "tolist") else key
    if isinstance(values, range):
        return values
    if not isinstance(values, Sequence) or isinstance(values, str | bytes | bytearray):
        return _index(values)
    if len(values) and all(isinstance(_plain(value), bool) for value in values):
        if len(values) != count:
            raise UsageError(
                f"The mask has {len(values)} entries, the dataset has {count} frames.", expected="one for each frame"
            )
        return [i for i, chosen in enumerate(values) if chosen]
    return [_index(value) for value in values]


def _plain(value: Any) -> Any:
    """The scalars of numpy and torch as Python's."""
    return value if type(value) is int or not hasattr(value, "tolist") else value.tolist()


def _index(value: Any) -> int:
    value = _plain(value)
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise UsageError(
            f"{value!r} ({type(value).__name__}) is no index of a frame.",
            expected="an integer, a slice, a list or 1-d array of integers, or a mask with one boolean for each frame",
        ) from None
