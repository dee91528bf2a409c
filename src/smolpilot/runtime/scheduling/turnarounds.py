"""How long a policy takes from being asked to its chunk: what the next one will take, as far as the last ones say."""

from __future__ import annotations

import math
from collections import deque

WINDOW, QUANTILE = 20, 0.9


class Turnarounds:
    """A high quantile of the last ones, in seconds. The first after a start is left out: it compiles and allocates.

    Not the maximum of all: one pause of the machine would make every request early for the rest of the run.
    """

    def __init__(self, *, window: int = WINDOW, quantile: float = QUANTILE, cold: int = 1) -> None:
        """cold: how many of the next ones are left out."""
        self._found: deque[float] = deque(maxlen=window)
        self._quantile, self._cold = quantile, cold

    def __len__(self) -> int:
        return len(self._found)

    def add(self, seconds: float) -> None:
        """Note one."""
        if self._cold > 0:
            self._cold -= 1
        else:
            self._found.append(seconds)

    def restart(self) -> None:
        """The process that answers is a new one: what the last one took says little, and the next is a cold start."""
        self._found.clear()
        self._cold = max(self._cold, 1)

    @property
    def seconds(self) -> float | None:
        """What to reckon with; None while nothing is known."""
        if not self._found:
            return None
        ordered = sorted(self._found)
        return ordered[max(0, math.ceil(self._quantile * len(ordered)) - 1)]
