"""The supervisor: exit codes and signals pass, a control process that was killed is named, and nothing runs twice."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smolpilot.runtime.signals import ENDED_AT_ONCE, StopSignals
from smolpilot.runtime.supervisor import KILLED, supervised


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    """However a control process ends, this one handles signals as before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


def kills_itself(number: int) -> Callable[[], int]:
    def drive() -> int:
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(30)
        return 0

    return drive


def leaves(error: BaseException) -> Callable[[], int]:
    def drive() -> int:
        raise error

    return drive


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_is_that_of_the_control_process(code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervised(lambda: code) == code
    assert capfd.readouterr() == ("", "")


def test_it_runs_in_a_process_of_its_own_and_what_it_prints_is_there_once(capfd: pytest.CaptureFixture[str]) -> None:
    print("before, ", end="")
    pids: list[int] = []

    def drive() -> int:
        pids.append(os.getpid())
        print(f"child of {os.getppid()}", end="")
        return 0

    assert supervised(drive) == 0
    assert pids == [], "its memory is its own"
    assert capfd.readouterr().out == f"before, child of {os.getpid()}"


@pytest.mark.parametrize(("error", "code"), [(SystemExit(3), 3), (SystemExit("why"), 1), (SystemExit(None), 0)])
def test_a_control_process_that_leaves_by_itself_passes_its_code(
    error: SystemExit, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert supervised(leaves(error)) == code
    assert capfd.readouterr().err == ("why\n" if error.code == "why" else "")


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), KeyboardInterrupt("a person")])
def test_an_exception_ends_the_control_process_and_runs_nothing_of_the_parents(
    error: BaseException, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        code = supervised(leaves(error))
    finally:  # the child must never come here
        with (tmp_path / "came").open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
    assert code == 1
    assert (tmp_path / "came").read_text(encoding="utf-8") == f"{os.getpid()}\n"
    assert str(error) in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (signal.SIGKILL, "killed by SIGKILL (by hand, or by the system because memory ran out"),
        (signal.SIGSEGV, "killed by SIGSEGV (a fault in native code)"),
        (signal.SIGTERM, "killed by SIGTERM."),
    ],
)
def test_a_killed_control_process_is_named_and_not_restarted(
    number: int, hint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def drive() -> int:
        with (tmp_path / "runs").open("a", encoding="utf-8") as file:
            file.write("x")
        return kills_itself(number)()

    assert supervised(drive) == KILLED
    err = capfd.readouterr().err
    assert f"error: the control process was {hint}" in err
    assert "The servos hold their last goal, with torque on. Nothing is restarted" in err
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "x"


def waits_for_a_stop(send: Callable[[], None]) -> Callable[[], int]:
    """Exit code 5 when it was asked to end, 6 when it never was."""

    def drive() -> int:
        with StopSignals() as signals:
            send()
            until = time.monotonic() + 20
            while signals.reason is None and time.monotonic() < until:
                time.sleep(0.005)
            return 5 if signals.reason == "The process was asked to end (SIGTERM)." else 6

    return drive


def test_sigterm_to_the_supervisor_reaches_the_control_process() -> None:
    assert supervised(waits_for_a_stop(lambda: os.kill(os.getppid(), signal.SIGTERM))) == 5


def test_sigterm_before_the_control_process_is_there_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither ends the supervisor alone nor lets an arm begin to move."""
    fork = os.fork

    def slow() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return fork()

    monkeypatch.setattr(os, "fork", slow)
    assert supervised(lambda: 0) == KILLED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_terminals_signals_leave_the_supervisor_alone(number: int) -> None:
    def drive() -> int:
        os.kill(os.getppid(), number)
        time.sleep(0.05)
        return 7

    assert supervised(drive) == 7


def test_a_control_process_handles_signals_as_the_parent_did(capfd: pytest.CaptureFixture[str]) -> None:
    def drive() -> int:
        return 0 if signal.getsignal(signal.SIGINT) is signal.default_int_handler else 1

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert supervised(drive) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_ends_at_once_and_says_what_torque_does(capfd: pytest.CaptureFixture[str]) -> None:
    def drive() -> int:
        with StopSignals():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        return 0

    assert supervised(drive) == ENDED_AT_ONCE
    assert "Ended at once. Torque is left as it is: the servos hold their last goal." in capfd.readouterr().err


def test_without_fork_it_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    here: list[Any] = []

    def drive() -> int:
        here.append(sys.modules["smolpilot"])
        return 4

    assert supervised(drive) == 4
    assert len(here) == 1


def test_the_parent_attends_until_the_control_process_has_ended() -> None:
    seen: list[bool] = []
    reader, writer = os.pipe()

    def attend(ended: Callable[[], bool]) -> None:
        seen.append(ended())
        os.write(writer, b"x")  # the control process ends only now
        until = time.monotonic() + 20
        while not ended() and time.monotonic() < until:
            time.sleep(0.005)
        seen.extend((ended(), ended()))

    try:
        assert supervised(lambda: len(os.read(reader, 1)) + 7, attend) == 8
    finally:
        os.close(reader)
        os.close(writer)
    assert seen == [False, True, True]


def test_a_killed_control_process_is_named_when_it_was_attended(capfd: pytest.CaptureFixture[str]) -> None:
    def attend(ended: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not ended() and time.monotonic() < until:
            time.sleep(0.005)

    assert supervised(kills_itself(signal.SIGKILL), attend) == KILLED
    assert "error: the control process was killed by SIGKILL" in capfd.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), KeyboardInterrupt(), SystemExit(9), None])
def test_the_parent_waits_however_attending_ends(
    error: BaseException | None, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def attend(ended: Callable[[], bool]) -> None:
        (tmp_path / "over").touch()
        if error is not None:
            raise error

    def drive() -> int:
        until = time.monotonic() + 20
        while not (tmp_path / "over").exists() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(0.05)
        (tmp_path / "driven").touch()
        return 6

    assert supervised(drive, attend) == 6
    assert (tmp_path / "driven").exists(), "it was waited for"
    said = capfd.readouterr().err
    if error is None:
        assert said == ""
    else:
        assert said == (
            f"error: what shows the run and reads its keys has failed ({type(error).__name__}: {error}). "
            "The control process goes on; Ctrl-C stops it and holds the arm.\n"
        )


def test_sigterm_reaches_the_control_process_also_while_it_is_attended() -> None:
    def attend(ended: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not ended() and time.monotonic() < until:
            time.sleep(0.005)

    assert supervised(waits_for_a_stop(lambda: os.kill(os.getppid(), signal.SIGTERM)), attend) == 5
