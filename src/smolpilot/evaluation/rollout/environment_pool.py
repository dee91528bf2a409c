"""Environments side by side: in this process, or wherever a pool has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from smolpilot.common.errors import SimulationError, SmolpilotError

from .checked_environment import close_environment

if TYPE_CHECKING:
    from smolpilot.contracts import Environment


class Pool(Protocol):
    """Environments by place, closed together. `environments.worker_pool` has them in processes of their own."""

    environments: list[Environment]

    def each[T](self, places: Sequence[int], work: Callable[[int], T]) -> list[T | SimulationError]:
        """`work(place)` for each place, in the order given; a SimulationError in place of what failed."""
        ...

    def renew(self, place: int) -> list[int]:
        """After a failure: the places whose environments are new ones, since their process had ended."""
        ...

    def close(self) -> None: ...


class LocalPool:
    """Environments in this process, one after the other: what they raise is raised."""

    def __init__(self, make: Callable[[], Environment], count: int) -> None:
        self.environments: list[Environment] = []
        self._ended = False
        try:
            for _ in range(max(1, count)):
                self.environments.append(make())  # one by one: what is there when one fails is closed
        except BaseException:
            self._close_quietly()
            raise

    def each[T](self, places: Sequence[int], work: Callable[[int], T]) -> list[T | SimulationError]:
        try:
            return [work(place) for place in places]
        except BaseException:
            self._close_quietly()  # the first failure is the one to tell
            raise

    def renew(self, place: int) -> list[int]:
        return []

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            for environment in self.environments:
                close_environment(environment)

    def _close_quietly(self) -> None:
        self._ended = True
        for environment in self.environments:
            with suppress(SmolpilotError):
                close_environment(environment)
