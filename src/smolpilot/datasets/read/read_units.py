"""Units of work read ahead, by a thread or by worker processes."""

from __future__ import annotations

from collections.abc import Generator, Iterable

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
    from .workers import in_processes

    return in_processes(reader, units, workers, depth, windows, start_method)
