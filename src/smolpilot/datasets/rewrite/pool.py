"""Work spread over processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Self

from smolpilot.errors import DatasetError

_AHEAD = 4


class Pool:
    """Runs picklable functions, in this process with one job; results come as they are ready."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def run(self, work: Callable[..., Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (number of the task, `work(task)`); the first error is raised after the running tasks have ended."""
        if self.jobs == 1 or len(tasks) < 2:
            for number, task in enumerate(tasks):
                yield number, work(task)
            return
        try:
            yield from self._spread(work, tasks)
        except BrokenProcessPool as error:
            raise DatasetError(
                "A working process was killed.",
                expected="enough memory for --jobs processes",
                fix="Run the same command again, with fewer --jobs: finished parts are kept.",
            ) from error

    def _spread(self, work: Callable[..., Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_watch, initargs=(os.getpid(),)
            )
        waiting: dict[Future[Any], int] = {}
        numbers = iter(range(len(tasks)))
        while True:
            while len(waiting) < self.jobs * _AHEAD and (number := next(numbers, None)) is not None:
                waiting[self._executor.submit(work, tasks[number])] = number
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()


def _watch(parent: int) -> None:
    """End this process when its parent is gone: a killed command must not go on writing."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
