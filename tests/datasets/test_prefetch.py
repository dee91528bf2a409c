"""Reading ahead: the same items in the same order, errors passed on, nothing left running."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import psutil
import pytest

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.read.order import Rows
from smolpilot.datasets.read.prefetch import THREAD, ahead
from smolpilot.datasets.read.read_units import read_units


def threads() -> int:
    return sum(thread.name.startswith(THREAD) for thread in threading.enumerate())


_others: set[psutil.Process] = set()  # children of this process that are somebody else's


@pytest.fixture(autouse=True)
def others() -> None:
    _others.clear()
    _others.update(psutil.Process().children())


def processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child not in _others]


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


class Squares:
    """Reads squares of the rows; counts the units that were read; the row `torn` cannot be read."""

    def __init__(self, torn: int | None = None) -> None:
        self.torn, self.units = torn, 0

    def read(self, rows: Rows, *, whole: bool) -> Any:
        self.units += 1
        if self.torn in rows.tolist():
            raise DatasetError("A frame is torn.", expected="a whole one", fix="record it anew")
        return rows**2, whole, os.getpid()

    def batch(self, read: Any, part: slice) -> Any:
        squares, whole, process = read
        return squares[part], whole, process, self.units


def units(*sizes: int) -> list[list[Rows]]:
    """Units of so many batches, of two frames each."""
    firsts = np.cumsum([0, *sizes])
    return [[np.array([2 * n, 2 * n + 1]) for n in range(a, a + k)] for a, k in zip(firsts, sizes, strict=False)]


def test_it_works_ahead_but_not_further_than_told() -> None:
    made: list[int] = []
    enough = threading.Event()

    def numbers() -> Generator[int]:
        for number in range(100):
            made.append(number)
            if number == 2:
                enough.set()
            yield number

    stream = ahead(numbers(), depth=2)
    assert next(stream) == 0
    # One handed out, two ahead.
    assert enough.wait(5)
    assert not wait_for(lambda: len(made) > 3, seconds=0.2)
    assert next(stream) == 1
    assert wait_for(lambda: made == [0, 1, 2, 3])
    stream.close()
    assert threads() == 0
    assert len(made) <= 4


def test_an_error_comes_after_the_items_before_it() -> None:
    closed = []

    def failing() -> Generator[int]:
        try:
            yield 1
            raise OSError("torn file")
        finally:
            closed.append(True)

    stream = ahead(failing())
    assert next(stream) == 1
    with pytest.raises(OSError, match="torn file"):
        next(stream)
    assert closed == [True]
    assert threads() == 0


def test_a_stream_that_nobody_began_and_one_that_has_ended_leave_nothing() -> None:
    ahead(iter_of(3)).close()
    assert list(ahead(iter_of(3))) == [0, 1, 2]
    assert threads() == 0


def iter_of(count: int) -> Generator[int]:
    yield from range(count)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whoever_reads_them(workers: int, windows: bool) -> None:
    wanted = units(1, 3, 3, 3, 2) if windows else units(*[1] * 7)
    found = list(read_units(Squares(), wanted, depth=1, workers=workers, windows=windows))
    assert [rows.tolist() for rows, _ in found] == [rows.tolist() for unit in wanted for rows in unit]
    assert all((batch[0] == rows**2).all() for rows, batch in found)
    readers = {batch[2] for _, batch in found}
    assert len(readers) == max(workers, 1)
    assert (os.getpid() in readers) == (workers == 0)
    # A unit is read once, by one reader, and knows whether it is a batch.
    per_unit = iter(found)
    for unit in wanted:
        batches = [next(per_unit)[1] for _ in unit]
        assert len({batch[2] for batch in batches}) == 1
        assert [batch[1] for batch in batches] == [len(unit) == 1] * len(unit)
    assert threads() == 0
    assert wait_for(lambda: not processes())


def test_no_unit_is_read_that_is_far_ahead() -> None:
    reader = Squares()
    stream = read_units(reader, units(*[2] * 20), depth=1)
    next(stream)
    assert wait_for(lambda: reader.units == 2)
    assert not wait_for(lambda: reader.units > 2, seconds=0.2)
    stream.close()
    assert threads() == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_the_same_error_at_its_place(workers: int) -> None:
    stream = read_units(Squares(torn=9), units(2, 2, 2, 2), depth=1, workers=workers, windows=True)
    for _ in range(4):
        next(stream)
    with pytest.raises(
        DatasetError, match=r"^A frame is torn\.\nExpected: a whole one\nFix: record it anew$"
    ) as caught:
        next(stream)
    assert (caught.value.found, caught.value.fix) == ("A frame is torn.", "record it anew")
    assert threads() == 0
    assert wait_for(lambda: not processes())


def test_ctrl_c_is_left_to_the_main_process() -> None:
    stream = read_units(Squares(), units(*[1] * 20), depth=1, workers=1)
    next(stream)
    (worker,) = processes()
    worker.send_signal(signal.SIGINT)  # a terminal sends it to the whole group
    assert len(list(stream)) == 19
    assert wait_for(lambda: not processes())


def test_a_worker_that_is_killed_is_an_error_and_no_hang() -> None:
    stream = read_units(Squares(), units(*[1] * 2000), depth=1, workers=1)
    next(stream)
    (worker,) = processes()
    worker.send_signal(signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .* (killed by signal|exited unexpectedly)"):
        list(stream)
    assert wait_for(lambda: not processes())


def test_processes_end_with_their_stream() -> None:
    stream = read_units(Squares(), units(*[2] * 20), depth=2, workers=2, windows=True)
    assert len(processes()) == 2
    next(stream)
    stream.close()
    assert wait_for(lambda: not processes())
    # Also where nobody has asked for a batch.
    unread = read_units(Squares(), units(*[2] * 20), depth=2, workers=2, windows=True)
    assert len(processes()) == 2
    del unread
    assert wait_for(lambda: not processes())
