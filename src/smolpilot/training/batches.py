"""Batches as the network takes them, assembled with a handful of array operations.

States, actions and tokens of all frames are transformed once; a batch only gathers rows. The result equals
`transforms.inputs` on the dataset's samples, number for number (tests/training/test_batches.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.datasets import Dataset, SampleOrder
from smolpilot.datasets.order import WINDOW, BatchOrder, OrderKind, Rows, whole_batches
from smolpilot.machine import available_memory
from smolpilot.policy.cameras import CamerasPart
from smolpilot.policy.inputs import PolicyInputs
from smolpilot.policy.joints import JointsPart
from smolpilot.policy.parts import Batch
from smolpilot.policy.transforms import NormalisePart, PadPart, Transforms

from .frame_cache import FrameCache
from .frames import CameraPlan, Decoder, FrameStore, camera_plans, predicted_gb
from .prefetch import Pictures, stream, to_device


class Feed(Protocol):
    """What the loop draws batches from: one dataset (`Batches`) or several (`Mixture`)."""

    def __len__(self) -> int: ...

    def order(self, batch_size: int, seed: int, kind: OrderKind = "random") -> BatchOrder:
        """The order of the samples."""
        ...

    @property
    def is_cached(self) -> bool:
        """Whether a frame cache stands in for the pictures."""
        ...

    def batch(self, rows: Sequence[int] | Rows, places: Rows | None = None) -> PolicyInputs:
        """The frames `rows`, with their action chunks; `places` decide which cached views are taken."""
        ...

    def stream(self, order: BatchOrder, start: int, stop: int) -> Generator[PolicyInputs]:
        """Batches number `start` to `stop` (excluded)."""
        ...


class Batches:
    """All frames of `dataset` as network inputs on `device`.

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
        cache: Callable[[Batches, Rows], FrameCache] | None = None,
    ) -> None:
        self.dataset, self._device, self._workers = dataset, device, workers
        self._empty = _empty_slots(transforms)
        self._numbers = _Numbers(dataset, transforms, chunk_size, device)
        self._plans = camera_plans(dataset.meta, transforms)
        held = np.arange(len(dataset)) if rows is None else rows
        self._cache = cache(self, held) if cache is not None else None
        if self._cache is not None:
            self.needed_gb, self.in_memory = 0.0, False
            return
        limit = available_memory() / 2e9 if memory_gb is None else memory_gb
        self.needed_gb = predicted_gb(list(self._plans.values()), len(held))
        self.in_memory = self.needed_gb <= limit
        self._images: FrameStore | Decoder
        if self.in_memory:
            self._images = FrameStore(dataset, self._plans, held)
        else:
            self._images = Decoder(dataset, self._plans)

    def __len__(self) -> int:
        return len(self.dataset)

    def order(self, batch_size: int, seed: int, kind: OrderKind = "random") -> BatchOrder:
        """Every frame once per epoch."""
        window = whole_batches(WINDOW, batch_size)
        return BatchOrder(SampleOrder(self.dataset, kind, seed=seed, window=window), batch_size)

    @property
    def is_cached(self) -> bool:
        """Whether a frame cache stands in for the pictures."""
        return self._cache is not None

    def batch(self, rows: Sequence[int] | Rows, places: Rows | None = None) -> PolicyInputs:
        """The frames `rows` of the dataset, with their action chunks; `places` decide which cached views are taken."""
        index = np.asarray(rows, dtype=np.int64)
        if self._cache is not None:
            return self.cached(index, self._cache, places)
        return self._assemble(index, {slot: self._images.images(slot, index, self._device) for slot in self._plans})

    def stream(self, order: BatchOrder, start: int, stop: int) -> Generator[PolicyInputs]:
        """Batches number `start` to `stop` (excluded)."""

        def of_pictures(rows: Rows, found: Pictures) -> PolicyInputs:
            return self.batch(rows) if found[0] is None else self.of_pictures(rows, found[0])

        return stream(self, [self], of_pictures, order, range(start, stop), self._workers)

    @property
    def device(self) -> torch.device:
        """Where the batches lie."""
        return self._device

    @property
    def decoder(self) -> Decoder | None:
        """What reads the pictures while training, None where they are in memory or a cache serves."""
        return self._images if self._cache is None and isinstance(self._images, Decoder) else None

    def of_pictures(self, rows: Rows, images: Mapping[str, Tensor]) -> PolicyInputs:
        """The frames `rows` with pictures that were decoded elsewhere."""
        return self._assemble(rows, {slot: to_device(value, self._device) for slot, value in images.items()})

    @property
    def plans(self) -> dict[str, CameraPlan]:
        """How each camera slot that the dataset fills is filled."""
        return self._plans

    @property
    def token_width(self) -> int:
        """Tokens of the longest instruction."""
        return self._numbers.width

    def uncached(self, rows: Rows, images: Mapping[str, Tensor]) -> PolicyInputs:
        """Inputs of given images, with every instruction padded to the longest: what a cache is computed from."""
        return self._assemble(rows, images, all_tokens=True)

    def cached(self, rows: Rows, cache: FrameCache, places: Rows | None = None) -> PolicyInputs:
        """Inputs without images, with what the cache keeps of them (of one view each, drawn by place)."""
        fields: dict[str, Any] = cache.fields(rows, self._device, cache.views(places))
        inputs = self._assemble(rows, {}, all_tokens=cache.spec.kind == "prefix")
        if cache.spec.kind == "prefix":
            special = cache.spec.shape[2] - self.token_width
            seen = torch.ones(len(rows), special, dtype=torch.bool, device=self._device)
            fields["context_mask"] = torch.cat([seen, inputs.token_mask], dim=1)
        return dataclasses.replace(inputs, **fields)

    def _assemble(self, rows: Rows, images: Mapping[str, Tensor], *, all_tokens: bool = False) -> PolicyInputs:
        numbers, index = self._numbers, torch.from_numpy(rows).to(self._device)
        wanted = index[:, None] + numbers.ahead  # [B, H]
        last = numbers.last[index][:, None]
        tokens, mask = numbers.tokens(index, everything=all_tokens)
        pictures, seen = self._stack(images, len(rows))
        return PolicyInputs(
            images=pictures,
            image_masks=seen,
            tokens=tokens,
            token_mask=mask,
            state=numbers.states[index],
            actions=numbers.actions[torch.minimum(wanted, last)],
            action_is_pad=wanted > last,
        )

    def _stack(self, images: Mapping[str, Tensor], count: int) -> tuple[Tensor, Tensor]:
        """Images [B, C, 3, H, W] and which of them are pictures, bool [B, C]; the empty slots come last, all -1."""
        pictures = list(images.values())
        there = torch.tensor([True] * len(self._plans) + [False] * self._empty, device=self._device)
        if not pictures:
            return torch.empty(count, len(there), 0, device=self._device), there.expand(count, -1)
        pictures += [torch.full_like(pictures[0], -1.0)] * self._empty
        return torch.stack(pictures, dim=1), there.expand(count, -1)


