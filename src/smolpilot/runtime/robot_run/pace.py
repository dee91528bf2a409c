"""The period of the control loop: ticks are due at fixed times, and how late they were is known."""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

_NEWEST = 1_000
_PRIORITY = 20  # of SCHED_FIFO: above everything that asks for none, below the kernel's own


class Pace:
    """`wait` returns at each tick's time. One that is missed altogether is left out, never made up for."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._period, self._clock, self._sleep = 1.0 / rate, clock, sleep
        self._due: float | None = None
        self._late: deque[float] = deque(maxlen=_NEWEST)
        self._begun: deque[float] = deque(maxlen=_NEWEST)
        self.missed = 0

    def wait(self) -> int:
        """Wait for the next tick; how many periods it is after the one before, more than 1 where some were missed."""
        now = self._clock()
        if self._due is None:
            self._due = now
            passed = 1
        else:
            passed = 1 + max(0, int((now - self._due - self._period) / self._period))
            self._due += passed * self._period
            self.missed += passed - 1
        if (left := self._due - now) > 0:
            self._sleep(left)
        now = self._clock()
        self._late.append(now - self._due)
        self._begun.append(now)
        return passed

    @property
    def achieved(self) -> float | None:
        """Ticks per second, of the newest ones; None before the second."""
        if len(self._begun) < 2 or self._begun[-1] <= self._begun[0]:
            return None
        return (len(self._begun) - 1) / (self._begun[-1] - self._begun[0])

    @property
    def late_ms(self) -> float | None:
        """99 % of the newest ticks began at most so many milliseconds late; None before the first."""
        return 1e3 * float(np.quantile(self._late, 0.99)) if self._late else None


def ask_for_realtime() -> str:
    """Let the system run this process before all others, where that is permitted; what became of it, in a sentence."""
    if not hasattr(os, "sched_setscheduler"):
        return "--realtime: this system has no SCHED_FIFO; the default scheduler it is."
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except OSError as error:
        return (
            f"--realtime: SCHED_FIFO is not permitted ({error.strerror}); the default scheduler it is. As root: "
            "`echo '@realtime - rtprio 99' >> /etc/security/limits.d/realtime.conf`, add yourself to the group "
            "realtime, and log in again."
        )
    return f"--realtime: SCHED_FIFO, priority {_PRIORITY}."


@contextmanager
def no_collection() -> Iterator[None]:
    """Python's collector of garbage pauses the process for milliseconds: not while an arm moves."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
