"""Measures of a robot run: smoothness, ages, cadence, clamps, stops and success, from its log, facts and episodes.

Positions are in the joints' units, times in seconds. A period is that of the control loop; `number` of a tick says
which period it was, so velocities and jerks go by the numbers, not by when exactly a command was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.contracts.robot import Flag, StopCategory
from smolpilot.contracts.run_folder import EpisodeEnd, RunFacts
from smolpilot.contracts.run_log import RunLog
from smolpilot.evaluation.rates.intervals import rate_row

CLAMPS = (Flag.POSITION.value, Flag.VELOCITY.value, Flag.ACCELERATION.value)
"""The flags that say that a joint was clamped."""

type Rows = npt.NDArray[np.float64]
type Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Spread:
    """Quantiles of `count` durations, in seconds."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Spread | None:
        """Of the finite values; None without any."""
        held = np.asarray(values, dtype=np.float64)
        held = held[np.isfinite(held)]
        if not len(held):
            return None
        p50, p95, p99 = np.quantile(held, [0.5, 0.95, 0.99]).tolist()
        return cls(len(held), p50, p95, p99, float(held.max()))


@dataclass(frozen=True)
class JointMeasures:
    """One joint; None where there is nothing to measure it from.

    step_seam, step_inside: largest step from one command to the next, onto a new chunk and within one. jump_seam,
    jump_inside: largest change of velocity between two steps that follow each other: for a seam the step onto the new
    chunk and the one before or after it. jerks: RMS, in the unit per s³. clamped: flag -> ticks.
    """

    name: str
    unit: str
    step_seam: float | None
    step_inside: float | None
    jump_seam: float | None
    jump_inside: float | None
    jerk_commanded: float | None
    jerk_measured: float | None
    jerk_demonstrated: float | None
    clamped: dict[str, int]

    @property
    def jerk_ratio(self) -> float | None:
        """RMS jerk of the commands over that of the demonstrations; None where one is not known."""
        if self.jerk_commanded is None or not self.jerk_demonstrated:
            return None
        return self.jerk_commanded / self.jerk_demonstrated


@dataclass(frozen=True, eq=False)
class EpisodeMeasures:
    """One episode. end: how it ended, None where the run was cut off before. rows: of its ticks in the log.

    starved: as the schedule counted, for an episode that was cut off the ticks with the flag. clamped: ticks in which
    any joint was. missed: periods without a tick between its first and its last. jerk_commanded, jerk_measured: RMS
    for each joint, NaN where there is none [A].
    """

    number: int
    end: EpisodeEnd | None
    rows: npt.NDArray[np.int64]
    starved: int
    clamped: int
    missed: int
    jerk_commanded: Rows
    jerk_measured: Rows


@dataclass(frozen=True)
class RunStop:
    """A stop that came into force. seconds: since the first tick; None, and so the category, where no tick has it."""

    seconds: float | None
    episode: int
    category: StopCategory | None
    reason: str


@dataclass(frozen=True, eq=False)
class ClampLine:
    """Clamped ticks over time.

    seconds: the whole seconds since the first tick that have ticks [S]; ticks: how many [S]. by_flag: in how many of
    them a joint was clamped, flags in the order of CLAMPS [3, S, A]; clamped: the same by any flag [S, A].
    """

    seconds: npt.NDArray[np.int64]
    ticks: npt.NDArray[np.int64]
    by_flag: npt.NDArray[np.int64]
    clamped: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RunMeasures:
    """What a run comes to.

    cut_off: the run goes on or did not end by itself; torn: the last line of the log was cut off. seconds: from the
    first tick to the last. every: jerks are of ticks so many apart, `jerk_rate` per second. observation_age: from the
    oldest part of an observation to the command; chunk_age: from what the chunk was planned from to the command, in
    ticks of a policy. late: how long after its period began a command was sent, against the earliest of its episode.
    missed: periods without a tick, in the whole log. spacing: between the observations that chunks which follow each
    other in an episode were planned from. successes, marked: by the operator; success: rate and interval of these,
    None without marks. chunks ... waited: sums of the episodes that ended.
    """

    dry_run: bool
    cut_off: bool
    torn: bool
    ticks: int
    seconds: float
    rate: float
    every: int
    joints: tuple[JointMeasures, ...]
    episodes: tuple[EpisodeMeasures, ...]
    clamp_line: ClampLine
    stops: tuple[RunStop, ...]
    observation_age: Spread | None
    chunk_age: Spread | None
    late: Spread | None
    turnarounds: Spread | None
    spacing: Spread | None
    successes: int
    marked: int
    success: dict[str, Any] | None
    missed: int
    starved: int
    chunks: int
    late_chunks: int
    trimmed: int
    blended: int
    waited: int

    @property
    def jerk_rate(self) -> float:
        """At which the jerks were computed, per second."""
        return self.rate / self.every

    @property
    def unmarked(self) -> int:
        """Episodes without a mark of the operator; they are no failures."""
        return len(self.episodes) - self.marked


