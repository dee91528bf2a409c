"""Faults around a policy that drives an arm (`smolpilot run`): promises 1, 5, 8 and 9 of docs/safety.md."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError, SmolpilotError
from smolpilot.contracts import Camera, CameraSpec, CapturedImage, Joints, RunLogWriter
from smolpilot.contracts.run_folder import read_episodes
from smolpilot.runtime.robot_run.session import Session
from smolpilot.runtime.robot_run.snapshot import Key, Phase
from smolpilot.runtime.scheduling import PlannedChunk

from ..robot_run.helpers_session import Link, Played, session_of, swing
from .helpers_case import case, stays
from .helpers_rig import PAN, Rig

BEGUN = 1001.0
"""By then the arm is on its way."""


def run_of(rig: Rig, link: Link, **options: Any) -> Played:
    """A run of one long episode, to its end; every command within the limits, and nothing moves afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        with session_of(rig, Path(folder), link=link, **({"seconds": 30.0} | options)) as run:
            played = run()
        assert rig.robot.governor.at_rest or rig.robot.gone
        rig.check_bytes()
    return played


def stopped_by(rig: Rig, link: Link, words: str, **options: Any) -> None:
    """The run ends by a stop whose reason has these words, and is said; the arm stays."""
    played = run_of(rig, link, **options)
    assert played.session.stopped
    assert words in played.session.ended, played.session.ended
    assert played.session.phase is Phase.ENDED
    assert played.episodes[-1].stop == played.session.ended
    if not rig.robot.gone:
        stays(rig)


def at(rig: Rig, act: Callable[[], Any]) -> Callable[[Joints, float], Joints]:
    """Swings, and does something once the arm is on its way."""

    def plan(state: Joints, now: float) -> Joints:
        if rig.now > BEGUN:
            act()
        return swing(state, now)

    return plan


@case(1, "chunks of a policy that are not finite, or of other joints")
def no_chunks() -> int:
    def spoiled(spoil: Callable[[Joints], Joints]) -> Callable[[Joints, float], Joints]:
        return lambda state, now: spoil(swing(state, now)) if now > BEGUN else swing(state, now)

    spoils: list[Callable[[Joints], Joints]] = [
        lambda chunk: np.full_like(chunk, np.nan),
        lambda chunk: np.where(np.arange(6) == 2, np.inf, chunk),
        lambda chunk: chunk[:, :5],
        lambda chunk: np.hstack([chunk, chunk]),
        lambda chunk: chunk * 1e9,
    ]
    for spoil in spoils:
        for mode in ("sync", "async"):
            with Rig() as rig:
                stopped_by(rig, Link(rig, spoiled(spoil)), "", mode=mode)
    return 2 * len(spoils)


class Shifted(Link):
    """Chunks that say they were planned from what another clock has seen."""

    shift = 0.0

    def poll(self) -> list[PlannedChunk | tuple[int, SmolpilotError]]:
        shift = self.shift if self.rig.now > BEGUN else 0.0
        return [
            dataclasses.replace(one, captured_at=one.captured_at + shift) if isinstance(one, PlannedChunk) else one
            for one in super().poll()
        ]


@case(5, "chunks of a policy whose observation is of the past, of times to come, of no time")
def shifted_chunks() -> int:
    shifts = -3.5, 3.5, -1e9, 1e9, math.nan
    for shift in shifts:
        with Rig() as rig:
            link = Shifted(rig, swing)
            link.shift = shift
            stopped_by(rig, link, "")
    return len(shifts)


@case(8, "the policy's process killed, hung, failing, in a run; a slow one is waited for")
def policies() -> int:
    for mode in ("sync", "async", "rtc"):
        with Rig() as rig:
            link = Link(rig)
            link.plan = at(rig, partial(setattr, link, "dead", "It was killed by SIGKILL."))
            stopped_by(rig, link, "It was killed by SIGKILL.", mode=mode)
        with Rig() as rig:
            link = Link(rig)
            link.plan = at(rig, partial(setattr, link, "hung", True))
            words = "The policy has not answered for" if mode == "sync" else "The plan ran out"
            stopped_by(rig, link, words, mode=mode)
        with Rig() as rig:
            link = Link(rig)
            link.plan = at(rig, partial(setattr, link, "failing", 3))
            stopped_by(rig, link, "The policy failed 3 times in a row", mode=mode)
    with Rig() as rig:
        played = run_of(rig, Link(rig, swing, takes=1.5), seconds=6.0)
        assert not played.session.stopped
        assert played.episodes[0].waited > 60
    return 10


class Seen:
    """A camera of another process: which is killed, or shows no new image any more."""

    spec = CameraSpec("front", 4, 6, 30.0)

    def __init__(self) -> None:
        self.clock: Callable[[], float] = lambda: 1000.0
        self.killed = self.frozen = False
        self._newest = 1000.0

    def connect(self) -> None:
        return

    def disconnect(self) -> None:
        return

    def newest_at(self) -> float:
        if self.killed:
            raise DeviceError("The cameras' process was killed by SIGKILL.")
        self._newest = self._newest if self.frozen else self.clock()
        return self._newest

    def latest(self) -> CapturedImage:
        return CapturedImage(np.zeros((4, 6, 3), np.uint8), self.newest_at())


