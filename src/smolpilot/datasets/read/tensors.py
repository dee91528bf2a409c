"""Rows of the tables as torch tensors, whole batches at a time."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION

from .tables import Tables

if TYPE_CHECKING:
    import torch
    from torch import Tensor

type Images = Literal["float32", "uint8"]


def table_tensors(tables: Tables, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Every column at `rows`, `[B, …]`, as LeRobot types them: float32, int64 or bool; texts as lists."""
    import torch

    kinds = {"f": torch.float32, "b": torch.bool}
    item: dict[str, Any] = {}
    for name, column in tables.columns.items():
        if isinstance(column, np.ndarray):
            item[name] = torch.from_numpy(column[rows]).to(kinds.get(column.dtype.kind, torch.int64))
        else:
            item[name] = [column[row] for row in rows]
    return item


def chunks(tables: Tables, rows: npt.NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
    """The actions from each row on, `[B, H, A]`, and which lie beyond the episode, `[B, H]`: those repeat its last."""
    import torch

    stops = np.array([tables.spans[int(episode)][1] for episode in tables.array("episode_index")[rows]], dtype=np.int64)
    wanted = rows[:, None] + np.arange(size)
    is_pad = wanted >= stops[:, None]
    actions = tables.array(ACTION)[np.minimum(wanted, stops[:, None] - 1)]
    return torch.from_numpy(actions), torch.from_numpy(is_pad)


def image_memory(shape: tuple[int, ...], images: Images, *, shared: bool = False) -> Tensor:
    """An empty tensor; `shared` between processes, if this is a DataLoader's worker."""
    import torch

    kind = torch.float32 if images == "float32" else torch.uint8
    size = int(np.prod(shape)) * kind.itemsize
    if shared and size and torch.utils.data.get_worker_info() is not None:
        return _shared(shape, kind)
    return float_memory.tensor(shape) if images == "float32" else byte_memory.tensor(shape)


def shared_copy(pictures: Tensor) -> Tensor:
    """The images once more, to keep; in a DataLoader's worker, where its parent process can read them."""
    import torch

    if torch.utils.data.get_worker_info() is None:
        return pictures.clone()
    return _shared(tuple(pictures.shape), pictures.dtype).copy_(pictures)


def _shared(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    import torch

    # As torch's own collate does it: the batch is written to where the parent process reads it.
    make: Any = torch.UntypedStorage._new_shared
    return torch.empty(0, dtype=kind).set_(make(int(np.prod(shape)) * kind.itemsize)).view(shape)


def as_float(pictures: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1], with torch's rounding."""
    tensor = float_memory.tensor(tuple(pictures.shape))
    np.divide(pictures.numpy(), np.float32(255), out=tensor.numpy())
    return tensor


class _Memory:
    """Memory of batches that nobody holds any more, for the next ones.

    A batch of float32 images is tens of megabytes: fetched from the system page by page for every batch, that takes
    a quarter of the time of reading it.
    """

    def __init__(self, dtype: npt.DTypeLike, kept: int = 6) -> None:
        self._dtype, self._kept = np.dtype(dtype), kept
        self._process, self._lock = os.getpid(), threading.Lock()
        self._arrays: list[tuple[npt.NDArray[Any], weakref.ref[npt.NDArray[Any]]]] = []

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        """An empty tensor."""
        import torch

        if self._process != os.getpid():
            # A lock that another thread held during a fork would never be released in the child.
            self._process, self._lock, self._arrays = os.getpid(), threading.Lock(), []
        with self._lock:
            free = (array for array, user in self._arrays if user() is None and array.shape == shape)
            array = next(free, None)
            if array is None:
                array = np.empty(shape, dtype=self._dtype)
            # The tensor holds this view as long as anything uses its memory, so the view's end is the memory's.
            view = array.view()
            self._arrays = [entry for entry in self._arrays if entry[0] is not array][-self._kept + 1 :]
            self._arrays.append((array, weakref.ref(view)))
            return torch.from_numpy(view)


float_memory, byte_memory = _Memory(np.float32), _Memory(np.uint8)


def split_batch(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples of a batch; tensors share the batch's memory."""
    count = len(next(iter(batch.values())))
    return [{name: values[n] for name, values in batch.items()} for n in range(count)]