def measure(log: RunLog, facts: RunFacts, ends: Sequence[EpisodeEnd]) -> RunMeasures:
    """All measures of a run; the log may be empty or torn, and an episode without an end is one that was cut off."""
    table = RunTable(log)
    every = max(1, round(log.header.rate / facts.policy_rate))
    clamps = table.clamps
    episodes = _episodes(table, ends, every)
    marks = [one.end.mark for one in episodes if one.end is not None and one.end.mark is not None]
    successes = marks.count("success")
    return RunMeasures(
        dry_run=facts.dry_run or log.header.dry_run,
        cut_off=facts.ended is None,
        torn=log.torn,
        ticks=len(log.ticks),
        seconds=float(table.sent_at[-1] - table.sent_at[0]) if len(log.ticks) else 0.0,
        rate=log.header.rate,
        every=every,
        joints=_joints(table, facts, every),
        episodes=episodes,
        clamp_line=_clamp_line(table, clamps),
        stops=_stops(log, ends),
        observation_age=Spread.of(table.observation_age),
        chunk_age=Spread.of(table.chunk_age),
        late=Spread.of(table.late),
        turnarounds=Spread.of([seconds for end in ends for seconds in end.turnarounds]),
        spacing=Spread.of(table.spacing),
        successes=successes,
        marked=len(marks),
        success=rate_row(successes, len(marks)) if marks else None,
        missed=_missed(table.numbers),
        starved=sum(one.starved for one in episodes),
        chunks=sum(end.chunks for end in ends),
        late_chunks=sum(end.late for end in ends),
        trimmed=sum(end.trimmed for end in ends),
        blended=sum(end.blended for end in ends),
        waited=sum(end.waited for end in ends),
    )