_: type[Camera] = Seen


@case(8, "the cameras' process killed, a camera frozen, in a run")
def cameras() -> int:
    faults: Mapping[str, str] = {
        "killed": "Camera 'front' has failed: The cameras' process was killed by SIGKILL.",
        "frozen": "The newest image of camera 'front' is",
    }
    for fault, words in faults.items():
        camera = Seen()
        with Rig(cameras={"front": camera}, connect=False) as rig:
            camera.clock = rig.clock
            rig.robot.connect()
            link = Link(rig)
            link.plan = at(rig, partial(setattr, camera, fault, True))
            stopped_by(rig, link, words)
    return len(faults)


@case(8, "Ctrl-C, SIGTERM, Ctrl-Z and a closed terminal in a run, also without a signal")
def signals_to_a_run() -> int:
    words = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGTSTP: "Ctrl-Z", signal.SIGHUP: "terminal"}
    for number, said in words.items():
        with Rig() as rig:
            link = Link(rig)
            sent: list[int] = []

            def once(number: int = number, sent: list[int] = sent) -> None:
                if not sent:  # a second Ctrl-C would end the tests at once
                    sent.append(number)
                    os.kill(os.getpid(), number)

            link.plan = at(rig, once)
            stopped_by(rig, link, said)
    with Rig() as rig:
        keys: list[tuple[Callable[[Session], bool], Key]] = [
            (lambda session: session.phase is Phase.READY, Key.ENTER),
            (lambda session: rig.now > BEGUN, Key.GONE),
        ]
        stopped_by(rig, Link(rig, swing), "The terminal was closed.", keys=keys)
    return len(words) + 1


@case(8, "a disk that is full, the cable pulled out, in a run")
def disk_and_cable() -> int:
    plain = RunLogWriter.write
    with Rig() as rig, pytest.MonkeyPatch.context() as patch:

        def full(self: RunLogWriter, tick: Any) -> None:
            if rig.now > BEGUN:
                raise OSError(28, "No space left on device")
            plain(self, tick)

        patch.setattr(RunLogWriter, "write", full)
        stopped_by(rig, Link(rig, swing), "The run log cannot be written: No space left on device.")
    with Rig() as rig:
        stopped_by(rig, Link(rig, at(rig, rig.bus.unplug)), "is gone")
        rig.now += 1.0
        assert np.abs(rig.positions() - rig.goals()[-1]).max() < 1.0, "the servos hold the last goal"
    return 2


@case(8, "a fault of the run's own loop")
def faulty_run() -> int:
    """Whatever is raised between two ticks: the arm slows down first, and then it is raised."""
    with Rig() as rig, tempfile.TemporaryDirectory() as folder:

        def fail(state: Joints, now: float) -> Joints:
            if rig.now > BEGUN:
                raise ZeroDivisionError("a fault of our own")
            chunk = swing(state, now)
            chunk[:, PAN] *= 7  # fast enough to be seen slowing down
            return chunk

        with (
            session_of(rig, Path(folder), link=Link(rig, fail), seconds=30.0) as run,
            pytest.raises(ZeroDivisionError, match="a fault of our own"),
        ):
            run()
        stop = rig.robot.governor.stop
        assert stop is not None
        assert stop.reason == "The run failed: a fault of our own"
        assert rig.robot.governor.at_rest
        steps = np.abs(np.diff(rig.goals()[:, PAN]))
        assert steps.max() > 1.0
        assert steps[-1] < 0.5, "it slowed down"
        (end,) = read_episodes(Path(folder))
        assert end.stop == stop.reason
        rig.check_bytes()
        stays(rig)
    return 1


@case(9, "a stop in a run, while the policy goes on answering and other keys are pressed")
def stopped_runs() -> int:
    """Only Enter re-arms; it starts nothing by itself, and what was planned before is forgotten."""
    presses = (Key.SUCCESS, Key.FAILURE, Key.STOP)
    for pressed in presses:
        with Rig() as rig:
            _stopped_and_pressed(rig, pressed)
    return len(presses)


def _stopped_and_pressed(rig: Rig, pressed: Key) -> None:
    stood: list[int] = []

    def ready(session: Session) -> bool:
        return session.phase is Phase.READY

    def begun(session: Session) -> bool:
        return rig.now > BEGUN

    def stands(session: Session) -> bool:
        if session.phase is Phase.STOPPED and session._robot.governor.at_rest:
            stood.append(len(rig.bus.log))
        return len(stood) > 30

    def stands_longer(session: Session) -> bool:
        return stands(session) and len(stood) > 60

    keys = [(ready, Key.ENTER), (begun, Key.STOP), (stands, pressed), (stands_longer, Key.QUIT)]
    played = run_of(rig, Link(rig, swing), keys=keys)
    assert played.episodes[-1].ended == "stop"
    assert len(stood) > 60
    assert not rig.goal_writes(stood[0] + 1), "it was told something under a stop"
    rig.robot.rearm()
    here = rig.positions()
    rig.run(None, 30)
    assert np.abs(rig.positions() - here).max() < 1.0
