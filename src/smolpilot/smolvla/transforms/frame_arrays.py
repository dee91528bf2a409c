"""Frames to arrays: the states and action chunks of a list of frames, checked for shape and kind."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smolpilot.common.errors import TransformError
from smolpilot.common.keys import ACTION, ACTION_IS_PAD, STATE


def frame_states(frames: Sequence[Mapping[str, Any]]) -> Tensor:
    """The states of all frames, float32 [B, S]."""
    rows = []
    for frame in frames:
        if STATE not in frame:
            raise TransformError(f"The frame has no '{STATE}'; it holds {sorted(map(str, frame))}.")
        row = as_numbers(frame[STATE], STATE)
        if row.ndim != 1:
            raise TransformError(f"'{STATE}' has shape {list(row.shape)}.", expected="[S], one value per joint")
        rows.append(row)
    return _stack(rows, STATE)


def frame_actions(frames: Sequence[Mapping[str, Any]], chunk_size: int) -> tuple[Tensor | None, Tensor | None]:
    """The action chunks [B, H, A] and their padding [B, H] bool, when every frame has them."""
    given = [ACTION in frame for frame in frames]
    if not any(given):
        return None, None
    if not all(given):
        raise TransformError(f"Only {sum(given)} of {len(frames)} frames have '{ACTION}'.", expected="all or none")
    rows, pads = [], []
    for frame in frames:
        row = as_numbers(frame[ACTION], ACTION)
        if row.ndim != 2 or row.shape[0] != chunk_size:
            raise TransformError(
                f"'{ACTION}' has shape {list(row.shape)}.",
                expected=f"[{chunk_size}, A]: chunk_size steps",
                fix=f"open the dataset with chunk_size={chunk_size}",
            )
        pad = frame.get(ACTION_IS_PAD)
        pad = torch.zeros(len(row)) if pad is None else torch.as_tensor(pad)
        if pad.shape != (len(row),):
            raise TransformError(f"'{ACTION_IS_PAD}' has shape {list(pad.shape)}.", expected=f"[{len(row)}]")
        rows.append(row)
        pads.append(pad.bool())
    return _stack(rows, ACTION), torch.stack(pads)


def as_numbers(value: Any, key: str) -> Tensor:
    """A vector or chunk of any real dtype as float32 on the CPU."""
    with warnings.catch_warnings():
        # A read-only array (from a table) is only read here.
        warnings.simplefilter("ignore", UserWarning)
        try:
            tensor = torch.as_tensor(np.asarray(value) if isinstance(value, list | tuple) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TransformError(f"'{key}' cannot be read as numbers: {error}") from error
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise TransformError(f"'{key}' is {str(tensor.dtype).removeprefix('torch.')}.", expected="real numbers")
    return tensor.detach().to("cpu", torch.float32)


def _stack(rows: list[Tensor], key: str) -> Tensor:
    shapes = {tuple(row.shape) for row in rows}
    if len(shapes) > 1:
        raise TransformError(f"The frames have '{key}' of different shapes: {sorted(shapes)}.")
    return torch.stack(rows)