class RunTable:
    """The log as arrays, one row for each tick [T]."""

    def __init__(self, log: RunLog) -> None:
        ticks = log.ticks
        self.log, self.period = log, 1.0 / log.header.rate
        self.joints = len(log.header.joints)
        self.numbers, self.sent_at = log.numbers, log.sent_at
        self.commanded, self.measured = log.commanded.astype(np.float64), log.measured.astype(np.float64)
        self.episode = np.array([tick.episode for tick in ticks], dtype=np.int64)
        self.is_policy = np.array([tick.source == "policy" for tick in ticks], dtype=np.bool_)
        self.has_chunk = np.array([tick.chunk is not None for tick in ticks], dtype=np.bool_)
        self.chunk = np.array([0 if tick.chunk is None else tick.chunk.id for tick in ticks], dtype=np.int64)

    @cached_property
    def seams(self) -> npt.NDArray[np.int64]:
        """Rows of the ticks that begin another chunk than the one before, in the same episode."""
        return np.array(self.log.seams, dtype=np.int64)

    @cached_property
    def observation_age(self) -> Rows:
        """NaN where nothing was read. [T]"""
        return np.array([tick.observation_age for tick in self.log.ticks], dtype=np.float64)

    @cached_property
    def chunk_age(self) -> Rows:
        """NaN where a policy did not command. [T]"""
        ages = np.array([tick.chunk_age for tick in self.log.ticks], dtype=np.float64)
        return np.where(self.is_policy, ages, np.nan)

    @cached_property
    def clamps(self) -> Mask:
        """Whether a joint was clamped, flags in the order of CLAMPS. [3, T, A]"""
        found = np.zeros((len(CLAMPS), len(self.numbers), self.joints), dtype=np.bool_)
        column = {name: place for place, name in enumerate(self.log.header.joints)}
        for row, tick in enumerate(self.log.ticks):
            for flag, names in tick.sent.flags.items():
                if flag in CLAMPS:  # without names it is of the whole command
                    places = [column[name] for name in names if name in column] if names else list(column.values())
                    found[CLAMPS.index(flag), row, places] = True
        return found

    @cached_property
    def late(self) -> Rows:
        """Seconds by which each command was later in its period than the earliest of its episode. [T]

        From the policy's first command in it to its last; NaN elsewhere: while the arm waits for a person, periods
        pass that no tick counts.
        """
        place = self.sent_at - self.numbers * self.period
        found = np.full(len(place), np.nan)
        for number in np.unique(self.episode):
            played = np.flatnonzero((self.episode == number) & self.is_policy)
            if len(played):
                rows = slice(played[0], played[-1] + 1)
                found[rows] = place[rows] - place[rows].min()
        return found

    @cached_property
    def spacing(self) -> Rows:
        """Seconds between the observations of chunks that follow each other in an episode."""
        # A blended action tells the older observation: that of a chunk is the newest of its actions.
        captured: dict[tuple[int, int], float] = {}
        for tick in self.log.ticks:
            if tick.chunk is not None:
                key = tick.episode, tick.chunk.id
                captured[key] = max(captured.get(key, -np.inf), tick.chunk.captured_at)
        keys, times = list(captured), np.array(list(captured.values()), dtype=np.float64)
        follows = [one[0] == other[0] for one, other in pairwise(keys)]
        result: Rows = np.diff(times)[np.array(follows, dtype=np.bool_)]
        return result

    def in_one_chunk(self, rows: int) -> Mask:
        """Whether a tick and the `rows` - 1 after it act on the same chunk. [T - rows + 1]"""
        count = max(0, len(self.numbers) - rows + 1)
        found = self.has_chunk[:count].copy()
        for later in range(1, rows):
            other = slice(later, later + count)
            found &= self.has_chunk[other] & (self.chunk[other] == self.chunk[:count])
            found &= self.episode[other] == self.episode[:count]
        return found

    def rms_jerk(self, values: Rows, every: int, rows: Mask | None = None) -> Rows:
        """Of each joint, NaN where there is none [A]; values [T, A]; rows: those that may
        take part.

        Third differences of ticks that are `every` apart, within stretches of the policy's commands in which no period
        is missing; each tick begins one, so it does not matter where a stretch begins.
        """
        span, rate = 3 * every, 1.0 / (self.period * every)
        if len(values) <= span:
            return np.full(self.joints, np.nan)
        goes_on = self.is_policy[1:] & self.is_policy[:-1] & (np.diff(self.numbers) == 1)
        goes_on &= self.episode[1:] == self.episode[:-1]
        stretch = np.concatenate([[0], np.cumsum(~goes_on)])
        valid = self.is_policy[:-span] & (stretch[span:] == stretch[:-span])
        if rows is not None:
            valid &= rows[:-span] & rows[span:]
        third = values[span:] - 3 * values[2 * every : -every] + 3 * values[every : -2 * every] - values[:-span]
        squares = (third[valid] * rate**3) ** 2
        counts = np.isfinite(squares).sum(axis=0)
        result: Rows = np.sqrt(np.where(counts > 0, np.nansum(squares, axis=0) / np.maximum(counts, 1), np.nan))
        return result


def _joints(table: RunTable, facts: RunFacts, every: int) -> tuple[JointMeasures, ...]:
    (step_seam, step_inside), (jump_seam, jump_inside) = _steps(table), _jumps(table)
    commanded, measured = (table.rms_jerk(values, every) for values in (table.commanded, table.measured))
    shown = facts.demonstrated_jerk or {}
    counts = table.clamps.sum(axis=1)
    header = table.log.header
    return tuple(
        JointMeasures(
            name,
            unit,
            step_seam=_known(step_seam[a]),
            step_inside=_known(step_inside[a]),
            jump_seam=_known(jump_seam[a]),
            jump_inside=_known(jump_inside[a]),
            jerk_commanded=_known(commanded[a]),
            jerk_measured=_known(measured[a]),
            jerk_demonstrated=shown.get(name),
            clamped={flag: int(counts[place, a]) for place, flag in enumerate(CLAMPS)},
        )
        for a, (name, unit) in enumerate(zip(header.joints, header.units, strict=True))
    )


