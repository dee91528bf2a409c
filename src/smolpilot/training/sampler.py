"""Order of the samples: every frame once per epoch, in an order that only seed and position decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt


class Sampler:
    """Endless batches over `size` frames; batch number k is a function of (seed, k), so a run resumes anywhere.

    A batch may span two epochs: all batches have `batch_size` frames and none is left out.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def batch(self, number: int) -> npt.NDArray[np.int64]:
        """Frame numbers [batch_size] of batch `number` (0 is the first)."""
        first = number * self.batch_size
        parts, left = [], self.batch_size
        while left:
            epoch, offset = divmod(first, self.size)
            part = self._permutation(epoch)[offset : offset + left]
            parts.append(part)
            first, left = first + len(part), left - len(part)
        return np.concatenate(parts)

    def places(self, number: int) -> npt.NDArray[np.int64]:
        """Where the samples of batch `number` stand in the stream of all samples."""
        return np.arange(number * self.batch_size, (number + 1) * self.batch_size)

    def batches(self, start: int, stop: int) -> Iterator[list[int]]:
        """Batches `start` to `stop` (excluded) as lists of frame numbers."""
        for number in range(start, stop):
            yield self.batch(number).tolist()

    def epoch(self, number: int) -> float:
        """Epochs done before batch `number`."""
        return number * self.batch_size / self.size

    def values(self) -> dict[str, Any]:
        """What decides the order."""
        return {"frames": self.size, "batch_size": self.batch_size, "seed": self.seed}

    def anew(self) -> Sampler:
        """The same order, from its beginning."""
        return Sampler(self.size, self.batch_size, self.seed)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            self._epoch = epoch
        return self._order


class Share(Sampler):
    """The same part of every batch of another sampler: what one of several processes trains on."""

    def __init__(self, whole: Sampler, part: slice) -> None:
        super().__init__(whole.size, whole.batch_size, whole.seed)
        self._whole, self._part = whole, part

    def batch(self, number: int) -> npt.NDArray[np.int64]:
        """The part of batch `number`."""
        return self._whole.batch(number)[self._part]

    def places(self, number: int) -> npt.NDArray[np.int64]:
        """Where these samples stand in the stream of all samples."""
        return self._whole.places(number)[self._part]

    def values(self) -> dict[str, Any]:
        """What decides the order of the whole batches: the part does not."""
        return self._whole.values()

    def anew(self) -> Share:
        """The same order, from its beginning."""
        return Share(self._whole.anew(), self._part)
