"""Rows of the tables as torch tensors, whole batches at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.tables import Tables
from smolpilot.keys import ACTION

if TYPE_CHECKING:
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


def picture_memory(shape: tuple[int, ...], images: Images, *, shared: bool = False) -> tuple[Tensor, npt.NDArray[Any]]:
    """An empty tensor and the same memory as an array; `shared` between processes, if this is a DataLoader's worker."""
    import torch

    kind = torch.float32 if images == "float32" else torch.uint8
    size = int(np.prod(shape)) * kind.itemsize
    if shared and size and torch.utils.data.get_worker_info() is not None:
        # As torch's own collate does it: the batch is written to where the parent process reads it.
        make: Any = torch.UntypedStorage._new_shared
        tensor = torch.empty(0, dtype=kind).set_(make(size)).view(shape)
    else:
        # numpy asks the system for large pages, torch does not: a fresh batch costs a third of the time.
        tensor = torch.from_numpy(np.empty(shape, dtype=images))
    return tensor, tensor.numpy()


def split_batch(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples of a batch; tensors share the batch's memory."""
    count = len(next(iter(batch.values())))
    return [{name: values[n] for name, values in batch.items()} for n in range(count)]
