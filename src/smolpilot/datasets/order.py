"""The order in which a training sees its samples: a function of seed and epoch, so that it can be taken up anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.arguments import whole_number
from smolpilot.datasets.tables import ranges
from smolpilot.errors import UsageError

if TYPE_CHECKING:
    from smolpilot.datasets.reader import Dataset

type OrderKind = Literal["random", "local", "sequential"]

_KINDS = ("random", "local", "sequential")


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
        self.order, self.seed, self.size = order, whole_number("seed", seed, least=0), len(dataset)
        self.run, self.window = whole_number("run", run, least=1), whole_number("window", window, least=1)
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
        order = ranges(starts[runs], (stops - starts)[runs])
        for first in range(0, self.size, self.window):
            generator.shuffle(order[first : first + self.window])
        return order

    def state_dict(self, *, prefetched: int = 0) -> dict[str, Any]:
        """Where the order stands. A DataLoader with workers takes samples ahead of the training: pass how many it has
        taken that the training has not had (or let a `Loader` do the counting)."""
        place = self.epoch * self.size + self.position - prefetched
        epoch, position = divmod(max(place, 0), self.size)
        return {**self._settings(), "epoch": epoch, "position": position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` stood; UsageError when it belongs to another order or recording."""
        self.epoch, self.position = self.read_state(state)

    def read_state(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """Epoch and position of a saved state; UsageError when it belongs to another order or recording."""
        require_same(state, self._settings())
        require_has(state, "epoch", "position")
        epoch, position = (whole_number(f"The saved {name}", state[name], least=0) for name in ("epoch", "position"))
        if position > self.size:
            raise UsageError(f"The saved position is {position}.", expected=f"0 to {self.size}, the number of frames")
        return epoch, position

    def _settings(self) -> dict[str, Any]:
        """What the order follows from, in the order in which differences are told."""
        episodes = self._dataset.episodes
        return {
            "order": self.order,
            "seed": self.seed,
            "run": self.run,
            "window": self.window,
            "recording": self._dataset.meta.fingerprint,
            "size": self.size,
            "episodes": len(episodes),
            "episodes_hash": hashlib.sha256(json.dumps(episodes).encode()).hexdigest()[:16],
        }

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


def require_same(state: Any, settings: Mapping[str, Any]) -> None:
    """UsageError naming the first of `settings` that a saved state lacks or has with another value."""
    require_has(state, *settings)
    for name, value in settings.items():
        if state[name] != value:
            raise UsageError(
                f"The saved order has {name} {state[name]!r}, this one has {value!r}.",
                expected="the same recording, episodes and settings as when the state was saved",
            )


def require_has(state: Any, *names: str) -> None:
    """UsageError unless `state` is a saved state with these entries."""
    if not isinstance(state, Mapping):
        raise UsageError(f"The saved order is {state!r}.", expected="a dictionary, as state_dict gives it")
    for name in names:
        if name not in state:
            raise UsageError(f"The saved order has no '{name}'.", expected="a dictionary, as state_dict gives it")
