"""A policy's episodes on an arm: keys, ends, faults of the policy; every command on the bus within its limits."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.contracts import Joints
from smolpilot.runtime.robot_run.session import HOLD_S, Session
from smolpilot.runtime.robot_run.snapshot import Key, Phase

from ..safety.helpers_rig import PAN, Rig
from .helpers_session import Link, session_of, swing


def in_phase(phase: Phase, seconds: float = 0.0) -> Callable[[Session], bool]:
    """When a session is in a phase, for so long."""
    since: list[float] = []

    def when(session: Session) -> bool:
        if session.phase is not phase:
            since.clear()
            return False
        since.append(session._clock())
        return since[-1] - since[0] >= seconds

    return when


def test_episodes_follow_each_other_unattended(tmp_path: Path) -> None:
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, swing), episodes=3) as run:
        played = run()
        rig.check_bytes()
    assert (played.session.ended, played.session.stopped) == ("all episodes were run", False)
    assert [(one.episode, one.ended, one.mark) for one in played.episodes] == [(i, "time", None) for i in range(3)]
    assert [one.instruction for one in played.episodes] == ["swing"] * 3
    assert played.recorded == [True, False] * 3 + [False]
    assert all(len(one.turnarounds) == one.chunks > 1 for one in played.episodes)
    first, last = played.episodes[0].first_tick, played.episodes[0].last_tick
    assert first is not None
    assert last is not None
    assert last - first in (29, 30)
    log = played.log
    assert {tick.episode for tick in log.ticks} == {0, 1, 2}
    assert {tick.source for tick in log.ticks} == {"policy", "hold"}
    assert not log.skipped
    assert [reset for _, _, _, reset in played.link.asked].count(True) >= 3, "the policy forgets each episode"
    assert np.abs(log.commanded[:, PAN]).max() > 3.0, "it moved"


def test_a_chunks_steps_are_in_the_log_with_their_age(tmp_path: Path) -> None:
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, swing), mode="async") as run:
        log = run().log
    steps = [(tick.chunk.id, tick.chunk.step) for tick in log.ticks if tick.chunk is not None]
    assert len(steps) == len(set(steps)) > 20
    assert all(b[1] == a[1] + 1 for a, b in itertools.pairwise(steps) if a[0] == b[0])
    assert log.seams
    ages = [tick.chunk_age for tick in log.ticks if tick.chunk_age is not None]
    assert min(ages) > 0
    assert max(ages) < 1.0


def test_a_person_starts_marks_and_parks(tmp_path: Path) -> None:
    start, park = {"shoulder_pan": 15.0}, {"shoulder_pan": -10.0, "elbow_flex": 20.0}
    keys = [
        (in_phase(Phase.READY, 0.5), Key.ENTER),
        (in_phase(Phase.AT_START, 0.5), Key.ENTER),
        (in_phase(Phase.RUNNING, 0.5), Key.SUCCESS),
        (in_phase(Phase.READY, 0.5), Key.ENTER),
        (in_phase(Phase.AT_START), Key.ENTER),
        (in_phase(Phase.READY), Key.FAILURE),
        (in_phase(Phase.READY, 0.2), Key.QUIT),
    ]
    with Rig() as rig, session_of(rig, tmp_path, keys=keys, episodes=2, start=start, park=park) as run:
        played = run()
        rig.check_bytes()
        there = rig.positions()
    assert [(one.ended, one.mark) for one in played.episodes] == [("mark", "success"), ("time", "failure")]
    assert played.session.ended == "parked"
    assert there[PAN] == pytest.approx(-10.0, abs=0.5)
    sources = [tick.source for tick in played.log.ticks]
    assert list(dict.fromkeys(sources)) == ["ramp", "hold", "policy", "park"]
    at_start = next(tick for tick in played.log.ticks if tick.source == "policy")
    assert at_start.sent.commanded[PAN] == pytest.approx(15.0, abs=0.5)
    phases = list(dict.fromkeys(one.phase for one in played.person.seen))
    assert phases == ["ready", "approach", "at start", "running", "parking", "ended"]
    assert played.person.seen[-1].marks == ["success", "failure"]


def test_space_stops_and_enter_rearms(tmp_path: Path) -> None:
    keys = [
        (in_phase(Phase.READY), Key.ENTER),
        (in_phase(Phase.RUNNING, 0.4), Key.STOP),
        (in_phase(Phase.STOPPED, 1.0), Key.ENTER),
        (in_phase(Phase.READY, 0.3), Key.QUIT),
    ]
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, swing), keys=keys, episodes=2, seconds=20.0) as run:
        played = run()
        rig.check_bytes()
    assert played.episodes[0].ended == "stop"
    assert played.episodes[0].stop == "A person stopped it."
    assert (played.session.ended, played.session.stopped) == ("ended by a person", False)
    stopped = [one for one in played.person.seen if one.phase == "stopped"]
    assert stopped[0].stop == "A person stopped it."
    assert len({tuple(one.commanded) for one in stopped[-5:]}) == 1, "it stands"


def test_enter_alone_starts_nothing_while_a_stop_is_in_force(tmp_path: Path) -> None:
    keys = [(in_phase(Phase.READY), Key.STOP), (in_phase(Phase.STOPPED, 0.5), Key.SUCCESS),
            (in_phase(Phase.STOPPED, 0.5), Key.QUIT)]  # fmt: skip
    with Rig() as rig, session_of(rig, tmp_path, keys=keys) as run:
        played = run()
        assert len({tuple(row) for row in rig.goals().tolist()}) <= 1
    assert played.episodes == []


def test_the_key_of_hold_to_run_has_to_be_held(tmp_path: Path) -> None:
    """It starts when it is pressed, and 0.7 s after it was seen last the arm stops."""
    moving: list[float] = []

    def held(session: Session) -> bool:
        if session.phase is Phase.RUNNING:
            moving.append(session._clock())
        return not moving or moving[-1] - moving[0] < 1.0

    keys = [(in_phase(Phase.STOPPED, 0.5), Key.ENTER), (in_phase(Phase.READY, 2.0), Key.QUIT)]
    link_options: dict[str, Any] = {"hold_key": "h", "seconds": 30.0, "keys": keys, "held": held}
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, swing), **link_options) as run:
        played = run()
        rig.check_bytes()
    assert played.episodes[0].stop == "The key 'h' was let go."
    assert played.episodes[0].seconds == pytest.approx(1.0 + HOLD_S, abs=0.1)
    assert len(played.episodes) == 1, "Enter re-arms; it moves only while the key is held"


def test_a_key_that_is_held_through_the_approach_does_not_start_the_episode(tmp_path: Path) -> None:
    begun: list[float] = []

    def held(session: Session) -> bool:
        if session.phase is Phase.AT_START:
            begun.append(session._clock())
        return not begun or begun[-1] - begun[0] < 1.0

    keys = [(in_phase(Phase.AT_START, 3.0), Key.QUIT)]
    options: dict[str, Any] = {"hold_key": "h", "start": {"shoulder_pan": 5.0}, "keys": keys, "held": held}
    with Rig() as rig, session_of(rig, tmp_path, **options) as run:
        played = run()
    assert played.episodes == []
    assert "approach" in [one.phase for one in played.person.seen]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_dead_policy_stops_the_arm_and_says_so(tmp_path: Path, mode: str) -> None:
    with Rig() as rig:
        link = Link(rig, swing)

        def die(state: Joints, now: float) -> Joints:
            if now > 1001.0:
                link.dead = "The policy process was killed by SIGKILL."
            return swing(state, now)

        link.plan = die
        with session_of(rig, tmp_path, link=link, seconds=30.0, mode=mode) as run:
            played = run()
            rig.check_bytes()
    assert played.session.stopped
    assert played.session.ended == "The policy process was killed by SIGKILL."
    assert played.episodes[0].stop == "The policy process was killed by SIGKILL."
    assert played.log.ticks[-1].sent.stop is not None


def test_a_hung_policy_stops_the_arm_sync_and_async(tmp_path: Path) -> None:
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, hung=True), seconds=30.0) as run:
        played = run()
    assert played.session.ended.startswith("The policy has not answered for 5.")
    (tmp_path / "async").mkdir()
    with Rig() as rig:
        link = Link(rig, swing)

        def hang(state: Joints, now: float) -> Joints:
            link.hung = now > 1001.0
            return swing(state, now)

        link.plan = hang
        with session_of(rig, tmp_path / "async", link=link, seconds=30.0, mode="async") as run:
            played = run()
            rig.check_bytes()
    assert played.session.ended.startswith("The plan ran out: the next chunk was asked for ")
    assert played.episodes[0].starved > 0


def test_one_failed_chunk_is_asked_for_again_and_three_stop_the_arm(tmp_path: Path) -> None:
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, swing, failing=2), mode="async") as run:
        played = run()
    assert not played.session.stopped
    assert played.episodes[0].chunks > 1
    (tmp_path / "more").mkdir()
    with Rig() as rig, session_of(rig, tmp_path / "more", link=Link(rig, swing, failing=3), seconds=9.0) as run:
        played = run()
    assert played.session.ended == "The policy failed 3 times in a row: The chunk is not finite."


def test_a_slow_policy_in_sync_is_no_fault(tmp_path: Path) -> None:
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, swing, takes=1.5), seconds=9.0) as run:
        played = run()
        rig.check_bytes()
    assert not played.session.stopped
    assert played.episodes[0].waited > 100
    assert played.episodes[0].starved == 0


def test_ctrl_c_stops_holds_and_ends(tmp_path: Path) -> None:
    with Rig() as rig:

        def interrupt(state: Joints, now: float) -> Joints:
            if 1001.0 < now < 1001.5:
                os.kill(os.getpid(), signal.SIGTERM)
            return swing(state, now)

        with session_of(rig, tmp_path, link=Link(rig, interrupt), keys=[(in_phase(Phase.READY), Key.ENTER)],
                        seconds=30.0) as run:  # fmt: skip
            played = run()
            rig.check_bytes()
    assert played.session.stopped
    assert played.session.ended == "The process was asked to end (SIGTERM)."


def test_a_first_action_that_is_far_away_is_approached_slowly(tmp_path: Path) -> None:
    """60 degrees at a quarter of the limits; from there it is planned anew."""
    states: list[float] = []

    def away(state: Joints, now: float) -> Joints:
        states.append(float(state[PAN]))
        chunk = np.tile(state, (20, 1))
        chunk[:, PAN] = 60.0
        return chunk

    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, away), seconds=8.0) as run:
        log = run().log
        rig.check_bytes()
    ramp = [tick.sent.commanded[PAN] for tick in log.ticks if tick.source == "ramp"]
    assert ramp[-1] == pytest.approx(60.0, abs=0.1)
    assert np.abs(np.diff(ramp)).max() <= 60.0 / 4 / 30 + 1e-4
    first = next(tick for tick in log.ticks if tick.source == "policy")
    assert first.sent.commanded[PAN] == pytest.approx(60.0, abs=0.1)
    assert states[0] == pytest.approx(0.0, abs=0.2)
    assert states[1] == pytest.approx(60.0, abs=0.5), "the second plan begins where the arm is by then"


def test_an_episode_does_not_begin_where_no_demonstration_did(tmp_path: Path) -> None:
    problem = "'elbow_flex' is at 63 deg; the demonstrations began at -5 to 5."
    with Rig() as rig, session_of(rig, tmp_path, start_problem=lambda state: problem) as run:
        played = run()
    assert (played.session.ended, played.session.stopped, played.episodes) == (problem, True, [])
    assert played.person.seen[-1].notice == "Ended."


def test_a_disk_that_is_full_stops_the_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smolpilot.contracts import RunLogWriter

    plain = RunLogWriter.write

    def full(self: RunLogWriter, tick: object) -> None:
        if getattr(tick, "number", 0) > 20:
            raise OSError(28, "No space left on device")
        plain(self, tick)  # type: ignore[arg-type]

    monkeypatch.setattr(RunLogWriter, "write", full)
    with Rig() as rig, session_of(rig, tmp_path, link=Link(rig, swing), seconds=30.0) as run:
        played = run()
        rig.check_bytes()
    assert played.session.ended == "The run log cannot be written: No space left on device."
    assert len(played.log.ticks) == 21


def test_a_dry_run_sends_nothing_and_shows_what_would_have_been_clamped(tmp_path: Path) -> None:
    def hasty(state: Joints, now: float) -> Joints:
        chunk = np.tile(state, (20, 1))
        chunk[:, PAN] = 4.0 * np.arange(20) + state[PAN]  # 120 deg/s, where 60 are allowed
        return chunk

    with Rig(connect=False) as rig:
        rig.robot.open()
        rig.robot.rehearse()
        before = len(rig.bus.log)
        with session_of(rig, tmp_path, link=Link(rig, hasty), dry_run=True, start={"shoulder_pan": 40.0}) as run:
            played = run()
        assert not rig.goal_writes(before)
        assert not any(servo.torque for servo in rig.bus.servos.values())
        assert all(packet.request[4] in (2, 0x82) for packet in list(rig.bus.log)[before:]), "it only read"
    counts = played.log.flag_counts()
    assert counts["velocity"]["shoulder_pan"] > 20
    assert set(counts["velocity"]) == {"shoulder_pan"}
    assert played.log.header.dry_run
    assert np.isfinite(played.log.measured).all()
    assert np.ptp(played.log.measured[:, PAN]) < 0.5, "it stood"
    assert "stopped" not in counts


def test_a_dry_run_of_a_gentle_policy_clamps_nothing(tmp_path: Path) -> None:
    """The arm does not follow: that is no error of the policy's, and no seam is a jump of a motor."""
    with Rig(connect=False) as rig:
        rig.robot.open()
        rig.robot.rehearse()
        with session_of(rig, tmp_path, link=Link(rig, swing), dry_run=True, seconds=4.0,
                        mode="async") as run:  # fmt: skip
            played = run()
    counts = played.log.flag_counts()
    assert not played.session.stopped
    assert sum(counts.get("velocity", {}).values()) == 0
    assert np.ptp(played.log.commanded[:, PAN]) > 5.0, "in thought it moved"


def test_a_policy_that_dies_before_the_episode_stops_the_arm_too(tmp_path: Path) -> None:
    """Nobody is to press Enter twice to learn that there is no policy."""
    with Rig() as rig:
        link = Link(rig)

        def dies(session: Session) -> bool:
            if session.phase is Phase.APPROACH:
                link.dead = "The policy process was killed by SIGKILL."
            return False

        keys = [(in_phase(Phase.READY, 0.2), Key.ENTER)]
        with session_of(rig, tmp_path, link=link, keys=keys, held=dies, start={"shoulder_pan": 40.0}) as run:
            played = run()
            rig.check_bytes()
    assert played.session.ended == "The policy process was killed by SIGKILL."
    assert played.recorded[-1] is False, "no images are kept of an arm that waits"
    assert played.episodes == []
