from __future__ import annotations

import os
import signal
import threading

import pytest

from smolpilot.training.run.interrupts import Interrupts


def test_the_first_signal_is_a_wish_and_the_second_ctrl_c_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert interrupts.requested == ""
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.requested == "Ctrl-C"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_is_a_wish_too() -> None:
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.requested == "SIGTERM"


def test_outside_the_main_thread_signals_keep_their_handlers() -> None:
    before, errors = signal.getsignal(signal.SIGINT), []

    def use() -> None:
        try:
            with Interrupts():
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors == []
    assert signal.getsignal(signal.SIGINT) is before
