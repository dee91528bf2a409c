"""A parent for the process that drives an arm: when that one dies, somebody is left who says so."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

_TO_THE_CHILD = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP") if hasattr(signal, name)
)  # from a terminal, to both: this process stays, to say what became of the other
KILLED = 1
"""Exit code when the control process was killed: what it did is unfinished."""


def supervised(drive: Callable[[], int], attend: Callable[[Callable[[], bool]], None] | None = None) -> int:
    """Run `drive` in a process of its own, wait for it, and say why it ended if it did not end by itself.

    Nothing is restarted: an arm that begins to move again by itself is a hazard. Signals go to the control process,
    which stops and holds; Ctrl-C in a terminal reaches it directly. It is asked to end when this process is killed.
    The exit code is that of `drive`. Call it before any thread is started. Where there is no fork (Windows), `drive`
    runs here and nobody watches it.

    attend: what this process does meanwhile, instead of only waiting; it gets a function that tells whether the control
    process has ended, and returns then. Whatever becomes of it, the control process is waited for.
    """
    if not hasattr(os, "fork"):
        return drive()
    _flush()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _TO_THE_CHILD}
    asked_to_end = _PassedOn()  # before there is anybody to pass it on to: else it would end this process alone
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, asked_to_end)
    life, alive = os.pipe()  # `alive` closes with this process, however it ends
    try:
        child = os.fork()
        if child == 0:
            for number, handler in before.items():
                # A control process that is halted holds no arm: Ctrl-Z is for who can slow down (StopSignals).
                signal.signal(number, signal.SIG_IGN if number == signal.SIGTSTP else handler)
            os.close(alive)
            asked_to_end.to(os.getpid())
            _run(drive, life)
        asked_to_end.to(child)
        if attend is not None:
            _attended(attend, child)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(life)
        os.close(alive)
        for number, handler in before.items():
            signal.signal(number, handler)
    if os.WIFSIGNALED(status):
        _say(_cause(os.WTERMSIG(status)))
        return KILLED
    return os.waitstatus_to_exitcode(status)


def _run(drive: Callable[[], int], life: int) -> None:
    """The control process: ends here, whatever happens, and runs nothing of the parent's."""
    code = 1
    try:
        threading.Thread(target=_watch, args=(life,), daemon=True).start()
        code = drive()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _flush()
        os._exit(code)


def _attended(attend: Callable[[Callable[[], bool]], None], child: int) -> None:
    def ended() -> bool:
        # It is reaped later: until then nobody else gets its number, to which SIGTERM is passed on.
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    try:
        attend(ended)
    except BaseException as error:  # an arm may be moving: who waits for its process must stay
        _say(
            f"error: what shows the run and reads its keys has failed ({type(error).__name__}: {error}). "
            "The control process goes on; Ctrl-C stops it and holds the arm."
        )


def _say(text: str) -> None:
    with contextlib.suppress(Exception):  # nobody may be there to read it
        print(text, file=sys.stderr, flush=True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a pipe that nobody reads any more; None, where it was closed before
            stream.flush()


def _watch(life: int) -> None:
    """In the control process: whoever has killed its parent has meant the arm."""
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)


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
