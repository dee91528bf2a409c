"""The order in which a training sees its samples: a function of seed and place, so that it can be taken up anywhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import UsageError

from .arguments import whole_number
from .tables import ranges

if TYPE_CHECKING:
    from .reader import Dataset

type OrderKind = Literal["random", "local", "sequential"]
type Rows = npt.NDArray[np.int64]

RUN, WINDOW = 2, 256  # of the local order: frames that stay together at least, samples that are shuffled together
_KINDS = ("random", "local", "sequential")

type Order = SampleOrder | WeightedOrder
"""An endless stream of samples: sample number g follows from the order's settings and g alone."""


@dataclass(frozen=True)
class BatchOrder:
    """Endless batches of an order, or the same `part` of each: what one of several processes trains on.

    Batch number k is a function of the order and k, so a run resumes anywhere. A batch may span two epochs: all have
    `batch_size` frames and none is left out.
    """

    order: Order
    batch_size: int
    part: slice = dataclasses.field(default_factory=lambda: slice(None))

    def share(self, part: slice) -> BatchOrder:
        """The `part` of every whole batch."""
        return dataclasses.replace(self, part=part)

    def batch(self, number: int) -> Rows:
        """Frame numbers of batch `number` (0 is the first)."""
        return self.order.samples(number * self.batch_size, self.batch_size)[self.part]

    def sample_ids(self, number: int) -> Rows:
        """Where the samples of batch `number` stand in the stream of all samples."""
        return np.arange(number * self.batch_size, (number + 1) * self.batch_size)[self.part]

    def units(self, start: int, stop: int) -> Iterator[list[Rows]]:
        """Batches `start` to `stop` (excluded), those together that are cheapest read together."""
        together = max(1, self.order.together // self.batch_size)
        while start < stop:
            end = min((start // together + 1) * together, stop)
            yield [self.batch(number) for number in range(start, end)]
            start = end

    def epoch(self, number: int) -> float:
        """Epochs done before batch `number`."""
        return number * self.batch_size / self.order.size

    def values(self) -> dict[str, Any]:
        """What decides the order of the whole batches: the part does not."""
        return {
            "frames": self.order.size,
            "batch_size": self.batch_size,
            "seed": self.order.seed,
            **self.order.values(),
        }


class SampleOrder:
    """Every sample once per epoch; a sampler for torch's DataLoader and the order of a `Loader` and of training.

    `order` "random" is an exact permutation. "local" cuts the episodes into runs of at least `run` frames that end
    where a group of pictures ends, shuffles the runs, and shuffles the samples of each `window` of that order: a
    reader that decodes a window at a time decodes no frame twice, and a window of 256 samples still comes from about
    128 places of the recording. With a DataLoader, whose unit is the batch, give the batch size as `window`.
    "sequential" is the order of the recording.

    Iterating gives the rest of the current epoch, then moves on to the next. `samples` gives any part of the endless
    stream of epochs.
    """

    def __init__(
        self, dataset: Dataset, order: OrderKind = "random", *, seed: int = 0, run: int = RUN, window: int = WINDOW
    ) -> None:
        check_kind(order)
        self.order, self.seed, self.size = order, whole_number("seed", seed, least=0), len(dataset)
        self.run, self.window = whole_number("run", run, least=1), whole_number("window", window, least=1)
        self.epoch, self.position = 0, 0
        self._dataset = dataset
        self._starts: Rows | None = None
        self._kept: tuple[int, Rows] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        indices = self.indices(self.epoch)
        while self.position < self.size:
            self.position += 1
            yield int(indices[self.position - 1])
        self.set_epoch(self.epoch + 1)

    @property
    def together(self) -> int:
        """Samples, from a multiple of this number on, that are cheapest read together: a window of the local order."""
        return self.window if self.order == "local" else 1

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.epoch, self.position = epoch, 0

    def indices(self, epoch: int) -> Rows:
        """All samples in the order of an epoch, `[N]`; windows are counted from its start."""
        return self._shuffled(epoch, self.window)

    def samples(self, first: int, count: int) -> Rows:
        """The samples number `first` to `first + count` (excluded) of all epochs, `[count]`.

        Windows are counted through the epochs, so that a reader takes whole ones though batches span epochs: in the
        local order all epochs but the first differ from `indices`.
        """
        parts = []
        while count > 0:
            epoch, offset = divmod(first, self.size)
            if epoch != self._kept[0]:
                self._kept = (epoch, self._shuffled(epoch, self.window - epoch * self.size % self.window))
            part = self._kept[1][offset : offset + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(parts)

    def values(self) -> dict[str, Any]:
        """What decides the order besides size and seed, as a training checkpoint keeps it; nothing for "random"."""
        return {} if self.order == "random" else {"order": self.order, "run": self.run, "window": self.window}

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

    def _shuffled(self, epoch: int, first_window: int) -> Rows:
        """The order of an epoch whose first window has `first_window` samples."""
        if self.order == "sequential":
            return np.arange(self.size, dtype=np.int64)
        generator = np.random.default_rng([self.seed, epoch])
        if self.order == "random":
            return generator.permutation(self.size)
        order = shuffled_runs(self._run_starts(), self.size, generator)
        start, stop = 0, first_window
        while start < self.size:
            generator.shuffle(order[start:stop])
            start, stop = stop, stop + self.window
        return order

    def _run_starts(self) -> Rows:
        if self._starts is None:
            self._starts = run_starts(*recorded_groups([self._dataset]), self.run)
        return self._starts

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


def check_kind(order: Any) -> None:
    """UsageError unless `order` is the name of an order."""
    if order not in _KINDS:
        raise UsageError(f"Unknown order '{order}'.", expected=f"one of {', '.join(_KINDS)}")


def whole_batches(window: int, batch_size: int) -> int:
    """The window rounded up to whole batches."""
    return -(-whole_number("window", window, least=1) // batch_size) * batch_size


def recorded_groups(datasets: list[Dataset]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether a group of pictures, and whether an episode begins at each frame of the datasets, `[N]` each."""
    groups, episodes = [], []
    for dataset in datasets:
        begins = np.zeros(len(dataset), dtype=np.bool_)
        begins[dataset.group_starts()] = True
        groups.append(begins)
        episodes.append(np.append(True, np.diff(dataset.episode_index) != 0))
    return np.concatenate(groups), np.concatenate(episodes)


def run_starts(groups: npt.NDArray[np.bool_], breaks: npt.NDArray[np.bool_], run: int) -> Rows:
    """Where runs of at least `run` frames begin: at the start of a group of pictures, and always where frames are cut.

    `groups` says where groups begin, `breaks` where frames are cut, `[N]` each.
    """
    kept = [0]
    for start in np.flatnonzero(groups | breaks)[1:].tolist():
        if start - kept[-1] >= run or breaks[start]:
            kept.append(start)
    return np.array(kept, dtype=np.int64)


def shuffled_runs(starts: Rows, size: int, generator: np.random.Generator) -> Rows:
    """Frames run by run, the runs in random order, `[size]`."""
    stops = np.append(starts[1:], size)
    runs = generator.permutation(len(starts))
    return ranges(starts[runs], (stops - starts)[runs])


def require_same(state: Any, settings: Mapping[str, Any]) -> None:
    """UsageError naming the first of `settings` that a saved state lacks or has with another value."""
    require_has(state, *settings)
    for name, value in settings.items():
        if state[name] != value:
            raise UsageError(
                f"The saved order has {name} {state[name]!r}, this one has {value!r}.",
                expected="the same dataset, episodes and settings as when the state was saved",
            )


def require_has(state: Any, *names: str) -> None:
    """UsageError unless `state` is a saved state with these entries."""
    if not isinstance(state, Mapping):
        raise UsageError(f"The saved order is {state!r}.", expected="a dictionary, as state_dict gives it")
    for name in names:
        if name not in state:
            raise UsageError(f"The saved order has no '{name}'.", expected="a dictionary, as state_dict gives it")


_BLOCK = 4096
_GROUPS, _MEMBERS, _WINDOWS = range(3)  # what is drawn; each has numbers of its own


class WeightedOrder:
    """An endless order over groups of frames; the group of every sample is drawn by `weights`.

    Inside a group every frame comes once before any comes again, in "random" or "local" order. Sample number g follows
    from the seed and g alone, so a run resumes anywhere; the groups of the samples before it are drawn again for that,
    4096 at a time.

    `groups` are frames counted through all `datasets`, in order; only the local order reads the datasets. There, runs
    of frames come one after the other within each group, and the samples that a group has in a window of the whole
    stream change places: a reader that decodes a window at a time decodes no frame twice.
    """

    def __init__(
        self,
        groups: Sequence[Rows],
        weights: Sequence[float],
        order: OrderKind = "random",
        *,
        seed: int = 0,
        datasets: Sequence[Dataset] = (),
        run: int = RUN,
        window: int = WINDOW,
    ) -> None:
        check_kind(order)
        if order == "sequential":
            raise UsageError("Groups that are drawn by weight have no sequential order.", expected="random or local")
        self.order, self.seed, self.size = order, whole_number("seed", seed, least=0), sum(map(len, groups))
        self.run, self.window = whole_number("run", run, least=1), whole_number("window", window, least=1)
        self.weights = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self._groups = [np.asarray(group, dtype=np.int64) for group in groups]
        self._datasets = list(datasets)
        self._starts: list[Rows] | None = None
        # How many samples of each group come before each block that was drawn.
        self._before: list[Rows] = [np.zeros(len(groups), dtype=np.int64)]
        self._drawn: tuple[int, Rows] = (-1, np.empty(0, dtype=np.int64))
        self._orders: dict[int, tuple[int, Rows]] = {}
        self._kept: tuple[int, Rows] = (-1, np.empty(0, dtype=np.int64))

    @property
    def together(self) -> int:
        """Samples, from a multiple of this number on, that are cheapest read together: a window of the local order."""
        return self.window if self.order == "local" else 1

    def samples(self, first: int, count: int) -> Rows:
        """The frames of the samples number `first` to `first + count` (excluded), `[count]`."""
        if self.order == "random":
            return self._samples(first, count)
        parts = []
        while count > 0:
            window, offset = divmod(first, self.window)
            if window != self._kept[0]:
                self._kept = (window, self._samples(window * self.window, self.window, window))
            part = self._kept[1][offset : offset + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(parts)

    def values(self) -> dict[str, Any]:
        """What decides the order besides size and seed, as a checkpoint keeps it."""
        sizes = [len(group) for group in self._groups]
        values = {"groups": sizes, "weights": [round(float(weight), 12) for weight in self.weights]}
        return (
            values if self.order == "random" else {**values, "order": "local", "run": self.run, "window": self.window}
        )

    def _samples(self, first: int, count: int, window: int | None = None) -> Rows:
        """The frames of some samples; those of a `window` change places within their groups."""
        drawn, earlier = self._draw(first, count)
        rows = np.empty(count, dtype=np.int64)
        for group in range(len(self._groups)):
            places = np.flatnonzero(drawn == group)
            rows[places] = self._of_group(group, int(earlier[group]), len(places), window)
        return rows

    def _draw(self, first: int, count: int) -> tuple[Rows, Rows]:
        """The groups of some samples, `[count]`, and how many samples of each group come before them, `[groups]`."""
        block, offset = divmod(first, _BLOCK)
        drawn = self._block(block)
        earlier = self._before[block] + np.bincount(drawn[:offset], minlength=len(self._groups))
        parts = [drawn[offset : offset + count]]
        while (missing := count - sum(map(len, parts))) > 0:
            block += 1
            parts.append(self._block(block)[:missing])
        return np.concatenate(parts), earlier

    def _block(self, block: int) -> Rows:
        """The groups of the samples of a block."""
        while len(self._before) <= block:
            last = len(self._before) - 1
            self._before.append(self._before[last] + np.bincount(self._choose(last), minlength=len(self._groups)))
        if self._drawn[0] != block:
            self._drawn = (block, self._choose(block))
        return self._drawn[1]

    def _choose(self, block: int) -> Rows:
        generator = np.random.default_rng([self.seed, _GROUPS, block])
        return generator.choice(len(self._groups), size=_BLOCK, p=self.weights)

    def _of_group(self, group: int, first: int, count: int, window: int | None) -> Rows:
        """The samples number `first` to `first + count` that a group gives."""
        members, parts = self._groups[group], []
        while count:
            epoch, offset = divmod(first, len(members))
            part = members[self._shuffled(group, epoch)[offset : offset + count]]
            if window is not None:
                np.random.default_rng([self.seed, _WINDOWS, group, epoch, window]).shuffle(part)
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _shuffled(self, group: int, epoch: int) -> Rows:
        """The members of a group in the order of its epoch; in the local order run by run."""
        if self._orders.get(group, (-1,))[0] != epoch:
            generator = np.random.default_rng([self.seed, _MEMBERS, group, epoch])
            size = len(self._groups[group])
            local = self.order == "local"
            order = shuffled_runs(self._run_starts()[group], size, generator) if local else generator.permutation(size)
            self._orders[group] = (epoch, order)
        return self._orders[group][1]

    def _run_starts(self) -> list[Rows]:
        """Where the runs of each group begin, in places of the group."""
        if self._starts is None:
            begins, episodes = recorded_groups(self._datasets)
            cuts = [np.append(True, np.diff(group) != 1) | episodes[group] for group in self._groups]
            self._starts = [
                run_starts(begins[group], cut, self.run) for group, cut in zip(self._groups, cuts, strict=True)
            ]
        return self._starts
