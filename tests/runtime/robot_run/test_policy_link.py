"""The policy process, as it is started: what it answers, and what is said when it dies, hangs or refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import CheckpointError, DeviceError, SmolpilotError
from smolpilot.runtime.robot_run.policy_link import PolicyLink
from smolpilot.runtime.scheduling import Ask, PlannedChunk

from .helpers_policies import COMMAND, link_to, request

STATE = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def opened(link: PolicyLink, folder: Path, kind: str) -> None:
    about = link.open(request(folder, kind), patience=60.0, command=COMMAND)
    assert about.name == kind


def answer(link: PolicyLink, seconds: float = 30.0) -> PlannedChunk | tuple[int, SmolpilotError]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := link.poll():
            return found[0]
        link.wait(0.1)
    raise AssertionError("no answer")


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_a_policy_says_of_itself_crosses_the_pipe(tmp_path: Path) -> None:
    with link_to(tmp_path) as link:
        about = link.open(request(tmp_path, "plain"), patience=60.0, command=COMMAND)
        assert link.alive
    assert (about.chunk_size, about.n_action_steps, about.rate) == (5, 3, 30.0)
    assert about.action_names == about.state_names
    assert about.action_names[0] == "shoulder_pan"
    assert about.action_units[-1] == "normalized"
    assert about.image_sizes == {"front": (4, 6)}
    assert (about.policy_kind, about.instructions) == ("made", ("do it",))


def test_a_chunk_comes_with_the_times_of_what_it_was_planned_from(tmp_path: Path) -> None:
    with link_to(tmp_path) as link:
        opened(link, tmp_path, "plain")
        assert link.poll() == []
        link.publish(100.0, 4.0, STATE)
        link.ask(Ask(3, 4.0), "do it", seed=1)
        chunk = answer(link)
    assert isinstance(chunk, PlannedChunk)
    assert (chunk.id, chunk.state_at, chunk.captured_at) == (3, 100.0, 90.0), "the image is the oldest part"
    assert chunk.actions[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert chunk.actions[:, 5].tolist() == [7.0] * 5


def test_the_state_is_the_newest_when_the_images_are_done_and_the_leftover_begins_there(tmp_path: Path) -> None:
    with link_to(tmp_path) as link:
        opened(link, tmp_path, "late")
        link.publish(100.0, 4.0, STATE)
        link.ask(Ask(3, 4.0, np.arange(48, dtype=np.float64).reshape(8, 6), 3), "do it", seed=1)
        time.sleep(0.1)
        link.publish(100.1, 6.5, STATE + 50)
        chunk = answer(link)
    assert isinstance(chunk, PlannedChunk)
    assert chunk.state_at == 100.1
    assert chunk.actions[1, 0] == 52.0
    # 2.5 steps later: between rows 2 and 3; three steps were to be executed meanwhile, two of them are.
    assert chunk.actions[0, :3].tolist() == [15.0, 1.0, 5.0]


def test_what_a_policy_prints_is_no_answer(tmp_path: Path) -> None:
    with link_to(tmp_path) as link:
        opened(link, tmp_path, "prints")
        link.publish(100.0, 0.0, STATE)
        link.ask(Ask(1, 0.0), None, seed=1)
        chunk = answer(link)
        assert isinstance(chunk, PlannedChunk)
        assert chunk.id == 1
    assert "this goes nowhere" in (tmp_path / "policy.log").read_text()


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("nan", "The chunk is not finite."),
        ("raises", "The policy failed: somebody's code"),
        ("infinite", "The policy's chunk is not finite (step 2, value 1)."),
        ("narrow", "The policy gave a chunk of shape [5, 5]."),
    ],
)
def test_a_chunk_that_fails_is_told_and_the_process_goes_on(tmp_path: Path, kind: str, found: str) -> None:
    with link_to(tmp_path) as link:
        opened(link, tmp_path, kind)
        link.publish(100.0, 0.0, STATE)
        for number in (1, 2):
            link.ask(Ask(number, 0.0), None, seed=1)
            told = answer(link)
            assert isinstance(told, tuple)
            assert told[0] == number
            assert told[1].found == found
        assert link.alive


def test_a_policy_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with link_to(tmp_path) as link, pytest.raises(CheckpointError, match="There is nothing in it") as caught:
        link.open(request(tmp_path, "refused"), patience=60.0, command=COMMAND)
    assert (caught.value.expected, caught.value.fix) == ("a policy", "train one")


def test_a_process_that_crashes_while_it_opens_is_told_with_its_last_line(tmp_path: Path) -> None:
    told = r"exit code 1: RuntimeError: of the loader\."
    with link_to(tmp_path) as link, pytest.raises(DeviceError, match=told):
        link.open(request(tmp_path, "crashes"), patience=60.0, command=COMMAND)


def test_a_policy_that_takes_too_long_to_open_is_given_up(tmp_path: Path) -> None:
    with link_to(tmp_path) as link, pytest.raises(DeviceError, match=r"was not ready within 1\.5 s"):
        link.open(request(tmp_path, "slow"), patience=1.5, command=COMMAND)


def test_nobody_waits_for_a_policy_that_was_given_up(tmp_path: Path) -> None:
    with link_to(tmp_path) as link, pytest.raises(DeviceError, match=r"^Ctrl-C was pressed\.$"):
        link.open(request(tmp_path, "slow"), patience=60.0, command=COMMAND, given_up=lambda: "Ctrl-C was pressed.")


def test_a_policy_that_hangs_ends_with_its_input(tmp_path: Path) -> None:
    with link_to(tmp_path) as link:
        opened(link, tmp_path, "hangs")
        link.publish(100.0, 0.0, STATE)
        link.ask(Ask(1, 0.0), None, seed=1)
        assert link._process is not None
        link._process.finish()  # as the end of its parent does
        until(lambda: not link.alive)
        assert link.why_ended() == "The policy process ended with exit code 1."


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    with link_to(tmp_path) as link:
        opened(link, tmp_path, "dies")
        link.publish(100.0, 0.0, STATE)
        link.ask(Ask(1, 0.0), None, seed=1)
        until(lambda: not link.alive)
        assert link.why_ended() == "The policy process ended with exit code 3."
        link.ask(Ask(2, 0.0), None, seed=1)
        assert link.poll() == [], "asked in vain, without an error"


def test_a_process_that_is_killed_is_named(tmp_path: Path) -> None:
    with link_to(tmp_path) as link:
        opened(link, tmp_path, "hangs")
        link.publish(100.0, 0.0, STATE)
        link.ask(Ask(1, 0.0), None, seed=1)
        assert link.process is not None
        os.kill(link.process, signal.SIGKILL)
        until(lambda: not link.alive)
        assert link.why_ended().startswith("The policy process was killed by SIGKILL")


PARENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from helpers_policies import COMMAND, link_to, request
folder = Path(sys.argv[1])
with link_to(folder) as link:
    link.open(request(folder, "plain"), patience=60.0, command=COMMAND)
    print(link.process, flush=True)
    time.sleep(60)
"""


def test_it_ends_when_the_control_process_is_killed(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), here], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.communicate()

    def gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone)
