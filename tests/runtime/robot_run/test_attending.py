"""The parent of a control process: what it shows, what it passes on, and that nobody can halt it or end it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.runtime.robot_run import live_view
from smolpilot.runtime.robot_run.attending import KeyPipe, SnapshotPipe, attend
from smolpilot.runtime.robot_run.screen import Lines, LiveScreen, line
from smolpilot.runtime.robot_run.snapshot import Key, Phase, Snapshot

from .helpers_snapshots import snapshot

Pipe = tuple[int, int]


@pytest.fixture
def pipes() -> Iterator[tuple[Pipe, Pipe]]:
    """Of snapshots and of keys: each a reader and a writer."""
    made = os.pipe(), os.pipe()
    yield made
    for descriptor in (*made[0], *made[1]):
        with contextlib.suppress(OSError):  # closed by the test
            os.close(descriptor)


def after(calls: int, act: Callable[[], object] = lambda: None) -> Callable[[], bool]:
    """Ended at the call after so many; `act` before that."""
    left = [calls]

    def ended() -> bool:
        left[0] -= 1
        if left[0] == -1:
            act()
        return left[0] < 0

    return ended


def written(*snapshots: Snapshot) -> bytes:
    return b"".join(one.model_dump_json().encode() + b"\n" for one in snapshots)


def watch(pipes: tuple[Pipe, Pipe], data: bytes, ended: Callable[[], bool] | None = None) -> None:
    os.write(pipes[0][1], data)
    attend(pipes[0][0], pipes[1][1], ended or after(1), hold_key=None, interactive=False)


def test_without_a_terminal_each_change_is_a_line(pipes: tuple[Pipe, Pipe], capfd: pytest.CaptureFixture[str]) -> None:
    ready = snapshot(phase=Phase.READY, episode=1, seconds=0.0, achieved=None)
    states = [ready, ready, snapshot(episode=1), snapshot(), snapshot(seconds=13.0)]
    watch(pipes, written(*states, snapshot(phase=Phase.STOPPED, stop="\x1b[2JThe arm\ndoes not follow.", dry_run=True)))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "ready: episode 1 of 10, 0.0 of 30 s, missed 0, starved 3",
        "running: episode 1 of 10, 12.3 of 30 s, 29.9 of 30 Hz, missed 0, starved 3",
        "running: episode 2 of 10, 12.3 of 30 s, 29.9 of 30 Hz, missed 0, starved 3",
        "stopped: dry run, episode 2 of 10, 12.3 of 30 s, 29.9 of 30 Hz, missed 0, starved 3"
        r": \x1b[2JThe arm\ndoes not follow.",
        "stopped: dry run, episode 2 of 10, 12.3 of 30 s, 29.9 of 30 Hz, missed 0, starved 3, "
        r"the control process has ended: \x1b[2JThe arm\ndoes not follow.",
    ]


def test_a_run_that_ended_by_itself_says_so_once(pipes: tuple[Pipe, Pipe], capfd: pytest.CaptureFixture[str]) -> None:
    watch(pipes, written(snapshot(phase=Phase.ENDED)))
    assert capfd.readouterr().err.count("ended") == 1


def test_every_ten_seconds_there_is_a_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = Lines(2)
    for _ in range(250):
        lines.show(snapshot(), 0.0, keys=False)
        now[0] += 0.1
    monkeypatch.undo()
    assert len(capfd.readouterr().err.splitlines()) == 3
    assert line(snapshot(policy_alive=False), 7.0).endswith("the policy's process is gone, nothing heard for 7 s")


def test_torn_and_foreign_lines_are_left_out(pipes: tuple[Pipe, Pipe], capfd: pytest.CaptureFixture[str]) -> None:
    good = written(snapshot())
    torn = [good[:50] + b"\n", good[300:], b"\n", b"\xff\xfe\n", b"[]\n", b'{"phase": "flying"}\n', good, good[:-1]]
    watch(pipes, b"".join(torn))
    assert [text.split(":")[0] for text in capfd.readouterr().err.splitlines()] == ["running", "running"]


def test_a_line_may_come_in_pieces(pipes: tuple[Pipe, Pipe]) -> None:
    (reader, writer), _ = pipes
    made = SnapshotPipe(reader)
    data = written(snapshot(episode=3))
    found = []
    for start in range(0, len(data), 100):
        os.write(writer, data[start : start + 100])
        found += list(made.lines())
    assert [one.episode for one in found] == [3]
    assert list(made.lines()) == []
    os.close(writer)
    assert (list(made.lines()), made.descriptor) == ([], None)


def test_what_was_sent_before_the_end_is_shown(pipes: tuple[Pipe, Pipe], capfd: pytest.CaptureFixture[str]) -> None:
    late = written(snapshot(phase=Phase.ENDED, episode=9))
    watch(pipes, written(snapshot()), after(2, lambda: os.write(pipes[0][1], late)))
    assert capfd.readouterr().err.splitlines()[-1].startswith("ended: episode 9 of 10")


@pytest.mark.parametrize("closed", ["snapshots", "keys", "both", "ours"])
def test_pipes_that_are_closed_are_no_error(
    closed: str, pipes: tuple[Pipe, Pipe], capfd: pytest.CaptureFixture[str]
) -> None:
    (snapshots, writer), (reader, keys) = pipes
    gone = {"snapshots": [writer], "keys": [reader], "both": [writer, reader], "ours": [snapshots, keys]}[closed]
    for descriptor in gone:
        os.close(descriptor)
    attend(snapshots, keys, after(3), hold_key=None, interactive=True)
    assert capfd.readouterr() == ("", "")


def test_a_key_that_cannot_be_held_is_refused(pipes: tuple[Pipe, Pipe], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 0)
    with pytest.raises(UsageError, match="The key to be held is 'F1'"):
        attend(pipes[0][0], pipes[1][1], after(1), hold_key="F1", interactive=True)


def test_a_full_pipe_takes_no_key_but_the_stop_is_sent_until_it_is_taken(pipes: tuple[Pipe, Pipe]) -> None:
    reader, writer = pipes[1]
    made = KeyPipe(writer)
    fill = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            fill += os.write(writer, b"x" * 512)
    made.send(Key.SUCCESS)
    made.send(Key.STOP)
    made.again()
    left = fill
    while left:
        left -= len(os.read(reader, left))
    made.send(Key.ENTER)  # it was pressed after the stop, and must not come before it
    made.again()
    made.again()
    made.send(Key.QUIT)
    assert os.read(reader, 100) == b"stop\nquit\n"
    os.close(reader)
    made.send(Key.STOP)
    made.again()


class Screen:
    """A terminal of a live view, and what came there."""

    def __init__(self) -> None:
        self.main_end, self.end = pty.openpty()
        termios.tcsetwinsize(self.end, (24, 80))

    def text(self, until: str = "", seconds: float = 20) -> str:
        """What came, until this is in it."""
        found = b""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (not until or until.encode() not in found):
            if select.select([self.main_end], [], [], 0.05)[0]:
                found += os.read(self.main_end, 65_536)
        return found.decode(errors="replace")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Screen()
    yield made
    for descriptor in (made.main_end, made.end):
        with contextlib.suppress(OSError):  # closed by the test
            os.close(descriptor)


def test_a_live_view_draws_and_gives_the_cursor_back(terminal: Screen) -> None:
    live = LiveScreen(terminal.end)
    live.show(snapshot(), 0.0, keys=True)
    assert "shoulder_pan" in terminal.text("park and end")
    live.show(snapshot(episode=3), 0.0, keys=True)
    assert re.search(r"\x1b\[1A.*episode 3 of 10", terminal.text("park and end"), re.DOTALL), "over the one before"
    live.close()
    assert terminal.text("\x1b[?25h").endswith("\x1b[?25h")


def test_a_terminal_that_takes_nothing_halts_nobody(terminal: Screen) -> None:
    live = LiveScreen(terminal.end)
    for episode in range(500):
        live.show(snapshot(episode=episode), 0.0, keys=True)
    live.close()
    text = terminal.text(seconds=0.5)
    assert "episode 0 of 10" in text
    assert "episode 499 of 10" not in text


def test_a_terminal_that_was_closed_is_no_error(terminal: Screen, capfd: pytest.CaptureFixture[str]) -> None:
    live = LiveScreen(terminal.end)
    live.show(snapshot(), 0.0, keys=True)
    os.close(terminal.main_end)
    live.show(snapshot(episode=3), 0.0, keys=True)
    live.close()
    assert capfd.readouterr() == ("", "")


def test_the_control_process_is_told_again_and_again_that_the_terminal_was_closed(pipes: tuple[Pipe, Pipe]) -> None:
    (snapshots, _), (said, keys) = pipes
    master, slave = pty.openpty()
    before, looks = os.dup(0), [0]
    os.dup2(slave, 0)
    os.close(slave)

    def ended() -> bool:
        looks[0] += 1
        if looks[0] == 3:
            os.close(master)
        return looks[0] > 8

    try:
        attend(snapshots, keys, ended, hold_key=None, interactive=True)
    finally:
        os.dup2(before, 0)
        os.close(before)
    told = os.read(said, 4_096).split()
    assert set(told) == {b"gone"}
    assert len(told) > 3


def test_lines_into_a_pipe_that_nobody_reads_halt_nobody() -> None:
    reader, writer = os.pipe()
    lines = Lines(writer)
    for episode in range(5_000):
        lines.show(snapshot(episode=episode), 0.0, keys=False)
    lines.close()
    assert os.get_blocking(writer), "who shares it still waits when it is full"
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        taken = file.read().splitlines()
    assert taken[0].startswith("running: episode 0 of 10")
    assert 100 < len(taken) < 5_000


def test_a_view_that_fails_gives_way_to_lines(
    pipes: tuple[Pipe, Pipe], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], terminal: Screen
) -> None:
    def fails(*arguments: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(live_view, "RunView", fails)
    monkeypatch.setattr("smolpilot.runtime.robot_run.attending.screen", lambda: LiveScreen(terminal.end))
    watch(pipes, written(snapshot()), after(2, lambda: os.write(pipes[0][1], written(snapshot(episode=3)))))
    assert capfd.readouterr().err.splitlines() == [
        "The view of the run failed (ZeroDivisionError: a fault of ours). Keys work as before.",
        "running: episode 3 of 10, 12.3 of 30 s, 29.9 of 30 Hz, missed 0, starved 3",
        "running: episode 3 of 10, 12.3 of 30 s, 29.9 of 30 Hz, missed 0, starved 3, the control process has ended",
    ]


def test_what_the_control_process_may_import_needs_no_rich() -> None:
    names = "keys", "attending", "screen", "snapshot"
    code = f"import sys; from smolpilot.runtime.robot_run import {', '.join(names)}; print('rich' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert made.stdout == "False\n"


_RUN = """
import fcntl, json, os, select, sys, termios, time
options = json.loads(sys.argv[1])
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C comes to this process and its child
from smolpilot.runtime.robot_run.attending import attend
from smolpilot.runtime.robot_run.snapshot import Snapshot
from smolpilot.runtime.signals import StopSignals
from smolpilot.runtime.supervisor import supervised

