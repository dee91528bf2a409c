"""StopSignals: a signal is noted and ends nothing by itself; afterwards signals do what they did."""

from __future__ import annotations

import os
import signal

import pytest

from smolpilot.runtime.signals import StopSignals


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGINT, "Ctrl-C was pressed."),
        (signal.SIGTERM, "The process was asked to end (SIGTERM)."),
        (signal.SIGHUP, "The terminal was closed."),
    ],
)
def test_a_signal_is_noted_and_this_process_goes_on(number: int, reason: str) -> None:
    with StopSignals() as signals:
        assert signals.reason is None
        assert signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN)  # it would end this process
        os.kill(os.getpid(), number)
        assert signals.reason == reason


def test_the_first_reason_is_kept() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.reason == "Ctrl-C was pressed."


def test_handlers_are_put_back_also_after_an_error() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with StopSignals():
            assert all(signal.getsignal(number) not in before for number in numbers)
            raise ValueError("in between")
    except ValueError:
        pass
    assert [signal.getsignal(number) for number in numbers] == before
