"""The parent of a control process: shows what it tells, and passes on what a person presses. It waits for nobody."""

from __future__ import annotations

import contextlib
import math
import os
import select
import sys
import time
from collections.abc import Callable, Iterator

import pydantic

from .keys import Keyboard
from .screen import Lines, Shown, descriptor_of, screen
from .snapshot import Key, Snapshot

FRESH = 3.0
"""Seconds that a snapshot is good for Enter: what that does depends on the phase, and an older one may be over."""

_WAIT_S = 0.05  # at most, before `ended` is asked again and a stop that was not taken is sent again
_DRAW_S = 0.1
_QUIET_S = 0.5  # a view is drawn again although nothing came: it tells for how long
_MOST_BYTES = 16 << 20  # of a line that never ends
_PIECE, _MOST_PIECES = 1 << 16, 64  # read at once, before keys are looked at again


def attend(snapshots: int, keys: int, ended: Callable[[], bool], *, hold_key: str | None, interactive: bool) -> None:
    """Show the snapshots of a control process, and send it keys, until `ended`.

    snapshots: the end of a pipe from which one Snapshot a line is read; keys: the end of one into which one Key a line
    is written. Both are made non-blocking; they are not closed. interactive: read keys from standard input where that
    is a terminal; it is as before when this returns, however it does.

    A line that is torn or no snapshot is left out. Enter counts while the newest snapshot is FRESH. A key for which the
    pipe has no room is dropped; STOP is sent again until it is taken, and GONE, that the terminal was closed, for ever.
    UsageError for a key that cannot be held: let `hold_byte` say so before an arm is opened.
    """
    with contextlib.ExitStack() as stack:
        shown = _Careful()
        stack.callback(shown.close)
        keyboard = Keyboard(0, hold_key) if interactive and sys.stdin is not None and os.isatty(0) else None
        if keyboard is not None:
            try:
                stack.enter_context(keyboard)
            except OSError as error:
                shown.say(f"No keys: {error}. Ctrl-C, or `kill {os.getpid()}`, stops and holds.")
                keyboard = None
        _attend(SnapshotPipe(snapshots), KeyPipe(keys), keyboard, shown, ended)


def _attend(
    source: SnapshotPipe, sink: KeyPipe, keyboard: Keyboard | None, shown: _Careful, ended: Callable[[], bool]
) -> None:
    newest: Snapshot | None = None
    came_at, drawn_at, over, gone = time.monotonic(), -math.inf, False, False
    while not over:
        over = ended()  # before the last look: what it sent before it ended is shown
        for newest in source.lines():
            came_at = time.monotonic()
            shown.note(newest, keyboard is not None)
        now = time.monotonic()
        if keyboard is not None:
            for key in keyboard.read():
                if key is not Key.ENTER or (newest is not None and now - came_at < FRESH):
                    sink.send(key)
            gone = keyboard.gone
            keyboard = None if gone else keyboard
        if gone:  # again and again: it must not be lost in a pipe that is full
            sink.send(Key.GONE)
        sink.again()
        due = now - drawn_at >= (_DRAW_S if came_at > drawn_at else _QUIET_S)
        if newest is not None and (due or over):
            drawn_at = now
            shown.draw(newest, math.inf if over else now - came_at, keyboard is not None)
        if not over:
            _wait([source.descriptor, None if keyboard is None else keyboard.terminal])


def _wait(descriptors: list[int | None]) -> None:
    """Until there is something to read, at most `_WAIT_S`."""
    poll = select.poll()
    for descriptor in descriptors:
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
    poll.poll(1_000 * _WAIT_S)


class SnapshotPipe:
    """The snapshots of a pipe, as far as they have come."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int | None = descriptor
        """None: the other end was closed."""
        self._rest = b""
        with contextlib.suppress(OSError):
            os.set_blocking(descriptor, False)

    def lines(self) -> Iterator[Snapshot]:
        """What has come, oldest first."""
        for _ in range(_MOST_PIECES):
            if self.descriptor is None:
                break
            try:
                piece = os.read(self.descriptor, _PIECE)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                self.descriptor = None
            self._rest += piece
            if len(piece) < _PIECE:
                break
        *whole, self._rest = self._rest.split(b"\n")
        self._rest = b"" if len(self._rest) > _MOST_BYTES else self._rest
        for one in whole:
            with contextlib.suppress(pydantic.ValidationError):
                yield Snapshot.model_validate_json(one)


class KeyPipe:
    """Keys into a pipe that may be full, or whose other end is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._stop_left = False
        with contextlib.suppress(OSError):
            os.set_blocking(descriptor, False)

    def send(self, key: Key) -> None:
        """Send it, or drop it. While a STOP waits, nothing may come before it."""
        if self._stop_left or self._taken(key):
            return
        self._stop_left = key is Key.STOP

    def again(self) -> None:
        """Send a STOP that was not taken."""
        self._stop_left = self._stop_left and not self._taken(Key.STOP)

    def _taken(self, key: Key) -> bool:
        try:
            os.write(self._descriptor, f"{key}\n".encode())  # whole or not at all: it is short
        except BlockingIOError:
            return False
        except OSError:
            return True  # nobody is there any more
        return True


class _Careful:
    """What shows a run; where that fails, lines do, and keys go on to be read."""

    def __init__(self) -> None:
        self._shown: Shown = screen()
        self._lines: Lines | None = self._shown if isinstance(self._shown, Lines) else None

    def note(self, snapshot: Snapshot, keys: bool) -> None:
        """Each snapshot: lines miss no change."""
        if self._lines is not None:
            self._lines.show(snapshot, 0.0, keys)

    def draw(self, snapshot: Snapshot, silent: float, keys: bool) -> None:
        """How it stands now."""
        try:
            self._shown.show(snapshot, silent, keys)
        except Exception as error:
            self.close()
            self._shown = self._lines = Lines(descriptor_of(sys.stderr, 2))
            self.say(f"The view of the run failed ({type(error).__name__}: {error}). Keys work as before.")

    def say(self, text: str) -> None:
        """A line beside the view, before it begins or after it has failed."""
        lines = self._lines or Lines(descriptor_of(sys.stderr, 2))
        lines.say(text)
        if self._lines is None:
            lines.close()

    def close(self) -> None:
        """Nothing follows."""
        with contextlib.suppress(Exception):
            self._shown.close()