shown, show = os.pipe()
told, tell = os.pipe()

def drive():
    state = json.loads(options["snapshot"])
    seen, until = [], time.monotonic() + 120
    phases = {"ready": {"enter": "running"}, "running": {"stop": "stopped"}, "stopped": {"enter": "ready"}}
    with StopSignals() as signals:
        for _ in range(options["looks"]):
            if time.monotonic() > until or "quit" in seen or signals.reason is not None:
                break
            data = (json.dumps(state) + "\\n").encode()
            os.write(show, data[:99])
            os.write(show, data[99:])
            if select.select([told], [], [], 0.05)[0]:
                for key in os.read(told, 1000).decode().split():
                    seen.append(key)
                    state["phase"] = phases[state["phase"]].get(key, state["phase"])
                    if options["dies"] and state["phase"] == "running":
                        os.kill(os.getpid(), 9)
                    state["instruction"] = "seen: " + " ".join(seen[-9:])
    with open(options["log"], "w") as file:
        json.dump([seen, signals.reason], file)
    return 3

def attended(ended):
    attend(shown, tell, ended, hold_key=options["hold"], interactive=True)
    if options["raises"]:
        raise ValueError("a fault of ours")

os._exit(supervised(drive, attended))
"""


class Run:
    """A program with a control process, on a terminal where a person watches and presses keys."""

    def __init__(self, folder: Path, screen: Screen, **options: Any) -> None:
        self._log, self._screen, self._shown = folder / "log.json", screen, ""
        self.before = termios.tcgetattr(screen.end)
        values = {"log": str(self._log), "hold": None, "dies": False, "raises": False, "looks": 10_000}
        values["snapshot"] = snapshot(phase=Phase.READY, instruction="nothing seen").model_dump_json()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, json.dumps(values | options)],
            stdin=screen.end, stdout=screen.end, stderr=screen.end, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"},
        )  # fmt: skip

    def sees(self, text: str, press: bytes = b"") -> None:
        """Until it is on the terminal; the key is pressed every two seconds."""
        deadline, pressed = time.monotonic() + 60, -9.0
        while text not in self._shown and time.monotonic() < deadline:
            if press and time.monotonic() - pressed > 2:
                pressed = time.monotonic()
                os.write(self._screen.main_end, press)
            self._shown += self._screen.text(text, 0.2)
        assert text in self._shown
        self._shown = self._shown[self._shown.index(text) + len(text) :]

    def end(self) -> tuple[int, list[str], str | None, str]:
        """Exit code, keys that came, the reason to stop, and what was shown at last."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            self._shown += self._screen.text("\x00", 0.1)
        self._shown += self._screen.text("\x00", 0.2)
        assert self.process.poll() is not None
        keys, reason = json.loads(self._log.read_text(encoding="utf-8")) if self._log.exists() else ([], None)
        return self.process.returncode, keys, reason, self._shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path, terminal: Screen) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def started(**options: Any) -> Run:
        made.append(Run(tmp_path, terminal, **options))
        return made[-1]

    yield started
    for one in made:
        one.close()


