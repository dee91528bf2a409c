"""A parent for the process that drives an arm: when that one dies, somebody is left who says so."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

KILLED = 1
"""Exit code when the control process was killed: what it did is unfinished."""


def supervised(drive: Callable[[], int]) -> int:
    """Run `drive` in a process of its own, wait for it, and say why it ended if it did not end by itself.

    Nothing is restarted: an arm that begins to move again by itself is a hazard. Signals go to the control process,
    which stops and holds; Ctrl-C in a terminal reaches it directly. The exit code is that of `drive`. Call it before
    any thread is started. Where there is no fork (Windows), `drive` runs here and nobody watches it.
    """
    if not hasattr(os, "fork"):
        return drive()
    sys.stdout.flush()
    sys.stderr.flush()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    asked_to_end = _PassedOn()  # before there is anybody to pass it on to: else it would end this process alone
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, asked_to_end)
    try:
        child = os.fork()
        if child == 0:
            for number, handler in before.items():
                signal.signal(number, handler)
            asked_to_end.to(os.getpid())
            _run(drive)
        asked_to_end.to(child)
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if os.WIFSIGNALED(status):
        print(_cause(os.WTERMSIG(status)), file=sys.stderr)
        return KILLED
    return os.waitstatus_to_exitcode(status)


def _run(drive: Callable[[], int]) -> None:
    """The control process: ends here, whatever happens, and runs nothing of the parent's."""
    code = 1
    try:
        code = drive()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _PassedOn:
    """A handler of SIGTERM: the control process gets it, as soon as there is one."""

    def __init__(self) -> None:
        self._came = False
        self._process: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        self._came = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(self._process, signal.SIGTERM)

    def to(self, process: int) -> None:
        """From now on to this process, and now what came before."""
        self._process = process
        if self._came:
            self(signal.SIGTERM, None)


def _cause(number: int) -> str:
    name = signal.Signals(number).name
    hints = {
        "SIGKILL": " (by hand, or by the system because memory ran out: `dmesg` tells)",
        "SIGSEGV": " (a fault in native code)",
        "SIGBUS": " (a file or device went away under it)",
    }
    return (
        f"error: the control process was killed by {name}{hints.get(name, '')}.\n"
        "The servos hold their last goal, with torque on. Nothing is restarted; when you have looked at the arm, run "
        "the command again: it begins where the arm stands."
    )
