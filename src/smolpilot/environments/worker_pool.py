"""Environments in worker processes: several side by side in each, all workers at the same time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from smolpilot.common.errors import SimulationError, SmolpilotError, UsageError
from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts import Environment

from .making import environment_maker
from .where import Where
from .worker_process import WorkerProcess

HOST = [sys.executable, "-m", "smolpilot.environments.host"]


class WorkerPool:
    """`count` environments in `jobs` processes. What is done with them is done in all processes at the same time.

    Closed at the end by `close`. UsageError where a worker does not start or the environment cannot be made.
    """

    def __init__(
        self, name: str, settings: Mapping[str, Any], count: int, *, jobs: int, python: Path | None = None
    ) -> None:
        """python: the interpreter of the workers, where it is another than this one."""
        self._name, self._python = name, python
        self._make = environment_maker(name, settings)
        if python is not None and self._make.hosted:
            raise UsageError(
                f"The environment {plain(name, LIMIT)} runs in smolpilot's own interpreter, not in {python}.",
                expected="a simulation, as `smolpilot env list --env-python DIR` lists them",
                fix="leave --env-python out",
            )
        self._jobs = max(1, min(jobs, count))
        self._workers: list[WorkerProcess] = []
        self._threads = ThreadPoolExecutor(self._jobs, thread_name_prefix="environment")
        self.environments: list[Environment] = []
        try:
            self._workers = [self._worker() for _ in range(self._jobs)]
            for place in range(count):
                self.environments.append(self._environment(place))
        except BaseException:
            self.close()
            raise

    def each[T](self, places: Sequence[int], work: Callable[[int], T]) -> list[T | SimulationError]:
        """`work(place)` for each place, in the order given; a SimulationError in place of what failed."""

        def lane(number: int) -> dict[int, T | SimulationError]:
            found: dict[int, T | SimulationError] = {}
            for place in places:
                if place % self._jobs == number:
                    try:
                        found[place] = work(place)
                    except SimulationError as error:
                        found[place] = error
                        if not self._workers[number].alive:
                            break  # the others of this process are lost, too, but did not fail
            return found

        results: dict[int, T | SimulationError] = {}
        for found in self._threads.map(lane, range(self._jobs)):
            results |= found
        return [results.get(place, LOST) for place in places]

    def renew(self, place: int) -> list[int]:
        """New environments in place of those of a process that died; their places. Those of one that lives stay."""
        number = place % self._jobs
        if self._workers[number].alive:
            return []
        self._workers[number].close()
        self._workers[number] = self._worker()
        places = [one for one in range(len(self.environments)) if one % self._jobs == number]
        for one in places:
            self.environments[one] = self._environment(one)
        return places

    def close(self) -> None:
        """End all processes."""
        self._threads.shutdown(cancel_futures=True)
        for place, environment in enumerate(self.environments):
            if self._workers[place % self._jobs].alive:
                with contextlib.suppress(SmolpilotError):  # what fails to close ends with its process
                    environment.close()
        for worker in self._workers:
            worker.close()

    def _worker(self) -> WorkerProcess:
        if self._make.hosted:
            return WorkerProcess(HOST, self._name)
        return WorkerProcess.of(self._name, self._python)

    def _environment(self, place: int) -> Environment:
        return self._make(Where(self._workers[place % self._jobs], place))


LOST = SimulationError("The process of this environment ended with another's episode.")
"""In place of the result of what was not begun: it is to be done again."""
