"""Several datasets as one: their batches side by side, each sample drawn by weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smolpilot.datasets.read.order import WINDOW, BatchOrder, OrderKind, Rows, WeightedOrder, whole_batches
from smolpilot.smolvla.network.inputs import PolicyInputs

from .batches import Batches
from .image_prefetch import Images, split, stream


class Mixture:
    """Batches of several datasets; rows are counted through all of them, in order.

    groups, weights: which rows are drawn how often, see `WeightedOrder`.
    """

    def __init__(
        self, parts: Sequence[Batches], groups: Sequence[Rows], weights: Sequence[float], *, workers: int = 0
    ) -> None:
        self.parts, self._groups, self._weights, self._workers = list(parts), list(groups), list(weights), workers
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def order(self, batch_size: int, seed: int, kind: OrderKind = "random") -> BatchOrder:
        """Every group as often as its weight says."""
        datasets, window = [part.dataset for part in self.parts], whole_batches(WINDOW, batch_size)
        order = WeightedOrder(self._groups, self._weights, kind, seed=seed, datasets=datasets, window=window)
        return BatchOrder(order, batch_size)

    @property
    def is_cached(self) -> bool:
        """Whether frame caches stand in for the images."""
        return all(part.is_cached for part in self.parts)

    def batch(self, rows: Sequence[int] | Rows, sample_ids: Rows | None = None) -> PolicyInputs:
        """The frames `rows` with their action chunks; `sample_ids` decide which cached views are taken."""
        found = split(np.asarray(rows, dtype=np.int64), self._ends)
        inputs = [
            self.parts[number].batch(own, None if sample_ids is None else sample_ids[positions])
            for number, own, positions in found
        ]
        return join(inputs, [positions for _, _, positions in found])

    def stream(self, order: BatchOrder, start: int, stop: int) -> Generator[PolicyInputs]:
        """Batches number `start` to `stop` (excluded)."""
        images, span = [part.images for part in self.parts], range(start, stop)
        device = self.parts[0].device
        return stream(self.batch, images, self._with_images, order, span, device=device, workers=self._workers)

    def _with_images(self, rows: Rows, images: Images) -> PolicyInputs:
        found = split(rows, self._ends)
        inputs = [
            self.parts[number].with_images(own, image) for (number, own, _), image in zip(found, images, strict=True)
        ]
        return join(inputs, [positions for _, _, positions in found])


BatchSource = Batches | Mixture
"""Where training takes its batches from."""


def join(inputs: Sequence[PolicyInputs], positions: Sequence[Rows]) -> PolicyInputs:
    """One batch of several; `positions[i]` says where the samples of `inputs[i]` go in it.

    Instructions are padded to the longest, and so are cached keys and values: masked tokens, that nobody reads.
    """
    tokens = max(part.tokens.shape[1] for part in inputs)
    seen = max(0 if part.context_mask is None else part.context_mask.shape[1] for part in inputs)
    wide = [_widened(part, tokens, seen) for part in inputs]
    order = torch.from_numpy(np.argsort(np.concatenate(positions)))
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(PolicyInputs):
        values = [getattr(part, field.name) for part in wide]
        fields[field.name] = None if values[0] is None else torch.cat(values)[order.to(values[0].device)]
    return PolicyInputs(**fields)


def _widened(inputs: PolicyInputs, tokens: int, seen: int) -> PolicyInputs:
    missing = tokens - inputs.tokens.shape[1]
    changes: dict[str, Tensor] = {
        "tokens": F.pad(inputs.tokens, (0, missing)),
        "token_mask": F.pad(inputs.token_mask, (0, missing)),
    }
    if inputs.context is not None and inputs.context_mask is not None:
        missing = seen - inputs.context_mask.shape[1]
        # [B, L, 2, K, G, E]: K grows at its end.
        changes["context"] = F.pad(inputs.context, (0, 0, 0, 0, 0, missing))
        changes["context_mask"] = F.pad(inputs.context_mask, (0, missing))
    return dataclasses.replace(inputs, **changes)