def _steps(table: RunTable) -> tuple[Rows, Rows]:
    """Largest steps onto a new chunk and within one, NaN where there is none. [A]"""
    steps = np.abs(np.diff(table.commanded, axis=0))
    return _largest(steps[table.seams - 1], table.joints), _largest(steps[table.in_one_chunk(2)], table.joints)


def _jumps(table: RunTable) -> tuple[Rows, Rows]:
    """Largest changes of velocity at seams and within chunks, per s, NaN where there is none. [A]"""
    if len(table.numbers) < 3:
        return np.full(table.joints, np.nan), np.full(table.joints, np.nan)
    velocity = np.diff(table.commanded, axis=0) / (np.diff(table.numbers) * table.period)[:, None]
    jumps = np.abs(np.diff(velocity, axis=0))  # [T - 2]: the one of ticks j, j + 1 and j + 2
    at_seam = np.isin(np.arange(len(jumps)), np.concatenate([table.seams - 2, table.seams - 1]))
    at_seam &= table.episode[2:] == table.episode[:-2]
    return _largest(jumps[at_seam], table.joints), _largest(jumps[table.in_one_chunk(3)], table.joints)


def _episodes(table: RunTable, ends: Sequence[EpisodeEnd], every: int) -> tuple[EpisodeMeasures, ...]:
    ended = {end.episode: end for end in ends}
    any_clamp = np.asarray(table.clamps.any(axis=(0, 2)))
    is_starved = np.array([Flag.STARVED in tick.sent.flags for tick in table.log.ticks], dtype=np.bool_)
    found = []
    for number in sorted({*ended, *np.unique(table.episode).tolist()}):
        end, own = ended.get(number), table.episode == number
        if end is not None and end.first_tick is not None and end.last_tick is not None:
            own = own & (table.numbers >= end.first_tick) & (table.numbers <= end.last_tick)
        rows = np.flatnonzero(own)
        found.append(
            EpisodeMeasures(
                number, end, rows,
                starved=int(is_starved[rows].sum()) if end is None else end.starved,
                clamped=int(any_clamp[rows].sum()),
                missed=_missed(table.numbers[rows]),
                jerk_commanded=table.rms_jerk(table.commanded, every, own),
                jerk_measured=table.rms_jerk(table.measured, every, own),
            )
        )  # fmt: skip
    return tuple(found)


def _clamp_line(table: RunTable, clamps: Mask) -> ClampLine:
    since = table.sent_at - table.sent_at[0] if len(table.sent_at) else table.sent_at
    seconds, place, ticks = np.unique(np.floor(since).astype(np.int64), return_inverse=True, return_counts=True)

    def per_second(clamped: Mask) -> npt.NDArray[np.int64]:
        counts = np.zeros((len(seconds), table.joints), dtype=np.int64)
        np.add.at(counts, place, clamped)
        return counts

    by_flag = np.stack([per_second(one) for one in clamps])
    return ClampLine(seconds, ticks, by_flag, per_second(np.asarray(clamps.any(axis=0))))


def _stops(log: RunLog, ends: Sequence[EpisodeEnd]) -> tuple[RunStop, ...]:
    found: list[RunStop] = []
    before = None
    for tick in log.ticks:
        stop = tick.sent.stop
        if stop is not None and stop != before:
            seconds = tick.sent.sent_at - log.ticks[0].sent.sent_at
            found.append(RunStop(seconds, tick.episode, stop.category, stop.reason))
        before = stop
    said = {(one.episode, one.reason) for one in found}
    found += [
        RunStop(None, end.episode, None, end.stop)
        for end in ends
        if end.stop is not None and (end.episode, end.stop) not in said
    ]
    return tuple(sorted(found, key=lambda one: one.episode))


def _missed(numbers: npt.NDArray[np.int64]) -> int:
    """Periods without a tick between the first and the last: as many as `RunLog.skipped` lists."""
    return int(numbers[-1] - numbers[0]) + 1 - len(numbers) if len(numbers) else 0


def _largest(values: Rows, columns: int) -> Rows:
    return values.max(axis=0) if len(values) else np.full(columns, np.nan)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
