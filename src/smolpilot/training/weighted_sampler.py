"""Order of the samples of several groups of frames, each drawn by its weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .sampler import Sampler

_BLOCK = 4096
Rows = npt.NDArray[np.int64]


class WeightedSampler(Sampler):
    """Endless batches over groups of rows; the group of every sample is drawn by `weights`.

    Inside a group every row comes once before any comes again. Sample number g follows from the seed and g alone, so
    a run resumes anywhere; the groups of the samples before it are drawn again for that, 4096 at a time.
    """

    def __init__(self, groups: Sequence[Rows], weights: Sequence[float], batch_size: int, seed: int) -> None:
        super().__init__(sum(len(group) for group in groups), batch_size, seed)
        self._groups = [np.asarray(group, dtype=np.int64) for group in groups]
        self.weights = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        # How many samples of each group come before each block that was drawn.
        self._before: list[Rows] = [np.zeros(len(groups), dtype=np.int64)]
        self._drawn: tuple[int, Rows] = (-1, np.empty(0, dtype=np.int64))
        self._orders: dict[int, tuple[int, Rows]] = {}

    def batch(self, number: int) -> Rows:
        """Rows [batch_size] of batch `number` (0 is the first)."""
        first = number * self.batch_size
        stop = first + self.batch_size
        parts = []
        while first < stop:
            block, offset = divmod(first, _BLOCK)
            count = min(_BLOCK - offset, stop - first)
            parts.append(self._rows(block, offset, count))
            first += count
        return np.concatenate(parts)

    def values(self) -> dict[str, Any]:
        """What decides the order."""
        sizes = [len(group) for group in self._groups]
        return super().values() | {"groups": sizes, "weights": [round(float(weight), 12) for weight in self.weights]}

    def anew(self) -> WeightedSampler:
        """The same order, from its beginning."""
        return WeightedSampler(self._groups, [float(weight) for weight in self.weights], self.batch_size, self.seed)

    def _rows(self, block: int, offset: int, count: int) -> Rows:
        """The samples `offset` to `offset + count` of a block."""
        drawn = self._block(block)
        rows = np.empty(count, dtype=np.int64)
        for group in range(len(self._groups)):
            mine = drawn == group
            earlier = int(self._before[block][group] + mine[:offset].sum())
            places = np.flatnonzero(mine[offset : offset + count])
            rows[places] = self._of_group(group, earlier, len(places))
        return rows

    def _block(self, block: int) -> Rows:
        """The groups of the samples of a block."""
        while len(self._before) <= block:
            last = len(self._before) - 1
            self._before.append(self._before[last] + np.bincount(self._draw(last), minlength=len(self._groups)))
        if self._drawn[0] != block:
            self._drawn = (block, self._draw(block))
        return self._drawn[1]

    def _draw(self, block: int) -> Rows:
        generator = np.random.default_rng([self.seed, 0, block])
        return generator.choice(len(self._groups), size=_BLOCK, p=self.weights)

    def _of_group(self, group: int, first: int, count: int) -> Rows:
        """The samples number `first` to `first + count` that a group gives."""
        members, parts = self._groups[group], []
        while count:
            epoch, offset = divmod(first, len(members))
            part = members[self._shuffled(group, epoch)[offset : offset + count]]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _shuffled(self, group: int, epoch: int) -> Rows:
        if self._orders.get(group, (-1,))[0] != epoch:
            generator = np.random.default_rng([self.seed, 1, group, epoch])
            self._orders[group] = (epoch, generator.permutation(len(self._groups[group])))
        return self._orders[group][1]
