"""Where training takes its batches from, and the cache that may stand in for images: contracts of this folder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from smolpilot.datasets.read.order import BatchOrder, OrderKind, Rows
from smolpilot.smolvla.network.inputs import PolicyInputs


class BatchSource(Protocol):
    """Batches of one dataset (`Batches`) or of several (`Mixture`)."""

    def __len__(self) -> int: ...

    def order(self, batch_size: int, seed: int, kind: OrderKind = "random") -> BatchOrder:
        """The order of the samples."""
        ...

    @property
    def is_cached(self) -> bool:
        """Whether a frame cache stands in for the images."""
        ...

    def batch(self, rows: Sequence[int] | Rows, sample_ids: Rows | None = None) -> PolicyInputs:
        """The frames `rows` with their action chunks; `sample_ids` decide which cached views are taken."""
        ...

    def stream(self, order: BatchOrder, start: int, stop: int) -> Generator[PolicyInputs]:
        """Batches number `start` to `stop` (excluded)."""
        ...


class CachedFrames(Protocol):
    """What was computed of the frames of a dataset before (`FrameCache`)."""

    @property
    def all_tokens(self) -> bool:
        """Whether instructions have to be padded to the longest one of the dataset."""
        ...

    def fill(self, inputs: PolicyInputs, rows: Rows, sample_ids: Rows | None = None) -> PolicyInputs:
        """The inputs of the frames `rows`, which lack images, with what is cached of them."""
        ...
