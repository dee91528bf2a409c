"""Work spread over threads, or over processes that end with the one that started them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Self

from smolpilot.common.errors import DatasetError

_AHEAD = 4
_MB = 1024 * 1024
# Below the first, one thread is enough. Below the second, starting processes takes longer than they save: reading,
# decoding and hashing run in threads, too, only the loops over packets take turns.
_WORTH_A_THREAD, _WORTH_A_PROCESS = 8 * _MB, 2048 * _MB


class Pool:
    """Runs picklable functions; results come as they are ready.

    `size`, the bytes to be read, decides whether `jobs` threads or processes are worth their start.
    """

    def __init__(self, jobs: int, size: int) -> None:
        self.jobs = max(1, min(jobs, size // _WORTH_A_THREAD))
        self._processes = size > _WORTH_A_PROCESS
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        except BrokenExecutor as error:
            raise DatasetError(
                "A working process was killed.",
                expected="enough memory for --jobs processes",
                fix="Run the same command again, with fewer --jobs: finished parts are kept.",
            ) from error

    def _spread(self, work: Callable[..., Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        if self._executor is None:
            self._executor = self._start()
        executor = self._executor
        waiting: dict[Future[Any], int] = {}
        numbers = iter(range(len(tasks)))
        while True:
            while len(waiting) < self.jobs * _AHEAD and (number := next(numbers, None)) is not None:
                waiting[executor.submit(work, tasks[number])] = number
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()

    def _start(self) -> Executor:
        if not self._processes:
            return ThreadPoolExecutor(self.jobs)
        # Small datasets never come here, and loading these takes longer than converting some of them.
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_watch, initargs=(os.getpid(),))


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of the files that exist, each counted once."""
    return sum(path.stat().st_size for path in set(paths) if path.exists())


def _watch(parent: int) -> None:
    """End this process when its parent is gone: a killed command must not go on writing."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
