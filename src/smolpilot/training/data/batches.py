"""Batches as the network takes them, assembled with a handful of array operations.

States, actions and tokens of all frames are transformed once where they can be; a batch only gathers rows. It equals
`transforms.inputs` on the dataset's samples, number for number (tests/training/data/test_batches.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.machine import available_memory
from smolpilot.datasets import Dataset, SampleOrder
from smolpilot.datasets.read.order import WINDOW, BatchOrder, OrderKind, Rows, whole_batches
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.transforms.transform_list import Transforms

from .frames import Decoder, FrameStore, camera_plans, predicted_gb, to_device
from .image_prefetch import Images, ImageSource, stream


class CachedFrames(Protocol):
    """What was computed of the frames of a dataset before (`FrameCache`)."""

    @property
    def all_tokens(self) -> bool:
        """Whether instructions have to be padded to the longest one of the dataset."""
        ...

    def fill(self, inputs: PolicyInputs, rows: Rows, sample_ids: Rows | None = None) -> PolicyInputs:
        """The inputs of the frames `rows`, which lack images, with what is cached of them."""
        ...


class Batches:
    """All frames of `dataset` as network inputs on `device`; `plans` say how each camera slot is filled.

    Video is held in memory where `memory_gb` (None: half of what is free) allows it, else decoded by `workers`
    processes while training. `rows` limits which frames are held (validation needs few).
    """

    def __init__(
        self,
        dataset: Dataset,
        transforms: Transforms,
        device: torch.device,
        *,
        chunk_size: int,
        rows: Rows | None = None,
        memory_gb: float | None = None,
        workers: int = 0,
        cache: Callable[[Batches, Rows], CachedFrames] | None = None,
    ) -> None:
        self.dataset, self.device, self._workers = dataset, device, workers
        self._transforms = transforms
        self._numbers = _Numbers(dataset, transforms, chunk_size, device)
        self.plans = camera_plans(dataset.meta, transforms)
        held = np.arange(len(dataset)) if rows is None else rows
        self._cache = cache(self, held) if cache is not None else None
        if self._cache is not None:
            self.needed_gb, self.in_memory = 0.0, False
            return
        limit = available_memory() / 2e9 if memory_gb is None else memory_gb
        self.needed_gb = predicted_gb(list(self.plans.values()), len(held))
        self.in_memory = self.needed_gb <= limit
        self._images: FrameStore | Decoder
        if self.in_memory:
            self._images = FrameStore(dataset, self.plans, held)
        else:
            self._images = Decoder(dataset, self.plans)

    def __len__(self) -> int:
        return len(self.dataset)

    def order(self, batch_size: int, seed: int, kind: OrderKind = "random") -> BatchOrder:
        """Every frame once per epoch."""
        window = whole_batches(WINDOW, batch_size)
        return BatchOrder(SampleOrder(self.dataset, kind, seed=seed, window=window), batch_size)

    @property
    def is_cached(self) -> bool:
        """Whether a frame cache stands in for the images."""
        return self._cache is not None

    def batch(self, rows: Sequence[int] | Rows, sample_ids: Rows | None = None) -> PolicyInputs:
        """The frames `rows` with their action chunks; `sample_ids` decide which cached views are taken."""
        index = np.asarray(rows, dtype=np.int64)
        if self._cache is not None:
            return self.cached(index, self._cache, sample_ids)
        return self._assemble(index, {slot: self._images.images(slot, index, self.device) for slot in self.plans})

    def stream(self, order: BatchOrder, start: int, stop: int) -> Generator[PolicyInputs]:
        """Batches number `start` to `stop` (excluded)."""

        def assemble(rows: Rows, found: Images) -> PolicyInputs:
            return self.with_images(rows, found[0])

        span = range(start, stop)
        return stream(self.batch, [self.images], assemble, order, span, device=self.device, workers=self._workers)

    @property
    def images(self) -> ImageSource:
        """Where the images come from while training."""
        decoded = self._cache is None and isinstance(self._images, Decoder)
        return ImageSource(self.dataset, self.plans, decoded)

    def with_images(self, rows: Rows, images: Mapping[str, Tensor] | None) -> PolicyInputs:
        """The frames `rows` with images that were decoded elsewhere; None: with their own."""
        if images is None:
            return self.batch(rows)
        return self._assemble(rows, {slot: to_device(value, self.device) for slot, value in images.items()})

    @property
    def token_width(self) -> int:
        """Tokens of the longest instruction."""
        return self._numbers.width

    def uncached(self, rows: Rows, images: Mapping[str, Tensor]) -> PolicyInputs:
        """Inputs of given images, with every instruction padded to the longest: what a cache is computed from."""
        return self._assemble(rows, images, all_tokens=True)

    def cached(self, rows: Rows, cache: CachedFrames, sample_ids: Rows | None = None) -> PolicyInputs:
        """Inputs without images, with what the cache keeps of them (of one view each, drawn by sample)."""
        return cache.fill(self._assemble(rows, {}, all_tokens=cache.all_tokens), rows, sample_ids)

    def states(self, rows: Rows) -> Tensor:
        """States of the frames `rows` in the policy's own joint order and units [n, S]: for the actions' way back."""
        return self._numbers.robot_states(rows)

    def _assemble(self, rows: Rows, given: Mapping[str, Tensor], *, all_tokens: bool = False) -> PolicyInputs:
        numbers, index = self._numbers, torch.from_numpy(rows).to(self.device)
        wanted = index[:, None] + numbers.ahead  # [B, H]
        last = numbers.last[index][:, None]
        tokens, mask = numbers.tokens(index, everything=all_tokens)
        filled = torch.ones(1, len(self.plans), dtype=torch.bool, device=self.device).expand(len(rows), -1)
        images, seen = self._transforms.stack_images(given, filled)
        states, actions = numbers.chunks(index, torch.minimum(wanted, last))
        return PolicyInputs(
            images=images,
            image_masks=seen,
            tokens=tokens,
            token_mask=mask,
            state=states,
            actions=actions,
            action_is_pad=wanted > last,
        )


class _Numbers:
    """States, actions and tokens of every frame of a dataset as the list makes them, on `device`.

    Where every row goes through the list by itself all rows do so once, and a batch gathers chunks of the result;
    else a batch gathers chunks of what was recorded, and those go through the list.
    """

    def __init__(self, dataset: Dataset, transforms: Transforms, chunk_size: int, device: torch.device) -> None:
        self._transforms, self._device = transforms, device
        self._recorded = torch.from_numpy(dataset.states), torch.from_numpy(dataset.actions)  # [N, S], [N, A]
        self._moved: tuple[Tensor, Tensor] | None = None  # [N, padded width] both
        if transforms.per_row:
            states, actions = transforms.numbers(self._recorded[0], self._recorded[1][:, None])
            assert actions is not None
            self._moved = states.to(device), actions[:, 0].to(device)
        else:
            # A recorded NaN is named now, not when a batch comes to it.
            transforms.robot_numbers(self._recorded[0], self._recorded[1][:, None])
        self.ahead = torch.arange(chunk_size, device=device)
        self.last = torch.from_numpy(_last_rows(dataset.episode_index)).to(device)  # [N]
        texts = list(dataset.instructions)
        number = {value: texts.index(text) for value, text in dataset.meta.tasks.items() if text in texts}
        order = np.array([number[int(value)] for value in dataset.task_index], dtype=np.int64)
        self._text = torch.from_numpy(order).to(device)  # [N]
        self._table = transforms.token_table(texts, device)

    def chunks(self, index: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor | None]:
        """States [B, padded width] of the frames `index` [B] and actions [B, H, padded width] of `wanted` [B, H]."""
        if self._moved is not None:
            return self._moved[0][index], self._moved[1][wanted]
        states, actions = self._recorded
        moved, chunks = self._transforms.numbers(states[index.cpu()], actions[wanted.cpu()])
        assert chunks is not None
        return to_device(moved, self._device), to_device(chunks, self._device)

    def robot_states(self, rows: Rows) -> Tensor:
        """States of the frames `rows` in the policy's own order and units, [n, S] on the CPU."""
        return self._transforms.robot_numbers(self._recorded[0][torch.from_numpy(rows)])[0]

    @property
    def width(self) -> int:
        """Tokens of the longest instruction."""
        return self._table.width

    def tokens(self, index: Tensor, *, everything: bool = False) -> tuple[Tensor, Tensor]:
        """Tokens and mask [B, T] of the frames `index`, padded as the config says, or all to the longest."""
        return self._table.rows(self._text[index], everything=everything)


def _last_rows(episode_index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The last row of each row's episode. [N] -> [N]"""
    ends = np.append(np.flatnonzero(np.diff(episode_index)), len(episode_index) - 1)
    return ends[np.searchsorted(ends, np.arange(len(episode_index)))]
