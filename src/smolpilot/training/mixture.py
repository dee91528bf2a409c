"""Several datasets as one: their batches side by side, each sample drawn by weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smolpilot.policy.inputs import PolicyInputs

from .batches import Batches, Rows, loaded
from .frames import Decoder
from .sampler import Sampler
from .weighted_sampler import WeightedSampler


class Mixture:
    """Batches of several datasets; rows are counted through all of them, in order.

    groups, weights: which rows are drawn how often, see `WeightedSampler`.
    """

    def __init__(
        self, parts: Sequence[Batches], groups: Sequence[Rows], weights: Sequence[float], *, workers: int = 0
    ) -> None:
        self.parts, self._groups, self._weights, self._workers = list(parts), list(groups), list(weights), workers
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sampler(self, batch_size: int, seed: int) -> Sampler:
        """Every group as often as its weight says."""
        return WeightedSampler(self._groups, self._weights, batch_size, seed)

    @property
    def is_cached(self) -> bool:
        """Whether frame caches stand in for the pictures."""
        return all(part.is_cached for part in self.parts)

    def batch(self, rows: Sequence[int] | Rows, places: Rows | None = None) -> PolicyInputs:
        """The frames `rows`, with their action chunks; `places` decide which cached views are taken."""
        found = _split(np.asarray(rows, dtype=np.int64), self._ends)
        inputs = [self.parts[part].batch(mine, None if places is None else places[at]) for part, mine, at in found]
        return join(inputs, [at for _, _, at in found])

    def stream(self, sampler: Sampler, start: int, stop: int) -> Generator[PolicyInputs]:
        """Batches number `start` to `stop` (excluded)."""
        if self._workers == 0 or all(part.decoder is None for part in self.parts):
            for number in range(start, stop):
                yield self.batch(sampler.batch(number), sampler.places(number))
            return
        for rows, pictures in loaded(_Pictures(self.parts, self._ends), sampler, start, stop, self._workers):
            found = _split(np.asarray(rows, dtype=np.int64), self._ends)
            inputs = [
                self.parts[part].batch(mine) if images is None else self.parts[part].of_pictures(mine, images)
                for (part, mine, _), images in zip(found, pictures, strict=True)
            ]
            yield join(inputs, [places for _, _, places in found])


def join(inputs: Sequence[PolicyInputs], places: Sequence[Rows]) -> PolicyInputs:
    """One batch of several; `places[i]` says where the samples of `inputs[i]` go in it.

    Instructions are padded to the longest, and so are cached keys and values: masked tokens, that nobody reads.
    """
    tokens = max(part.tokens.shape[1] for part in inputs)
    seen = max(0 if part.context_mask is None else part.context_mask.shape[1] for part in inputs)
    wide = [_widened(part, tokens, seen) for part in inputs]
    order = torch.from_numpy(np.argsort(np.concatenate(places)))
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


def _split(rows: Rows, ends: Rows) -> list[tuple[int, Rows, Rows]]:
    """(part, its own row numbers, their places in the batch) for every part that `rows` touch."""
    owner = np.searchsorted(ends, rows, side="right")
    found = []
    for part in np.unique(owner):
        places = np.flatnonzero(owner == part)
        first = int(ends[part - 1]) if part else 0
        found.append((int(part), rows[places] - first, places))
    return found


class _Pictures(torch.utils.data.Dataset[list[dict[str, Tensor] | None]]):
    """Decoded images of whole batches, part by part (None where memory or a cache has them), for loader processes."""

    def __init__(self, parts: Sequence[Batches], ends: Rows) -> None:
        self._ends = ends
        self._readers: list[tuple[Decoder, list[str]] | None] = [
            None if part.decoder is None else (part.decoder, list(part.plans)) for part in parts
        ]

    def __getitem__(self, rows: list[int]) -> list[dict[str, Tensor] | None]:
        found: list[dict[str, Tensor] | None] = []
        for part, mine, _ in _split(np.asarray(rows, dtype=np.int64), self._ends):
            reader = self._readers[part]
            if reader is None:
                found.append(None)
                continue
            decoder, slots = reader
            found.append({slot: decoder.images(slot, mine, torch.device("cpu")) for slot in slots})
        return found
