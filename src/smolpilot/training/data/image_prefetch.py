"""Images of the next batches, decoded and prepared while the current one is trained on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smolpilot.datasets import Dataset
from smolpilot.datasets.read.order import BatchOrder, Rows
from smolpilot.datasets.read.prefetch import ahead
from smolpilot.datasets.read.read_units import read_units
from smolpilot.smolvla.network.inputs import PolicyInputs

from .frames import CameraPlan

# Images that are prepared at once: what is computed on the way stays in the processor's cache.
_AT_ONCE = 4

# Of each dataset that a batch touches its images by camera slot, None where memory or a cache has them.
type Images = list[dict[str, Tensor] | None]


@dataclass(frozen=True)
class ImageSource:
    """One dataset of a run: its frames are rows of the run's, and its images may be decoded while training."""

    dataset: Dataset
    plans: Mapping[str, CameraPlan]
    decoded: bool  # while training; otherwise memory or a cache has the images

    def read(self, rows: Rows) -> dict[str, Tensor]:
        """Images by slot, uint8 [n, 3, h, w]."""
        cameras = {slot: plan.camera for slot, plan in self.plans.items()}
        found = self.dataset.batch_images(rows, images="uint8", cameras=list(cameras.values()))
        return {slot: found[self.dataset.meta.cameras[camera].key] for slot, camera in cameras.items()}


def stream(
    gather: Callable[[Rows, Rows], PolicyInputs],
    sources: Sequence[ImageSource],
    assemble: Callable[[Rows, Images], PolicyInputs],
    order: BatchOrder,
    span: range,
    *,
    device: torch.device,
    workers: int,
) -> Generator[PolicyInputs]:
    """The batches `span`, whose images come from `sources` (`gather`: where none is decoded); what takes long is done
    ahead.

    Images are decoded and prepared by a thread (on all cores), or by `workers` processes. A unit of work is a batch,
    and in the local order the batches of a window: no frame of it is decoded twice. `assemble` makes a batch of rows
    and what was read for them.
    """
    if not any(source.decoded for source in sources):
        gathered = (gather(order.batch(number), order.sample_ids(number)) for number in span)
        return ahead(gathered) if device.type == "cuda" else gathered
    windows = order.order.together > 1
    # A window is large and takes long: the next one is decoded while this one is used, that suffices.
    depth = 1 if windows and not workers else 2
    units = _Units(order, span.start, span.stop)
    images = read_units(_Reader(sources), units, depth=depth, workers=workers, windows=windows)
    return ahead(_assembled(images, assemble))


def _assembled(
    images: Generator[tuple[Rows, Images]], assemble: Callable[[Rows, Images], PolicyInputs]
) -> Generator[PolicyInputs]:
    with closing(images):
        for rows, found in images:
            yield assemble(rows, found)


def split(rows: Rows, ends: Rows) -> list[tuple[int, Rows, Rows]]:
    """(dataset, its own row numbers, their positions in the batch) for every dataset that `rows` touch.

    `ends` says with which row each dataset ends: rows are counted through all of them.
    """
    owner = np.searchsorted(ends, rows, side="right")
    found = []
    for number in np.unique(owner):
        positions = np.flatnonzero(owner == number)
        first = int(ends[number - 1]) if number else 0
        found.append((int(number), rows[positions] - first, positions))
    return found


@dataclass(frozen=True)
class _Units:
    """The units of the batches `start` to `stop`, anew at each iteration."""

    order: BatchOrder
    start: int
    stop: int

    def __iter__(self) -> Iterator[list[Rows]]:
        return self.order.units(self.start, self.stop)


class _Reader:
    """Reads images with the code of `Dataset.batch`, and prepares them batch by batch as the transforms do."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self._ends = np.cumsum([len(source.dataset) for source in sources])
        self._sources = list(sources)

    def read(self, rows: Rows, *, whole: bool) -> list[tuple[ImageSource, Rows, dict[str, Tensor]]]:
        """Of each dataset that `rows` touch their positions in `rows` and the images of its slots."""
        return [
            (source, positions, source.read(own) if source.decoded else {})
            for number, own, positions in split(rows, self._ends)
            for source in [self._sources[number]]
        ]

    def batch(self, read: list[tuple[ImageSource, Rows, dict[str, Tensor]]], part: slice) -> Images:
        """The prepared images of one batch."""
        found: Images = []
        for source, positions, images in read:
            first, last = np.searchsorted(positions, [part.start, part.stop]).tolist()
            if first < last:
                own = {slot: prepared(source.plans[slot], values[first:last]) for slot, values in images.items()}
                found.append(own if source.decoded else None)
        return found


def prepared(plan: CameraPlan, decoded: Tensor) -> Tensor:
    """Decoded images as the network sees them. uint8 [n, 3, h, w] -> float32 [n, 3, height, width]."""
    found: Tensor | None = None
    for first in range(0, len(decoded), _AT_ONCE):
        few = plan.prepare(decoded[first : first + _AT_ONCE].permute(0, 2, 3, 1))
        if found is None:
            found = few.new_empty((len(decoded), *few.shape[1:]))
        found[first : first + _AT_ONCE] = few
    assert found is not None, "a batch has images"
    return found
