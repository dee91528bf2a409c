"""LineProcess: a process that is spoken to by lines on pipes; neither asking nor listening waits."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

_ENDING_S = 3.0


class LineProcess:
    """Runs until `close`, or until it ends by itself: it is to end when its standard input does.

    It has a session of its own: Ctrl-C is for the control process, which has to bring the arm to rest first.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """log: takes what it prints on standard error. OSError where it cannot be started."""
        self._said = log.open("ab")
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True,
                bufsize=0,
            )  # fmt: skip
        except BaseException:
            self._said.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._told = self._process.stdin, self._process.stdout
        for pipe in (self._asked, self._told):
            os.set_blocking(pipe.fileno(), False)
        self._rest = b""
        self.number = self._process.pid

    @property
    def ended(self) -> int | None:
        """Its exit code, minus the signal that killed it; None while it runs."""
        return self._process.poll()

    @property
    def how_it_ended(self) -> str:
        """In words, as `was killed by SIGKILL`."""
        code = self.ended
        if code is None:
            return "runs"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def write(self, line: str) -> None:
        """Say a line. That the process has ended, `ended` tells; that it reads nothing any more, its silence."""
        with contextlib.suppress(OSError, ValueError):
            self._asked.write(line.encode() + b"\n")

    def lines(self) -> list[str]:
        """Whole lines that have come since."""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._told.fileno(), 65_536):
                self._rest += more
        *lines, self._rest = self._rest.split(b"\n")
        return [line.decode() for line in lines]

    def wait(self, seconds: float) -> None:
        """Until something comes, the process ends, or the time is over."""
        select.select([self._told], [], [], seconds)

    def finish(self) -> None:
        """Say that nothing follows: it ends by itself."""
        with contextlib.suppress(OSError):
            self._asked.close()

    def close(self) -> None:
        """End it, at once where it does not end by itself; without effect where it has ended."""
        self.finish()
        with contextlib.suppress(OSError):
            self._told.close()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()
