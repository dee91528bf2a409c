"""A session on an emulated bus in the test's time: a policy in this process, and a person who presses keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.errors import SmolpilotError
from smolpilot.contracts import Joints, RunLog
from smolpilot.contracts.run_folder import LOG, EpisodeEnd, RunFacts, now_text, read_episodes
from smolpilot.contracts.run_log import read_run_log
from smolpilot.runtime.robot_run.channel import Channel
from smolpilot.runtime.robot_run.preflight import Orders
from smolpilot.runtime.robot_run.run_record import RunRecord, limit_facts
from smolpilot.runtime.robot_run.session import Session, SessionOptions
from smolpilot.runtime.robot_run.snapshot import Key, Snapshot
from smolpilot.runtime.scheduling import Ask, Mode, PlannedChunk, Schedule, ScheduleOptions, Turnarounds
from smolpilot.runtime.signals import StopSignals

from ..safety.helpers_rig import JOINTS, RATE, Rig

CHUNK = 20
type Plan = Callable[[Joints, float], Joints]
"""(state [S], seconds) -> chunk [H, A]."""


def stay(state: Joints, now: float) -> Joints:
    """A policy that goes nowhere."""
    return np.tile(state, (CHUNK, 1))


def swing(state: Joints, now: float) -> Joints:
    """A policy that swings the first joint, slowly, around 0."""
    chunk = np.tile(state, (CHUNK, 1))
    chunk[:, 0] = 10.0 * np.sin(0.8 * (now - 1000.0 + np.arange(CHUNK) / RATE))
    return chunk


@dataclass
class Link:
    """The policy process as the session sees it, in the rig's time."""

    rig: Rig
    plan: Plan = stay
    takes: float = 0.05
    dead: str | None = None
    hung: bool = False
    failing: int = 0
    asked: list[tuple[float, Ask, str | None, bool]] = field(default_factory=list)
    published: list[tuple[float, float, Joints]] = field(default_factory=list)
    _due: list[tuple[float, PlannedChunk | tuple[int, SmolpilotError]]] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.dead is None

    def why_ended(self) -> str:
        return self.dead or ""

    def publish(self, read_at: float, place: float, state: Joints) -> None:
        self.published.append((read_at, place, state))

    def ask(self, ask: Ask, instruction: str | None, *, seed: int, reset: bool = False) -> None:
        now = self.rig.now
        self.asked.append((now, ask, instruction, reset))
        if self.hung:
            return
        read_at, _, state = self.published[-1]
        answer: PlannedChunk | tuple[int, SmolpilotError]
        if self.failing:
            self.failing -= 1
            answer = ask.id, SmolpilotError("The chunk is not finite.")
        else:
            answer = PlannedChunk(ask.id, self.plan(state, now), read_at, read_at, now + self.takes)
        self._due.append((now + self.takes, answer))

    def poll(self) -> list[PlannedChunk | tuple[int, SmolpilotError]]:
        here = [one for at, one in self._due if at <= self.rig.now + 1e-9]
        self._due = [(at, one) for at, one in self._due if at > self.rig.now + 1e-9]
        return here


class Person(Channel):
    """Presses each key when its time has come: `acts` are (when, key), in order; every is pressed all the time."""

    def __init__(self, acts: list[tuple[Callable[[Session], bool], Key]], every: Callable[[Session], bool]) -> None:
        super().__init__()
        self.acts, self.every = list(acts), every
        self.session: Session | None = None
        self.seen: list[Snapshot] = []

    def said(self) -> list[Key]:
        assert self.session is not None
        found = [Key.HELD] if self.every(self.session) else []
        if self.acts and self.acts[0][0](self.session):
            found.append(self.acts.pop(0)[1])
        return found

    def show(self, snapshot: Snapshot) -> bool:
        self.seen.append(snapshot)
        return True


@dataclass
class Played:
    """What a session left."""

    session: Session
    person: Person
    link: Link
    log: RunLog
    episodes: list[EpisodeEnd]
    recorded: list[bool]


@contextmanager
def session_of(
    rig: Rig,
    folder: Path,
    *,
    link: Link | None = None,
    keys: list[tuple[Callable[[Session], bool], Key]] | None = None,
    held: Callable[[Session], bool] = lambda session: False,
    mode: str = "sync",
    start_problem: Callable[[Joints], str | None] = lambda state: None,
    **options: Any,
) -> Iterator[Callable[[], Played]]:
    """A session that is ready; what is yielded runs it, for a minute of the rig's time at most."""
    link = link or Link(rig)
    robot = rig.robot
    values: dict[str, Any] = {
        "instruction": "swing",
        "seconds": 1.0,
        "unattended": keys is None,
        "dry_run": False,
        "seed": 7,
        "sees": tuple(robot.cameras),
    } | options
    made = SessionOptions(**values)
    facts = RunFacts(
        policy="test", kind="test", digest="abc", engine=None, setup="arm", profile="so101", instruction="swing",
        rate=RATE, policy_rate=RATE, chunk_size=CHUNK, n_action_steps=10, speed=1.0, dry_run=made.dry_run, schedule={},
        limits=limit_facts(robot.limits), cameras=tuple(robot.cameras), started_at=now_text(), host="here", process=1,
        smolpilot="0",
    )  # fmt: skip
    record = RunRecord(folder, facts, units={one.joint: one.unit for one in robot.limits.joints}, header={})
    recorded: list[bool] = []
    person = Person(keys or [], held)
    end = rig.now + 60.0

    def sleep(seconds: float) -> None:
        assert rig.now < end, f"still {person.session and person.session.phase} after a minute"
        rig.sleep(seconds)

    session = Session(
        robot, link, Schedule(
            ScheduleOptions(mode=Mode(mode)), chunk_size=CHUNK, n_action_steps=10, policy_rate=RATE,
            control_rate=RATE, turnarounds=Turnarounds(cold=0),
        ), Orders(None, None), made, record,
        channel=person, recording=recorded.append, start_problem=start_problem,
        clock=rig.clock, sleep=sleep,
    )  # fmt: skip
    person.session = session

    def run() -> Played:
        try:
            with StopSignals() as signals:
                session.run(signals)
            session.farewell("Ended.")
        finally:
            record.close(session.ended)
        return Played(session, person, link, read_run_log(folder / LOG), read_episodes(folder), recorded)

    yield run


__all__ = ["CHUNK", "JOINTS", "Link", "Person", "Played", "session_of", "stay", "swing"]
