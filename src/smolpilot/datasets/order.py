"""The order in which a training sees its samples: a function of seed and epoch, so that it can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from smolpilot.errors import UsageError

if TYPE_CHECKING:
    from smolpilot.datasets.reader import Dataset

type OrderKind = Literal["random", "local", "sequential"]

_KINDS = ("random", "local", "sequential")
_FIELDS = ("order", "seed", "run", "window", "size")


class SampleOrder:
    """Every sample once per epoch; a sampler for torch's DataLoader and the order of a `Loader`.

    `order` "random" is an exact permutation. "local" cuts the episodes into runs of at least `run` frames that end
    where a group of pictures ends, shuffles the runs, and shuffles the samples of each `window` of that order: a
    reader that decodes a window at a time decodes no frame twice, and a window of 256 samples still comes from about
    128 places of the recording. With a DataLoader, whose unit is the batch, give the batch size as `window`.
    "sequential" is the order of the recording.

    Iterating gives the rest of the current epoch, then moves on to the next.
    """

    def __init__(
        self, dataset: Dataset, order: OrderKind = "random", *, seed: int = 0, run: int = 2, window: int = 256
    ) -> None:
        if order not in _KINDS:
            raise UsageError(f"Unknown order '{order}'.", expected=f"one of {', '.join(_KINDS)}")
        for name, value in (("run", run), ("window", window)):
            if value < 1:
                raise UsageError(f"{name} is {value}.", expected="at least 1")
        self.order, self.seed, self.run, self.window, self.size = order, seed, run, window, len(dataset)
        self.epoch, self.position = 0, 0
        self._dataset = dataset
        self._starts: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        indices = self.indices(self.epoch)
        while self.position < self.size:
            self.position += 1
            yield int(indices[self.position - 1])
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.epoch, self.position = epoch, 0

    def indices(self, epoch: int) -> npt.NDArray[np.int64]:
        """All samples in the order of an epoch, `[N]`."""
        if self.order == "sequential":
            return np.arange(self.size, dtype=np.int64)
        generator = np.random.default_rng([self.seed, epoch])
        if self.order == "random":
            return generator.permutation(self.size)
        starts = self._run_starts()
        stops = np.append(starts[1:], self.size)
        runs = generator.permutation(len(starts))
        order = np.concatenate([np.arange(starts[run], stops[run]) for run in runs])
        for first in range(0, self.size, self.window):
            generator.shuffle(order[first : first + self.window])
        return order

    def state_dict(self, *, prefetched: int = 0) -> dict[str, Any]:
        """Where the order stands. A DataLoader with workers takes samples ahead of the training: pass how many it has
        taken that the training has not had (or let a `Loader` do the counting)."""
        place = self.epoch * self.size + self.position - prefetched
        epoch, position = divmod(max(place, 0), self.size)
        return {**{name: getattr(self, name) for name in _FIELDS}, "epoch": epoch, "position": position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` stood; UsageError when it belongs to another order or recording."""
        for name in _FIELDS:
            if state.get(name) != getattr(self, name):
                raise UsageError(
                    f"The saved order has {name} {state.get(name)!r}, this one has {getattr(self, name)!r}.",
                    expected="the same recording, episodes and settings as when the state was saved",
                )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def _run_starts(self) -> npt.NDArray[np.int64]:
        if self._starts is None:
            groups = self._dataset.group_starts()
            kept = [0]
            episodes = self._dataset.episode_index
            for start in groups[1:].tolist():
                if start - kept[-1] >= self.run or episodes[start] != episodes[start - 1]:
                    kept.append(start)
            self._starts = np.array(kept, dtype=np.int64)
        return self._starts
