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

_COMING_TO_REST_S = 5.0  # after a stop, beside the time that braking takes: a joint that gives way has a way to go


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
    """Run until the source is done or a stop is in force, and the arm has come to rest.

    The robot is connected and engaged. Ticks are due at fixed times, so that a late one does not delay the others; one
    that is missed altogether is left out, never made up for. What the source or `on_tick` raises is a stop, and is
    raised again when the arm stands.
    """
    period = 1.0 / robot.spec.rate
    due = clock()
    patience = _COMING_TO_REST_S + float((robot.limits.velocity / robot.limits.acceleration).max())
    stopped_at: float | None = None
    failure: Exception | None = None
    done, ticks = False, 0
    ask, tell = _Caller(robot, "What asks for commands"), _Caller(robot, "What follows the ticks")
    while True:
        try:
            reading = robot.read()
            if signals is not None and signals.reason is not None and robot.governor.stop is None:
                robot.halt(StopCategory.HOLD, signals.reason)
            now = clock()
            sent = robot.ask(None if done else ask(partial(source.ask, now, reading), None))
        except Exception as error:
            if failure is not None:  # it was no better without the source
                raise failure from error
            failure, done = error, True
            robot.halt(StopCategory.HOLD, f"The robot failed: {plain(error, 200) or type(error).__name__}")
            continue
        tell(partial(on_tick, sent), None)
        ticks += 1
        done = done or (robot.governor.stop is None and ask(partial(source.done, now, reading), False))
        stop = robot.governor.stop
        if stop is not None:
            stopped_at = now if stopped_at is None else stopped_at
            if robot.gone or robot.governor.at_rest or now - stopped_at > patience:
                if (found := failure or ask.failure or tell.failure) is not None:
                    raise found
                return LoopEnd(stop, ticks)
        elif done and robot.governor.at_rest:
            return LoopEnd(None, ticks)
        due += period
        sleep(max(0.0, due - clock()))
        due += period * max(0, int((clock() - due) / period))  # those that were missed meanwhile
