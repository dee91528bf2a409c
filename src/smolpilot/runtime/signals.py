"""Ctrl-C, Ctrl-Z and SIGTERM while an arm moves: the first one stops and holds; a second Ctrl-C ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self

ENDED_AT_ONCE = 130
"""Exit code after a second Ctrl-C, as a shell has it for SIGINT."""

_REASONS = {
    "SIGINT": "Ctrl-C was pressed.",
    "SIGTERM": "The process was asked to end (SIGTERM).",
    "SIGHUP": "The terminal was closed.",
    "SIGTSTP": "Ctrl-Z was pressed.",
}
_SAID = (
    b"\nEnded at once. Torque is left as it is: the servos hold their last goal. "
    b"The emergency stop is the power switch.\n"
)


class StopSignals:
    """While it is entered, these signals end nothing by themselves: `reason` says that one came.

    A handler runs between any two lines, also within an exchange on the bus, so it does nothing but note; a second
    SIGINT leaves without closing anything.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._interrupted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for name in _REASONS:
            if (number := getattr(signal, name, None)) is not None:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                with contextlib.suppress(Exception):  # nobody may be there to read it
                    os.write(sys.stderr.fileno(), _SAID)
                os._exit(ENDED_AT_ONCE)
            self._interrupted = True
        if self.reason is None:
            self.reason = _REASONS[signal.Signals(number).name]
