"""Worker processes that play demonstrations side by side, a simulation in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event
from typing import Any

from smolpilot.common.errors import SimulationError
from smolpilot.environments.making import WORDS
from smolpilot.environments.worker_process import Answer, WorkerProcess

type Progress = Callable[[str, int, int], None]
type Ask = Callable[..., Answer]


class GateWorkers:
    """`jobs` processes, each with the simulation in its slot 0. `simulation`: its physics, render, packages."""

    def __init__(self, name: str, settings: Mapping[str, Any], jobs: int, python: Path | None) -> None:
        """UsageError where it does not start, and for settings that cannot be."""
        drawn = {key: value for key, value in settings.items() if key not in WORDS}
        with ExitStack() as stack:
            self._workers = [stack.enter_context(closing(WorkerProcess.of(name, python))) for _ in range(jobs)]
            facts, *_ = [worker.ask("make", slot=0, name=name, settings=drawn)[0]["facts"] for worker in self._workers]
            self._stack = stack.pop_all()
        self.facts: Mapping[str, Any] = facts
        self.simulation = {key: facts[key] for key in ("physics", "render", "packages")}

    def __enter__(self) -> GateWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def each[T](
        self, numbers: Sequence[int], play: Callable[[Ask, int], T], progress: Progress | None = None
    ) -> dict[int, T | SimulationError]:
        """`play(ask, number)` for each number, in order; the error in place of an episode whose simulation failed, and
        of those that were left to a process that died or hung."""
        found: dict[int, T | SimulationError] = {}
        stop = Event()  # Ctrl-C, or an error that is no episode's: nobody waits for what is left

        def lane(place: int) -> None:
            worker = self._workers[place]
            mine = numbers[place :: len(self._workers)]
            for number in mine:
                if stop.is_set():
                    return
                try:
                    found[number] = play(lambda op, *rest, **more: worker.ask(op, *rest, slot=0, **more), number)
                except SimulationError as error:
                    found[number] = error
                    if not worker.alive:
                        for left in mine:
                            found.setdefault(left, error)
                        return
                if progress is not None:
                    progress("gate", len(found), len(numbers))

        with ThreadPoolExecutor(len(self._workers)) as threads:
            try:
                list(threads.map(lane, range(len(self._workers))))
            except BaseException:
                stop.set()
                raise
        return {number: found[number] for number in numbers}
