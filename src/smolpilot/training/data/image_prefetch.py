"""The pictures of the next batches, decoded and prepared while the present one is trained on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from smolpilot.datasets.read.order import BatchOrder, Rows
from smolpilot.datasets.read.prefetch import ahead, read_units

if TYPE_CHECKING:
    from smolpilot.datasets import Dataset
    from smolpilot.smolvla.network.inputs import PolicyInputs

    from .batches import Batches, Feed
    from .frames import CameraPlan

# Pictures that are prepared at once: what is computed on the way stays in the processor's cache.
_AT_ONCE = 4

# Of each dataset that a batch touches its pictures by camera slot, None where memory or a cache has them.
type Pictures = list[dict[str, Tensor] | None]


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; to a GPU without waiting for the copy."""
    if device.type != "cuda" or value.device.type != "cpu":
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


def stream(
    feed: Feed,
    parts: Sequence[Batches],
    of_pictures: Callable[[Rows, Pictures], PolicyInputs],
    order: BatchOrder,
    span: range,
    workers: int,
) -> Generator[PolicyInputs]:
    """The batches `span` of `feed`, whose datasets are `parts`; what takes long is done ahead.

    Pictures are decoded and prepared by a thread (on all cores), or by `workers` processes. A unit of work is a batch,
    and in the local order the batches of a window: no frame of it is decoded twice. `of_pictures` makes a batch of
    rows and what was read for them.
    """
    if all(part.decoder is None for part in parts):
        gathered = (feed.batch(order.batch(number), order.places(number)) for number in span)
        return ahead(gathered) if parts[0].device.type == "cuda" else gathered
    windows = order.order.together > 1
    # A window is large and takes long: the next one is decoded while this one is used, that suffices.
    depth = 1 if windows and not workers else 2
    units = _Units(order, span.start, span.stop)
    pictures = read_units(_Reader(parts), units, depth=depth, workers=workers, windows=windows)
    return ahead(_assembled(pictures, of_pictures))


def _assembled(
    pictures: Generator[tuple[Rows, Pictures]], of_pictures: Callable[[Rows, Pictures], PolicyInputs]
) -> Generator[PolicyInputs]:
    try:
        for rows, found in pictures:
            yield of_pictures(rows, found)
    finally:
        pictures.close()


def split(rows: Rows, ends: Rows) -> list[tuple[int, Rows, Rows]]:
    """(part, its own row numbers, their places in the batch) for every part that `rows` touch.

    `ends` says with which row each part ends: rows are counted through all of them.
    """
    owner = np.searchsorted(ends, rows, side="right")
    found = []
    for part in np.unique(owner):
        places = np.flatnonzero(owner == part)
        first = int(ends[part - 1]) if part else 0
        found.append((int(part), rows[places] - first, places))
    return found


@dataclass(frozen=True)
class _Units:
    """The units of the batches `start` to `stop`, anew at each iteration."""

    order: BatchOrder
    start: int
    stop: int

    def __iter__(self) -> Iterator[list[Rows]]:
        return self.order.units(self.start, self.stop)


@dataclass(frozen=True)
class _Source:
    """One dataset whose pictures are decoded, and how those of each slot are prepared."""

    dataset: Dataset
    plans: Mapping[str, CameraPlan]

    def read(self, rows: Rows) -> dict[str, Tensor]:
        """Pictures by slot, uint8 [n, 3, h, w]."""
        cameras = {slot: plan.camera for slot, plan in self.plans.items()}
        found = self.dataset.batch_pictures(rows, images="uint8", cameras=list(cameras.values()))
        return {slot: found[self.dataset.meta.cameras[camera].key] for slot, camera in cameras.items()}


class _Reader:
    """Reads pictures with the code of `Dataset.batch`, and prepares them batch by batch as the transforms do."""

    def __init__(self, parts: Sequence[Batches]) -> None:
        self._ends = np.cumsum([len(part) for part in parts])
        self._sources = [None if part.decoder is None else _Source(part.dataset, part.plans) for part in parts]

    def read(self, rows: Rows, *, whole: bool) -> list[tuple[_Source | None, Rows, dict[str, Tensor]]]:
        """Of each dataset that `rows` touch their places in `rows` and the pictures of its slots."""
        return [
            (source, places, {} if source is None else source.read(mine))
            for part, mine, places in split(rows, self._ends)
            for source in [self._sources[part]]
        ]

    def batch(self, read: list[tuple[_Source | None, Rows, dict[str, Tensor]]], part: slice) -> Pictures:
        """The prepared images of one batch."""
        found: Pictures = []
        for source, places, pictures in read:
            first, last = np.searchsorted(places, [part.start, part.stop]).tolist()
            if first == last:
                continue
            mine = {slot: values[first:last] for slot, values in pictures.items()}
            found.append(
                None if source is None else {slot: prepared(source.plans[slot], value) for slot, value in mine.items()}
            )
        return found


def prepared(plan: CameraPlan, pictures: Tensor) -> Tensor:
    """Decoded pictures as the network sees them. uint8 [n, 3, h, w] -> float32 [n, 3, height, width]."""
    found: Tensor | None = None
    for first in range(0, len(pictures), _AT_ONCE):
        few = plan.prepare(pictures[first : first + _AT_ONCE].permute(0, 2, 3, 1))
        if found is None:
            found = few.new_empty((len(pictures), *few.shape[1:]))
        found[first : first + _AT_ONCE] = few
    assert found is not None, "a batch has pictures"
    return found
