"""Session: a policy's episodes on an arm, tick by tick, from the first Enter to the end, in the control process."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from smolpilot.common.errors import DeviceError, SmolpilotError
from smolpilot.common.keys import STATE, image_key
from smolpilot.common.text import plain
from smolpilot.contracts import ChunkStep, JointReadings, Joints, SentAction, StopCategory
from smolpilot.contracts.run_folder import EpisodeEnd
from smolpilot.runtime.control_loop import run_loop
from smolpilot.runtime.governed_robot import GovernedRobot, captured_at
from smolpilot.runtime.governor import Request
from smolpilot.runtime.moves import SPEED, Move
from smolpilot.runtime.scheduling import Knot, PlannedChunk, Schedule
from smolpilot.runtime.scheduling.schedule import Counts, Playing
from smolpilot.runtime.signals import StopSignals

from .channel import Channel
from .pace import Pace
from .policy_link import ChunkSource
from .preflight import Orders
from .run_record import RunRecord
from .snapshot import Key, Phase, Snapshot

HOLD_S = 0.7
"""Without the key of --hold-to-run for so long, the arm stops; keys of a terminal repeat after about half a second."""
_SHOWN_S = 0.1
_LAST_TRIES, _LAST_NAP_S = 50, 0.01
_MOST_FAILED = 3  # requests in a row
_PATIENCE, _LEAST_PATIENCE_S = 10.0, 5.0  # turnarounds that an answer may take before the policy counts as hung
_EASING = 0.25  # share of the limits at which a first action is approached that is too far away
_LATE = 0.8  # of the time without an action after which the governor stops: this stop knows why


@dataclass(frozen=True)
class SessionOptions:
    """What a run is to do. seconds: of an episode, None: until a person ends it. unattended: nobody presses keys.

    start: joint -> where an episode begins, None: where the arm is; park: joint -> where `q` takes it; both within the
    limits. hold_key: the one that has to be held. sees: the cameras that the policy reads. seed: of the first chunk.
    """

    instruction: str | None
    episodes: int = 1
    seconds: float | None = None
    unattended: bool = False
    dry_run: bool = True
    start: Mapping[str, float] | None = None
    park: Mapping[str, float] = field(default_factory=dict)
    hold_key: str | None = None
    sees: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class _Episode:
    """One that runs, or the last one that ended."""

    number: int
    begun_at: float
    counts: Counts
    first: int | None = None
    last: int | None = None
    turnarounds: list[float] = field(default_factory=list)
    clamped: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    chunk: int | None = None  # that was played last
    starved_since: float | None = None
    eased: bool = False


class _Nobody:
    """A source that asks for nothing: under a stop the arm needs none."""

    def ask(self, now: float, reading: JointReadings) -> Request | None:
        return None

    def done(self, now: float, reading: JointReadings) -> bool:
        return True


class Session:
    """`run` returns when all is over and the arm stands; `ended` says why, `stopped` whether by a fault."""

    def __init__(
        self,
        robot: GovernedRobot,
        link: ChunkSource,
        schedule: Schedule,
        orders: Orders,
        options: SessionOptions,
        record: RunRecord,
        *,
        channel: Channel | None = None,
        recording: Callable[[bool], None] = lambda on: None,
        start_problem: Callable[[Joints], str | None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """The robot is engaged, or rehearses. recording: told when images are to be kept. start_problem: state [S] ->
        why no episode may begin there."""
        self._robot, self._link, self._schedule, self._orders = robot, link, schedule, orders
        self._options, self._record, self._channel = options, record, channel or Channel()
        self._recording, self._start_problem = recording, start_problem
        self.notice: str | None = None
        self._clock, self._sleep = clock, sleep
        self._pace = Pace(robot.spec.rate, clock=clock, sleep=sleep)
        self.phase = Phase.READY
        self.ended = ""
        self.stopped = False
        self._move: Move | None = None
        self._episode: _Episode | None = None
        self._done = 0
        self._ends: dict[int, EpisodeEnd] = {}
        self._held_at = float("-inf")
        self._let_go = True
        self._shown_at = float("-inf")
        self._last_sent: SentAction | None = None
        self._knot: Knot | None = None

    # the loop

    def run(self, signals: StopSignals) -> None:
        """Until the episodes are over and nobody wants more, or a stop ends it. What is raised on the way stops the
        arm, too, and is raised again when it stands."""
        try:
            while self.phase is not Phase.ENDED:
                self._tick(signals)
        except Exception as error:
            self._fail(error)
            raise

    def farewell(self, text: str) -> None:
        """Show the last moment with a word on what is left of it; waits a little for who looks."""
        self.notice = text
        with contextlib.suppress(DeviceError):
            last = self.snapshot(self._clock(), self._robot.read())
            for _ in range(_LAST_TRIES):
                if self._channel.show(last):
                    break
                time.sleep(_LAST_NAP_S)

    def _tick(self, signals: StopSignals) -> None:
        passed = self._pace.wait()
        reading = self._robot.read()
        now = self._clock()
        self._heed(signals, now)
        if not self._link.alive and self.phase is not Phase.PARKING:
            self._halt(self._link.why_ended())
        request, source, chunk = self._wanted(now, reading)
        sent = self._last_sent = self._robot.ask(request)
        if source is not None:
            self._note(passed, sent, source, chunk, reading)
        self._follow(now, reading)
        if now - self._shown_at >= _SHOWN_S and self.phase is not Phase.ENDED:  # of the end the farewell tells
            self._shown_at = now
            self._channel.show(self.snapshot(now, reading))

    def _fail(self, error: Exception) -> None:
        """A fault of the run itself, as no policy and no device may cause: the arm comes to rest within its limits."""
        reason = f"The run failed: {plain(getattr(error, 'found', error), 200) or type(error).__name__}"
        self._halt(reason)
        with contextlib.suppress(Exception):
            run_loop(self._robot, _Nobody(), clock=self._clock, sleep=self._sleep)
        with contextlib.suppress(Exception):
            if self._episode is not None:
                self._end_episode("stop", reason)
        self.stopped = True
        self._end(reason)

    def _wanted(self, now: float, reading: JointReadings) -> tuple[Request | None, str | None, ChunkStep | None]:
        """What to ask of the arm, whose wish it is (None: nothing that the log has to keep), and of which chunk."""
        if self.phase in (Phase.APPROACH, Phase.PARKING) and self._move is not None:
            return self._move.ask(now, reading), "park" if self.phase is Phase.PARKING else "ramp", None
        if self.phase is Phase.RUNNING and self._episode is not None:
            if self._move is not None:
                return self._ease(now, reading, self._move), "ramp", None
            return self._play(now, reading, self._episode)
        moving = self._robot.governor.stop is not None and not self._robot.governor.at_rest
        return self._hold(now), "hold" if moving else None, None

    def _hold(self, now: float) -> Request | None:
        """Where the last command was: the arm slows down to there, and stays."""
        held = self._robot.governor.last_command
        return None if held is None else Request(held, asked_at=now)

    def _play(
        self, now: float, reading: JointReadings, episode: _Episode
    ) -> tuple[Request | None, str, ChunkStep | None]:
        self._take_answers(episode)
        due = self._schedule.tick(reading.read_at)
        state = self._orders.states(self._robot.state(reading))
        self._link.publish(reading.read_at, self._schedule.here, state)
        if self._robot.governor.stop is None and (ask := self._schedule.wanted(now)) is not None:
            seed = self._options.seed + ask.id
            self._link.ask(ask, self._options.instruction, seed=seed, reset=episode.chunk is None)
        self._watch_policy(now, due.playing, episode)
        if due.playing is Playing.PLAY and due.knot is not None:
            knot = self._knot = due.knot
            if episode.chunk is None and self._eases(knot, episode):
                return self._hold(now), "ramp", None
            if episode.chunk != knot.chunk:
                episode.chunk = knot.chunk
                self._imagine(knot)
            step = ChunkStep(knot.chunk, knot.step, knot.captured_at)
            asked = Request(knot.action, asked_at=now, observed_at=knot.captured_at, sees=self._options.sees)
            return asked, "policy", step
        return (self._hold(now) if due.playing is Playing.WAIT else None), "hold", None

    def _eases(self, knot: Knot, episode: _Episode) -> bool:
        """Whether the first action of an episode is so far away that it is approached slowly, once; begins with it.

        Far is farther than the arm may lag behind its commands: policies lead by as much as their demonstrations did.
        """
        held, limits = self._robot.governor.last_command, self._robot.limits
        if episode.eased or held is None or self._options.dry_run:
            return False
        episode.eased = True
        target = np.clip(knot.action, limits.low, limits.high)
        if (np.abs(target - held) <= limits.tracking).all():
            return False
        targets = dict(zip(limits.names, target.tolist(), strict=True))
        self._move = Move(limits, held, targets, self._robot.spec.rate, _EASING)
        return True

    def _ease(self, now: float, reading: JointReadings, move: Move) -> Request:
        """On the way to the first action; from there it is planned anew."""
        if move.done(now, reading):
            self._move = None
            self._schedule.reset()
            if self._episode is not None:
                self._episode.begun_at = now
        return move.ask(now, reading)

    def _imagine(self, knot: Knot) -> None:
        """An arm that only rehearses has not followed the last chunk: it is taken to be where this one begins."""
        if self._options.dry_run:
            ahead = self._schedule.ahead()
            velocity = (ahead[1] - ahead[0]) * self._schedule.rate if len(ahead) > 1 else np.zeros(len(knot.action))
            self._robot.imagine(knot.action - velocity / self._robot.spec.rate, velocity)

    def _take_answers(self, episode: _Episode) -> None:
        for answer in self._link.poll():
            if isinstance(answer, PlannedChunk):
                asked_at = self._schedule.waiting_since
                actions = self._usable(answer.actions)
                if actions is None:
                    self._refused(answer.id, "its chunk is not finite, or has another shape", episode)
                    continue
                chunk = PlannedChunk(answer.id, actions, answer.state_at, answer.captured_at, answer.arrived_at)
                self._schedule.arrived(chunk)
                if asked_at is not None and self._schedule.waiting_since is None:
                    episode.turnarounds.append(answer.arrived_at - asked_at)
                    episode.failed = 0
                continue
            self._refused(answer[0], _sentence(answer[1]), episode)

    def _usable(self, chunk: Joints) -> Joints | None:
        """A chunk in the robot's order and units; None for one that is none. The policy's process refuses those itself:
        this is for whoever else answers."""
        try:
            actions = self._orders.actions(chunk)
        except (IndexError, ValueError):
            return None
        fits = actions.ndim == 2 and actions.shape[1] == len(self._robot.limits.names)
        return actions if fits and bool(np.isfinite(actions).all()) else None

    def _refused(self, request: int, why: str, episode: _Episode) -> None:
        """A request without a chunk; it is made again, and after some in a row the arm stops."""
        if request != self._schedule.asked:
            return  # of an episode before
        self._schedule.failed()
        episode.failed += 1
        if episode.failed >= _MOST_FAILED:
            self._halt(f"The policy failed {episode.failed} times in a row: {why}")

    def _watch_policy(self, now: float, playing: Playing, episode: _Episode) -> None:
        """A policy that is hung stops the arm, and the stop says so."""
        asked_at, usual = self._schedule.waiting_since, self._schedule.turnarounds.seconds or 0.0
        waited = 0.0 if asked_at is None else now - asked_at
        if waited > max(_LEAST_PATIENCE_S, _PATIENCE * usual):
            self._halt(f"The policy has not answered for {waited:.1f} s; a chunk took {usual:.2g} s before.")
        if playing is not Playing.STARVED:
            episode.starved_since = None
            return
        episode.starved_since = now if episode.starved_since is None else episode.starved_since
        if now - episode.starved_since > _LATE * self._robot.governor.options.max_starved:
            self._halt(
                f"The plan ran out: the next chunk was asked for {waited:.2g} s ago, and took {usual:.2g} s before."
            )

    def _halt(self, reason: str) -> None:
        self._robot.halt(StopCategory.HOLD, reason)

    # what follows a tick

    def _note(
        self, passed: int, sent: SentAction, source: str, chunk: ChunkStep | None, reading: JointReadings
    ) -> None:
        stamps = {STATE: reading.read_at}
        for name, camera in self._robot.cameras.items():
            with contextlib.suppress(DeviceError):
                stamps[image_key(name)] = captured_at(camera)
        number = self._episode.number if self._episode is not None else self._done
        self._record.tick(passed, sent, stamps, source, min(number, self._options.episodes - 1), chunk)
        if self._episode is not None and self.phase is Phase.RUNNING:
            episode = self._episode
            episode.first = self._record.number if episode.first is None else episode.first
            episode.last = self._record.number
            for flag in ("position", "velocity", "acceleration"):
                episode.clamped.update(sent.flags.get(flag, ()))
        if self._record.failure is not None:
            self._halt(self._record.failure)

    def _follow(self, now: float, reading: JointReadings) -> None:
        """Go on to the next phase where this one is over."""
        if self.phase is Phase.ENDED:
            return
        stop = self._robot.governor.stop
        if stop is not None:
            self._stopped(stop.reason)
            return
        if self.phase in (Phase.APPROACH, Phase.PARKING) and self._move is not None and self._move.done(now, reading):
            missed, parked = self._move.missed(reading), self.phase is Phase.PARKING
            self._move = None
            if missed:
                self._halt(f"{', '.join(f"'{name}'" for name in missed)} did not arrive.")
            elif parked:
                self._end("parked")
            else:
                self.phase = Phase.AT_START
                self._let_go = False
        elif self.phase is Phase.RUNNING and self._episode is not None and self._move is None:
            limit = self._options.seconds
            if limit is not None and now - self._episode.begun_at >= limit:
                self._end_episode("time", None)
        elif self.phase in (Phase.READY, Phase.AT_START) and self._options.unattended and self._robot.governor.at_rest:
            self._enter(now, reading)

    def _stopped(self, reason: str) -> None:
        if self.phase is Phase.RUNNING:
            self._end_episode("stop", reason)
        if self.phase is not Phase.STOPPED:
            self.phase, self._move = Phase.STOPPED, None
            self._recording(False)
        over = self._options.unattended or self._robot.gone or not self._link.alive or self._record.failure is not None
        if (over or self.stopped) and (self._robot.governor.at_rest or self._robot.gone):
            self.stopped = True
            self._end(reason)

    # keys and signals

    def _heed(self, signals: StopSignals, now: float) -> None:
        if signals.reason is not None:
            self._told_to_end(signals.reason)
        for key in self._channel.said():
            if key is Key.GONE:
                self._told_to_end("The terminal was closed.")
            elif key is Key.HELD:
                self._held(now)
            else:
                self._pressed(key, now)
        due = self._options.hold_key is not None and self.phase in (Phase.APPROACH, Phase.RUNNING, Phase.PARKING)
        if now - self._held_at > HOLD_S:
            self._let_go = True
            if due and self._robot.governor.stop is None:
                self._halt(f"The key '{self._options.hold_key}' was let go.")

    def _told_to_end(self, reason: str) -> None:
        """Stop, and end when the arm stands."""
        if not self.stopped:
            self.stopped = True
            self._halt(reason)

    def _held(self, now: float) -> None:
        """The key of --hold-to-run also begins what is next, once it was let go after what was before."""
        fresh, self._held_at = self._let_go, now
        self._let_go = False
        if fresh and self.phase in (Phase.READY, Phase.AT_START):
            self._enter(now, self._robot.read())

    def _pressed(self, key: Key, now: float) -> None:
        if key is Key.STOP:
            self._halt("A person stopped it.")
        elif key is Key.QUIT:
            self._quit()
        elif key in (Key.SUCCESS, Key.FAILURE):
            self._mark("success" if key is Key.SUCCESS else "failure")
        elif key is Key.ENTER and self.phase is Phase.STOPPED:
            self.notice = None
            self._rearm()
        elif key is Key.ENTER and self._options.hold_key is None and self.phase in (Phase.READY, Phase.AT_START):
            self._enter(now, self._robot.read())

    def _rearm(self) -> None:
        if self.stopped:  # it is about to end
            return
        try:
            self._robot.rearm()
        except DeviceError as error:
            self.notice = f"Not re-armed: {_sentence(error)}"
            return
        self.phase = Phase.READY

    def _enter(self, now: float, reading: JointReadings) -> None:
        """From READY to the start pose, from there into the episode."""
        self.notice = None
        if self._done >= self._options.episodes:
            self._quit()
            return
        self._recording(True)  # early, so that the first image of the episode is among those that are kept
        if self.phase is Phase.READY and self._options.start is not None and not self._options.dry_run:
            self._go(self._options.start, Phase.APPROACH)
            return
        problem = self._start_problem(self._robot.state(reading))
        if problem is not None:
            self.phase = Phase.READY
            self._recording(False)
            self.notice = f"Not started: {problem}"
            if self._options.unattended:
                self.stopped = True
                self._end(problem)
            return
        self._schedule.reset()
        self._schedule.counts = Counts()
        self._episode = _Episode(self._done, now, self._schedule.counts)
        self._knot = None
        self.phase = Phase.RUNNING

    def _go(self, targets: Mapping[str, float], phase: Phase) -> None:
        held = self._robot.governor.last_command
        if held is not None:
            self._move = Move(self._robot.limits, held, targets, self._robot.spec.rate, SPEED)
            self.phase = phase

    def _quit(self) -> None:
        if self.phase is Phase.RUNNING:
            self._end_episode("quit", None)
        self._recording(False)
        if self._robot.governor.stop is not None or self._options.dry_run or not self._options.park:
            self._end("ended by a person" if not self._options.unattended else "all episodes were run")
            return
        self._held_at = self._clock()  # the key that was pressed for this is not the one that is held
        self._go(self._options.park, Phase.PARKING)

    def _mark(self, mark: Literal["success", "failure"]) -> None:
        """Of the episode that runs, which ends it; else of the last one."""
        if self.phase is Phase.RUNNING:
            self._end_episode("mark", None, mark)
        elif (last := self._done - 1) in self._ends:
            self._keep(self._ends[last].model_copy(update={"mark": mark}))

    # episodes

    def _end_episode(
        self,
        ended: Literal["mark", "time", "stop", "quit"],
        stop: str | None,
        mark: Literal["success", "failure"] | None = None,
    ) -> None:
        episode = self._episode
        assert episode is not None
        counts = episode.counts
        self._keep(
            EpisodeEnd(
                episode=episode.number,
                instruction=self._options.instruction or "",
                first_tick=episode.first,
                last_tick=episode.last,
                seconds=max(0.0, self._clock() - episode.begun_at),
                mark=mark,
                ended=ended,
                stop=stop,
                chunks=counts.chunks,
                late=counts.late,
                trimmed=counts.trimmed,
                blended=counts.blended,
                starved=counts.starved,
                waited=counts.waited,
                turnarounds=tuple(episode.turnarounds),
            )
        )
        self._recording(False)
        self._schedule.reset()
        self._episode, self._move, self._done = None, None, episode.number + 1
        self.phase = Phase.READY
        self._let_go = False

    def _keep(self, end: EpisodeEnd) -> None:
        self._ends[end.episode] = end
        self._record.episode(end)

    def _end(self, why: str) -> None:
        self.ended, self.phase = why, Phase.ENDED

    # what a person sees

    def snapshot(self, now: float, reading: JointReadings) -> Snapshot:
        """This moment."""
        robot, episode, limits = self._robot, self._episode, self._robot.limits
        sent, knot = self._last_sent, self._knot if self.phase is Phase.RUNNING else None
        ages: dict[str, float | None] = {}
        for name, camera in robot.cameras.items():
            try:
                ages[name] = now - captured_at(camera)
            except DeviceError:
                ages[name] = None
        waiting = self._schedule.waiting_since
        temperature = reading.temperature
        count = len(limits.names)
        return Snapshot(
            phase=self.phase,
            dry_run=self._options.dry_run,
            episode=min(self._done + 1, self._options.episodes),
            episodes=self._options.episodes,
            seconds=0.0 if episode is None else now - episode.begun_at,
            of_seconds=self._options.seconds,
            instruction=self._options.instruction or "",
            schedule=str(self._schedule.options.mode),
            rate=robot.spec.rate,
            achieved=self._pace.achieved,
            late_ms=self._pace.late_ms,
            missed=self._pace.missed,
            starved=0 if episode is None else episode.counts.starved,
            queued=self._schedule.queued,
            turnaround=episode.turnarounds[-1] if episode is not None and episode.turnarounds else None,
            waiting=None if waiting is None else now - waiting,
            observation_age=now - reading.read_at,
            chunk_age=None if knot is None else now - knot.captured_at,
            joints=list(limits.names),
            units=[one.unit for one in limits.joints],
            low=limits.low.tolist(),
            high=limits.high.tolist(),
            measured=reading.position.tolist(),
            commanded=[float("nan")] * count if sent is None else sent.commanded.tolist(),
            planned=self._schedule.ahead().tolist() if episode is not None else [],
            clamped={} if episode is None else dict(episode.clamped),
            temperatures=[None] * count if temperature is None else [_known(value) for value in temperature],
            camera_ages=ages,
            stop=None if robot.governor.stop is None else robot.governor.stop.reason,
            notice=self.notice,
            marks=[end.mark for end in self._ends.values()],
            hold_to_run=self._options.hold_key,
            policy_alive=self._link.alive,
        )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _sentence(error: SmolpilotError) -> str:
    """An error in one line."""
    return " ".join(filter(None, (error.found, f"Expected: {error.expected}." if error.expected else "")))
