"""Reading ahead: what comes next is made while what there is is used, by a thread or by worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol, cast

import numpy as np

from .order import Rows

type StartMethod = Literal["fork", "spawn", "forkserver"]

THREAD = "smolpilot-ahead"  # name of the threads


class Reader[Read, Batch](Protocol):
    """Reads frames, many at once, and hands them out batch by batch. Pickles, for worker processes."""

    def read(self, rows: Rows, *, whole: bool) -> Read:
        """All frames of a unit of work, `[n]`; `whole`: it is one batch."""
        ...

    def batch(self, read: Read, part: slice) -> Batch:
        """The frames `part` of what was read; holds no memory of the others."""
        ...


def ahead[T](stream: Generator[T], depth: int = 2) -> Generator[T]:
    """The same items in the same order, up to `depth` of them made ahead by a thread; its errors are raised here.

    Closing it closes `stream`, after the item that is being made.
    """
    waiting: deque[Future[T]] = deque()
    end = object()
    executor = ThreadPoolExecutor(1, thread_name_prefix=THREAD)
    try:
        while True:
            while len(waiting) <= depth:
                waiting.append(executor.submit(next, stream, cast(T, end)))
            item = waiting.popleft().result()
            if item is end:
                return
            yield item
            del item  # a batch is large: not held while the next one is waited for
    finally:
        # Those that are not begun do not begin; the one that is being made ends.
        executor.shutdown(cancel_futures=True)
        stream.close()


def hand_out[Read, Batch](
    reader: Reader[Read, Batch], units: Iterable[list[Rows]], depth: int
) -> Generator[tuple[Rows, Batch]]:
    """The batches of units that a thread reads up to `depth` units ahead."""

    def read() -> Generator[tuple[list[Rows], Read]]:
        for unit in units:
            yield unit, reader.read(np.concatenate(unit), whole=len(unit) == 1)

    stream = ahead(read(), depth) if depth else read()
    try:
        for unit, found in stream:
            start = 0
            for rows in unit:
                yield rows, reader.batch(found, slice(start, start + len(rows)))
                start += len(rows)
            del found  # a window of frames is large: not held while the next one is waited for
    finally:
        stream.close()
