"""Where a run is shown: a terminal, or lines where there is none. Nobody who does not read them can halt the sender."""

from __future__ import annotations

import contextlib
import math
import os
import select
import stat
import sys
import time
from typing import Any, Protocol

from smolpilot.common.text import plain

from .snapshot import Phase, Snapshot

_PIECE = select.PIPE_BUF  # bytes that a pipe which has room takes without waiting
_LAST_S = 0.5  # for what stands at the end, when a terminal is slow
_EVERY_S = 10.0
_SHOW_CURSOR = b"\x1b[?25h"


class Shown(Protocol):
    """What is told how a run stands."""

    def show(self, snapshot: Snapshot, silent: float, keys: bool) -> None:
        """silent: seconds since the snapshot came, infinite where none follows; keys: whether there is a keyboard."""

    def close(self) -> None:
        """Nothing follows."""


def screen() -> Shown:
    """A live view on standard error or output, the first that is a terminal; else lines on standard error."""
    if os.environ.get("TERM", "") not in ("dumb", "unknown"):
        for stream, descriptor in ((sys.stderr, 2), (sys.stdout, 1)):
            if os.isatty(descriptor_of(stream, descriptor)):
                return LiveScreen(descriptor)
    return Lines(descriptor_of(sys.stderr, 2))


def descriptor_of(stream: object, descriptor: int) -> int:
    """The descriptor of a standard stream; -1 where it was closed: the number is something else's by now."""
    return -1 if stream is None else descriptor


class Output:
    """A descriptor that is written to without waiting; what it does not take now is kept for the next time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._own = descriptor, False
        self._piece = _PIECE
        self._left = b""
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                # Opened again, so that not waiting is this process's affair and not that of all who share it.
                self._descriptor = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
                self._own = True
            elif stat.S_ISREG(os.fstat(descriptor).st_mode):
                self._piece = 1 << 20

    @property
    def behind(self) -> bool:
        """Something is left: what comes next would only wait behind it."""
        return bool(self._left)

    def write(self, data: bytes) -> None:
        """Write as much as is taken."""
        self._left = self._left + data if self._descriptor >= 0 else b""
        while self._left:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            happened = next((happened for _, happened in poll.poll(0)), 0)
            if happened & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                self._left = b""  # nobody reads it any more
            if not happened & select.POLLOUT:
                return
            try:
                written = os.write(self._descriptor, self._left[: self._piece])
            except BlockingIOError:
                return
            except OSError:
                written = len(self._left)
            self._left = self._left[written:]

    def close(self, last: bytes = b"") -> None:
        """Write what is left, in a bounded time, and then `last`."""
        until = time.monotonic() + _LAST_S
        self.write(last)
        while self._left and time.monotonic() < until:
            time.sleep(0.01)
            self.write(b"")
        if self._own:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._own, self._descriptor = False, -1


class _Buffer:
    """A text stream for rich, which asks it whether it is a terminal; what is written is taken out as bytes."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._text: list[str] = []

    def write(self, text: str) -> int:
        self._text.append(text)
        return len(text)

    def flush(self) -> None:
        """Nothing: it is taken out."""

    def isatty(self) -> bool:
        return True

    def taken(self) -> bytes:
        text, self._text = "".join(self._text), []
        return text.encode(self.encoding, "backslashreplace")


class LiveScreen:
    """`RunView`, drawn over itself."""

    def __init__(self, descriptor: int) -> None:
        self._output = Output(descriptor)
        stream = sys.stderr if descriptor == 2 else sys.stdout
        self._buffer = _Buffer(getattr(stream, "encoding", None) or "utf-8")
        self._live: Any = None

    def show(self, snapshot: Snapshot, silent: float, keys: bool) -> None:
        """Draw it; nothing where the terminal has not taken the one before."""
        self._output.write(b"")
        if self._output.behind:
            return
        from .live_view import RunView

        view = RunView(snapshot, silent, keys)
        if self._live is None:
            self._live = self._started()
        self._live.update(view, refresh=True)
        self._output.write(self._buffer.taken())

    def _started(self) -> Any:
        from rich.live import Live

        from smolpilot.common.terminal import Terminal

        # The streams stay what they are: the control process prints to its own, and this one prints nothing meanwhile.
        live = Live(
            console=Terminal(file=self._buffer),  # type: ignore[arg-type]
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def close(self) -> None:
        """The last view stays; the cursor is back."""
        live, self._live = self._live, None
        if live is None:
            self._output.close()
            return
        try:
            live.stop()
        finally:
            self._output.close(self._buffer.taken() + _SHOW_CURSOR)


class Lines:
    """One line whenever phase, episode or stop are others, and every ten seconds."""

    def __init__(self, descriptor: int) -> None:
        self._output = Output(descriptor)
        self._last: tuple[Phase, int, str | None, str | None, bool] | None = None
        self._at = 0.0

    def show(self, snapshot: Snapshot, silent: float, keys: bool) -> None:
        """Write a line, or nothing."""
        self._output.write(b"")
        now = time.monotonic()
        gone = math.isinf(silent) and snapshot.phase is not Phase.ENDED
        state = snapshot.phase, snapshot.episode, snapshot.stop, snapshot.notice, gone
        if (state == self._last and now - self._at < _EVERY_S) or self._output.behind:
            return
        self._last, self._at = state, now
        self._output.write(f"{line(snapshot, silent)}\n".encode("utf-8", "backslashreplace"))

    def say(self, text: str) -> None:
        """A line of its own."""
        self._output.write(f"{plain(text)}\n".encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Nothing follows."""
        self._output.close()


def line(snapshot: Snapshot, silent: float = 0.0) -> str:
    """A snapshot in one line, in which nothing acts on a terminal."""
    parts = ["dry run"] * snapshot.dry_run
    of = "" if snapshot.of_seconds is None else f" of {snapshot.of_seconds:.0f}"
    parts += [f"episode {snapshot.episode} of {snapshot.episodes}", f"{snapshot.seconds:.1f}{of} s"]
    if snapshot.achieved is not None:
        parts.append(f"{snapshot.achieved:.1f} of {snapshot.rate:g} Hz")
    parts += [f"missed {snapshot.missed}", f"starved {snapshot.starved}"]
    if not snapshot.policy_alive:
        parts.append("the policy's process is gone")
    if math.isinf(silent) and snapshot.phase is not Phase.ENDED:
        parts.append("the control process has ended")
    elif _EVERY_S / 2 < silent < math.inf:
        parts.append(f"nothing heard for {silent:.0f} s")
    why = [f": {text}" for text in (snapshot.stop, snapshot.notice) if text is not None]
    return plain(f"{snapshot.phase}: {', '.join(parts)}{''.join(why)}")