def test_a_person_sees_phases_and_presses_keys(start: Callable[..., Run], terminal: Screen) -> None:
    run = start()
    run.sees(" READY ")
    os.write(terminal.main_end, b"\x1b[A\x1b[200~q\nq\n\x1b[201~x\n\x1b[B")
    time.sleep(0.2)
    run.sees(" RUNNING ", press=b"\n")
    run.sees(" STOPPED ", press=b" ")
    run.sees("seen: enter stop")
    assert termios.tcgetattr(terminal.end) != run.before
    os.write(terminal.main_end, b"q")
    code, keys, reason, shown = run.end()
    assert (code, reason) == (3, None)
    assert list(dict.fromkeys(keys)) == ["enter", "stop", "quit"]
    assert "The control process has ended." in shown
    assert "Traceback" not in shown
    assert shown.rstrip().endswith("\x1b[?25h"), "the cursor is back"
    assert termios.tcgetattr(terminal.end) == run.before


def test_a_key_that_is_held_comes_again_and_again(start: Callable[..., Run], terminal: Screen) -> None:
    run = start(hold="space")
    run.sees(" READY ")
    for _ in range(3):
        run.sees("seen: held", press=b" ")
    os.write(terminal.main_end, b"q")
    code, keys, _, _ = run.end()
    assert (code, set(keys), keys[-1]) == (3, {"held", "quit"}, "quit")


