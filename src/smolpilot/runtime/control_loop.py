"""The control loop of what needs no policy: read, ask a source, let the governor decide, at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from smolpilot.common.text import plain
from smolpilot.contracts import JointReadings, SentAction, Stop, StopCategory

from .governed_robot import GovernedRobot
from .governor import Request
from .signals import StopSignals

_COMING_TO_REST_S = 5.0  # after a stop; a joint at 270 deg/s with a tenth of that per second squared needs less


class Source(Protocol):
    """Who asks for commands: a move, a person, an episode."""

    def ask(self, now: float, reading: JointReadings) -> Request | None:
        """What is wanted now; None where nothing is (yet, or because the source is dead)."""
        ...

    def done(self, now: float, reading: JointReadings) -> bool:
        """Whether there is nothing left to ask for."""
        ...


@dataclass(frozen=True)
class LoopEnd:
    """How a loop ended: `stop` is the stop in force, None where the source was done."""

    stop: Stop | None
    ticks: int


class _Caller:
    """Calls code of others. When it fails the arm stops as for every fault; it is not called again."""

    def __init__(self, robot: GovernedRobot, what: str) -> None:
        self._robot, self._what = robot, what
        self.failure: Exception | None = None

    def __call__[T](self, call: Callable[[], T], otherwise: T) -> T:
        if self.failure is not None:
            return otherwise
        try:
            return call()
        except Exception as error:
            self.failure = error
            self._robot.halt(StopCategory.HOLD, f"{self._what} failed: {plain(error, 200) or type(error).__name__}")
            return otherwise


def run_loop(
    robot: GovernedRobot,
    source: Source,
    *,
    signals: StopSignals | None = None,
    on_tick: Callable[[SentAction], None] = lambda sent: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LoopEnd:
    """Run until the source is done or a stop is in force and the arm has come to rest.

    The robot is connected and engaged. Ticks are due at fixed times, so that a late one does not delay the others; one
    that is missed altogether is left out, never made up for. What the source or `on_tick` raises is raised here, when
    the arm stands.
    """
    period = 1.0 / robot.spec.rate
    due = clock()
    stopped_at: float | None = None
    ticks = 0
    ask, tell = _Caller(robot, "What asks for commands"), _Caller(robot, "What follows the ticks")
    while True:
        reading = robot.read()
        if signals is not None and signals.reason is not None and robot.governor.stop is None:
            robot.halt(StopCategory.HOLD, signals.reason)
        now = clock()
        request = ask(partial(source.ask, now, reading), None)
        sent = robot.ask(request)
        tell(partial(on_tick, sent), None)
        ticks += 1
        done = robot.governor.stop is None and ask(partial(source.done, now, reading), False)
        stop = robot.governor.stop
        if stop is not None:
            stopped_at = now if stopped_at is None else stopped_at
            if robot.gone or robot.governor.at_rest or now - stopped_at > _COMING_TO_REST_S:
                if failure := ask.failure or tell.failure:
                    raise failure
                return LoopEnd(stop, ticks)
        elif done:
            return LoopEnd(None, ticks)
        due += period
        sleep(max(0.0, due - clock()))
        due += period * max(0, int((clock() - due) / period))  # those that were missed meanwhile
