"""Units of work read ahead, by a thread or by worker processes.

Each process is of a torch DataLoader of its own, so that it may hold a unit of several batches. One DataLoader of
several workers deals out its items in turns and hands them over whole: a window of images would cross over at once, or
every worker would read every window.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from smolpilot.common.errors import SmolpilotError

from .order import Rows
from .prefetch import Reader, StartMethod, hand_out


def read_units[Read, Batch](
    reader: Reader[Read, Batch],
    units: Iterable[list[Rows]],
    *,
    depth: int,
    workers: int = 0,
    windows: bool = False,
    start_method: StartMethod | None = None,
) -> Generator[tuple[Rows, Batch]]:
    """The frames of every batch of `units` with the batch, in order.

    A unit is a list of batches that are read together. With `workers` 0 a thread reads up to `depth` units ahead.
    Else worker processes take the units in turns: each hands over up to `depth` batches ahead and, where units are
    `windows` of several batches, reads its next unit meanwhile. They start at this call; `units` pickles and gives the
    same units at each iteration. Errors are raised here.
    """
    if workers == 0:
        return hand_out(reader, units, depth)
    streams: list[Iterator[Batch | _Failed]] = []
    for number in range(workers):
        source: Any = _Share(reader, units, slice(number, None, workers), int(windows))
        loader: DataLoader[Any] = DataLoader(
            source,
            batch_size=None,
            num_workers=1,
            prefetch_factor=depth,
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_interrupts,
            multiprocessing_context=start_method,
            generator=torch.Generator(),  # the seed of a worker is not taken from the numbers of the run
        )
        streams.append(iter(loader))
    return _dealt(units, streams)


def _dealt[Batch](
    units: Iterable[list[Rows]], streams: list[Iterator[Batch | _Failed]]
) -> Generator[tuple[Rows, Batch]]:
    """The batches of all workers in order."""
    try:
        for unit, number in zip(units, itertools.cycle(range(len(streams)))):
            for rows in unit:
                batch = next(streams[number])
                if isinstance(batch, _Failed):
                    raise batch.error
                yield rows, batch
    finally:
        streams.clear()  # ends the processes


class _Share(IterableDataset[Any]):
    """What a worker reads: its `part` of the units (every so-many-th), batch by batch."""

    def __init__(self, reader: Reader[Any, Any], units: Iterable[list[Rows]], part: slice, depth: int) -> None:
        self._reader, self._units, self._part, self._depth = reader, units, part, depth

    def __iter__(self) -> Iterator[Any]:
        mine = itertools.islice(self._units, self._part.start, None, self._part.step)
        try:
            for _, batch in hand_out(self._reader, mine, self._depth):
                yield batch
        except SmolpilotError as error:
            # The DataLoader would put its own traceback into the message.
            yield _Failed(error)


@dataclass(frozen=True)
class _Failed:
    """What a worker hands over instead of a batch that cannot be read."""

    error: SmolpilotError


def _as_it_is[T](item: T) -> T:
    return item


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the main process ends the workers once it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
