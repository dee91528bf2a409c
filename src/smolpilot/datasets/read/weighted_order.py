"""The order of the samples of several groups of frames, each drawn by its weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.common.errors import UsageError

from .arguments import whole_number
from .order import RUN, WINDOW, OrderKind, Rows, check_kind, recorded_groups, run_starts, shuffled_runs

if TYPE_CHECKING:
    from .reader import Dataset

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