def _empty_slots(transforms: Transforms) -> int:
    return next(part.empty for part in transforms.parts if isinstance(part, CamerasPart))


class _Numbers:
    """States, actions and tokens of every frame of a dataset, transformed, on `device`."""

    def __init__(self, dataset: Dataset, transforms: Transforms, chunk_size: int, device: torch.device) -> None:
        batch = Batch([], torch.from_numpy(dataset.states), torch.from_numpy(dataset.actions)[:, None])
        for part in transforms.parts:
            if isinstance(part, JointsPart | NormalisePart | PadPart):
                part.forward(batch)
        assert batch.actions is not None
        self.states, self.actions = batch.state.to(device), batch.actions[:, 0].to(device)  # [N, padded width]
        self.ahead = torch.arange(chunk_size, device=device)
        self.last = torch.from_numpy(_last_rows(dataset.episode_index)).to(device)  # [N]
        texts = list(dataset.instructions)
        number = {value: texts.index(text) for value, text in dataset.meta.tasks.items() if text in texts}
        order = np.array([number[int(value)] for value in dataset.task_index], dtype=np.int64)
        self._text = torch.from_numpy(order).to(device)  # [N]
        config = transforms.recipe.config
        tokens, mask = transforms.recipe.tokenizer(
            texts, max_length=config.tokenizer_max_length, padding=config.pad_language_to
        )
        self._tokens, self._mask = tokens.to(device), mask.to(device)  # [texts, T]
        self._longest_only = config.pad_language_to == "longest"
        self._lengths = mask.sum(dim=1).to(device)

    @property
    def width(self) -> int:
        """Tokens of the longest instruction."""
        return self._tokens.shape[1]

    def tokens(self, index: Tensor, *, everything: bool = False) -> tuple[Tensor, Tensor]:
        """Tokens and mask [B, T] of the frames `index`, padded as the config says, or all to the longest."""
        text = self._text[index]
        shorter = self._longest_only and not everything
        width = int(self._lengths[text].max()) if shorter else self._tokens.shape[1]
        return self._tokens[text, :width], self._mask[text, :width]


def _last_rows(episode_index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The last row of each row's episode. [N] -> [N]"""
    ends = np.append(np.flatnonzero(np.diff(episode_index)), len(episode_index) - 1)
    return ends[np.searchsorted(ends, np.arange(len(episode_index)))]