def test_ctrl_c_goes_to_the_control_process(start: Callable[..., Run], terminal: Screen) -> None:
    run = start()
    run.sees(" READY ")
    os.write(terminal.main_end, b"\x03")
    code, keys, reason, shown = run.end()
    assert (code, keys, reason) == (3, [], "Ctrl-C was pressed.")
    assert "Traceback" not in shown
    assert termios.tcgetattr(terminal.end) == run.before


def test_a_control_process_that_is_killed_leaves_the_terminal_as_before(
    start: Callable[..., Run], terminal: Screen
) -> None:
    run = start(dies=True)
    run.sees(" READY ")
    run.sees("The control process has ended. This is the last that it told.", press=b"\n")
    code, _, _, shown = run.end()
    assert code == 1
    assert "error: the control process was killed by SIGKILL" in shown
    assert termios.tcgetattr(terminal.end) == run.before


def test_a_parent_that_is_asked_to_end_passes_it_on(start: Callable[..., Run], terminal: Screen) -> None:
    run = start(raises=True)
    run.sees(" READY ")
    run.process.terminate()
    code, _, reason, shown = run.end()
    assert (code, reason) == (3, "The process was asked to end (SIGTERM).")
    assert "error: what shows the run and reads its keys has failed (ValueError: a fault of ours)." in shown
    assert termios.tcgetattr(terminal.end) == run.before


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)])
def test_closed_standard_streams_are_no_error(closed: tuple[int, ...], tmp_path: Path) -> None:
    """The numbers of closed streams are those of the pipes, then."""
    values = {"log": str(tmp_path / "log.json"), "hold": None, "dies": False, "raises": False, "looks": 5}

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    process = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(values | {"snapshot": snapshot().model_dump_json()})],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=close, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert process.returncode == 3
    said = [text.split(",")[0] for text in process.stdout.splitlines()]
    assert said == ([] if 2 in closed else ["running: episode 2 of 10"] * 2)
    assert json.loads((tmp_path / "log.json").read_text(encoding="utf-8")) == [[], None]


def test_a_job_in_the_background_has_no_keys_and_says_so(
    pipes: tuple[Pipe, Pipe], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], terminal: Screen
) -> None:
    monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: 1)
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 0)
    attend(pipes[0][0], pipes[1][1], after(1), hold_key=None, interactive=True)
    assert capfd.readouterr().err == (
        f"No keys: this is a job in the background. Ctrl-C, or `kill {os.getpid()}`, stops and holds.\n"
    )
