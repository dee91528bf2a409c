"""Schedule: one turn per tick of the control loop; says which action is due, and when to ask for the next chunk.

Playback is counted in steps of the policy's rate that were really executed, its `place`. A chunk begins at the place
that was due when the joints that it was planned from were read: so its first actions are left out by what was executed
since then, not by what a latency is believed to be, and an arm that had to wait goes on where it stopped.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from smolpilot.common.errors import UsageError
from smolpilot.contracts import Joints

from .schedule_options import Merge, Mode, ScheduleOptions
from .timeline import EPSILON, Knot, Timeline
from .turnarounds import Turnarounds

_REMEMBERED_S = 30.0  # how old the reading of the joints may be that a chunk was planned from
_SPARE_TICKS = 2  # of refill, beside what a turnaround takes


@dataclass(frozen=True, eq=False)
class PlannedChunk:
    """A policy's answer. actions [H, A] in the robot's order and units, one step of the policy's rate apart.

    id: of the request. state_at: when the joints were read that it begins from; captured_at: the oldest part of the
    observation; arrived_at: when the answer was there; all in seconds on the monotonic clock.
    """

    id: int
    actions: Joints
    state_at: float
    captured_at: float
    arrived_at: float


@dataclass(frozen=True, eq=False)
class Ask:
    """The next chunk is wanted. place: that of the newest reading of the joints. leftover [L, A]: what was left of the
    last one then, with `delay`: how many steps of it will be executed meanwhile; None where the policy is not to go on
    from it."""

    id: int
    place: float
    leftover: Joints | None = None
    delay: int = 0


class Playing(StrEnum):
    """What the arm does in a tick."""

    PLAY = "play"
    WAIT = "wait"
    """The schedule means it to stand: it waits for a chunk that it let it wait for."""
    STARVED = "starved"
    """The plan ran out before the next chunk came."""


@dataclass(frozen=True, eq=False)
class Due:
    """What a tick is to do; `knot` where it plays."""

    playing: Playing
    knot: Knot | None = None


@dataclass
class Counts:
    """What became of the chunks, for the report."""

    chunks: int = 0
    late: int = 0  # all of their actions' time had passed
    trimmed: int = 0  # actions that were left out because their time had passed
    blended: int = 0  # actions that two chunks were mixed in
    starved: int = 0  # ticks
    waited: int = 0  # ticks


class Schedule:
    """Each tick of the loop calls `arrived` with what has come, `tick`, then `wanted`: is a chunk to be asked for?"""

    def __init__(
        self,
        options: ScheduleOptions,
        *,
        chunk_size: int,
        n_action_steps: int,
        policy_rate: float,
        control_rate: float,
        grippers: Sequence[int] = (),
        turnarounds: Turnarounds | None = None,
    ) -> None:
        """grippers: columns of the action that are never blended. turnarounds: what is known of them already.

        UsageError for a control rate below the policy's, and for a horizon longer than a chunk.
        """
        if control_rate < policy_rate * (1 - 1e-9):
            raise UsageError(
                f"The control rate is {control_rate:g} Hz.",
                expected=f"at least the policy's {policy_rate:g} Hz: each of its actions is to be executed",
                fix=f"--rate {policy_rate:g}, or leave it out",
            )
        horizon = options.n_action_steps or n_action_steps
        if horizon > chunk_size:
            raise UsageError(f"n_action_steps is {horizon}.", expected=f"at most {chunk_size}, the length of a chunk")
        self.options, self.counts = options, Counts()
        self.turnarounds = turnarounds or Turnarounds(cold=0)
        self.chunk_size, self.horizon = chunk_size, horizon
        self._rate, self._tick_s = policy_rate, 1.0 / control_rate
        self._stride = policy_rate / control_rate  # steps per tick
        self._grippers = list(grippers)
        self._timeline = Timeline()
        self._ids = 0
        self._forget()

    def _forget(self) -> None:
        self._timeline.clear()
        self._ticks = 0  # that were played
        self._seen: deque[tuple[float, float]] = deque(maxlen=math.ceil(_REMEMBERED_S / self._tick_s))
        self._begun_at: float | None = None  # place where the newest chunk came into force
        self._asked: tuple[int, float] | None = None  # the request that is not answered yet, and when

    def reset(self) -> None:
        """At the start of an episode, and after a stop: nothing of what was planned holds, and no answer is awaited."""
        self._forget()

    @property
    def place(self) -> float:
        """Steps of the policy's rate that were executed."""
        return self._ticks * self._stride

    @property
    def waiting_since(self) -> float | None:
        """When the request was made that is not answered yet."""
        return None if self._asked is None else self._asked[1]

    @property
    def asked(self) -> int | None:
        """The number of the request that is not answered yet."""
        return None if self._asked is None else self._asked[0]

    @property
    def rate(self) -> float:
        """Actions per second, of the policy."""
        return self._rate

    @property
    def queued(self) -> float:
        """Seconds of playback that are left."""
        return max(0.0, (self._timeline.end - self.place) / self._rate) if self._timeline else 0.0

    def ahead(self) -> Joints:
        """The actions [L, A] from the newest reading on, one step apart; L is 0 where nothing is planned."""
        return np.array([knot.action for knot in self._timeline.sample(self.here)])

    @property
    def refill(self) -> float:
        """Seconds of remaining playback under which the next chunk is asked for."""
        if self.options.refill is not None:
            return self.options.refill
        return (self.turnarounds.seconds or 0.0) + _SPARE_TICKS * self._tick_s

    @property
    def delay(self) -> int:
        """Steps that are expected to be executed while a chunk is computed."""
        return math.ceil(((self.turnarounds.seconds or 0.0) + self._tick_s) * self._rate - EPSILON)

    def tick(self, read_at: float) -> Due:
        """What is due in this tick, whose joints were read at `read_at`; it counts as executed."""
        self._seen.append((read_at, self.place))
        executed = -np.inf if self._begun_at is None else self.place - self._begun_at
        if self.options.mode is Mode.SYNC and executed >= self.horizon - EPSILON:
            return self._idle(Playing.WAIT)
        knot = self._timeline.issue(self.place)
        if knot is None:
            return self._idle(Playing.WAIT if self._begun_at is None else Playing.STARVED)
        self._ticks += 1
        return Due(Playing.PLAY, knot)

    def wanted(self, now: float) -> Ask | None:
        """The request to make now, where one is due; it then counts as made."""
        if self._asked is not None or not self._is_due():
            return None
        self._ids += 1
        self._asked = self._ids, now
        if self.options.mode is not Mode.RTC or not (left := self.ahead()).size:
            return Ask(self._ids, self.here)
        return Ask(self._ids, self.here, left, min(self.delay, len(left)))

    def failed(self) -> None:
        """The request will not be answered: the next one may be made."""
        self._asked = None

    def arrived(self, chunk: PlannedChunk) -> bool:
        """Take a chunk in; whether it is used. One that was not asked for, or not in this episode, is left out."""
        if self._asked is None or chunk.id != self._asked[0]:
            return False
        self.turnarounds.add(chunk.arrived_at - self._asked[1])
        self._asked = None
        self.counts.chunks += 1
        begin, now = self._place_at(chunk.state_at), self.place
        if self._appends:
            begin = max(self._timeline.end + 1.0, now)
            self._timeline.append(_knots(chunk, begin)[: self.horizon])
            self._begun_at = begin
            return True
        knots = _knots(chunk, begin)
        passed = sum(knot.place < now - EPSILON for knot in knots)
        self.counts.trimmed += passed
        if passed == len(knots):
            self.counts.late += 1
            return False
        if self.options.merge is Merge.BLENDED:
            knots = self._blended(knots, now)
        self._timeline.replace(knots, now)
        self._begun_at = now
        return True

    def _is_due(self) -> bool:
        if self._begun_at is None:
            return True
        executed = self.here - self._begun_at
        if self.options.mode is Mode.SYNC:
            return executed >= self.horizon - EPSILON or not self._lasts(0.0)
        refill = self.refill * self._rate
        if self._appends or not self._lasts(refill):
            return not self._lasts(refill)
        return self.horizon - executed < refill and executed >= self.options.follow_through * self.horizon

    @property
    def _appends(self) -> bool:
        return self.options.merge is Merge.APPEND

    @property
    def here(self) -> float:
        """The place of the newest reading: where what is asked for now will begin."""
        return self._seen[-1][1] if self._seen else self.place

    def _lasts(self, steps: float) -> bool:
        """Whether so many steps of playback are left."""
        return self._timeline.end - self.here >= steps - EPSILON

    def _idle(self, playing: Playing) -> Due:
        if playing is Playing.WAIT:
            self.counts.waited += 1
        else:
            self.counts.starved += 1
        return Due(playing)

    def _place_at(self, read_at: float) -> float:
        """The place that was due when the joints were read: that of the last tick which had read them by then."""
        found = next((place for at, place in reversed(self._seen) if at <= read_at), None)
        if found is not None:
            return found
        return self._seen[0][1] if self._seen else self.place

    def _blended(self, knots: list[Knot], now: float) -> list[Knot]:
        """Knots in which what is left of the last chunk fades out; what has passed is the last chunk's alone."""
        span = self.options.blend * self._rate
        found = []
        for knot in knots:
            share = min(1.0, max(0.0, (knot.place - now + 1.0) / (span + 1.0)))
            old = self._timeline.at(knot.place) if share < 1.0 else None
            if old is None:
                found.append(knot)
                continue
            action = (1 - share) * old.action + share * knot.action
            action[self._grippers] = knot.action[self._grippers]
            self.counts.blended += knot.place >= now - EPSILON
            oldest = min(old.captured_at, knot.captured_at)
            found.append(Knot(knot.place, action, knot.chunk, knot.step, oldest))
        return found


def _knots(chunk: PlannedChunk, begin: float) -> list[Knot]:
    """The actions of a chunk that begins at the place `begin`."""
    return [
        Knot(begin + step, np.asarray(action, dtype=np.float64), chunk.id, step, chunk.captured_at)
        for step, action in enumerate(chunk.actions)
    ]
