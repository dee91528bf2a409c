"""The keys that a person presses while an arm runs: one at a time, and nothing that is pasted or an arrow key."""

from __future__ import annotations

import contextlib
import enum
import math
import os
import select
import termios
import time
from types import TracebackType
from typing import Self

from smolpilot.common.errors import UsageError
from smolpilot.common.text import shown

from .snapshot import Key

ONE_PRESS = 0.75
"""Seconds within which the same key again is the same press, counted from its last byte.

A key that is held down repeats after 0.25 to 0.66 s, then 30 times a second: an Enter that re-arms and is held a little
long must not start the episode, too.
"""
TOGETHER = 0.03
"""Seconds within which different keys were not pressed by a person: text that was pasted, in several pieces."""
UNFINISHED = 0.25
"""Seconds after which an escape sequence without its end was the key Escape: what follows is a key again."""
PASTE_CUT = 1.0
"""Seconds of silence after which a paste without its end has ended."""
NOT_READ = 0.25
"""Seconds without a look at the keyboard after which a key that was held may have been released meanwhile."""

_KEYS = {b" ": Key.STOP, b"\n": Key.ENTER, b"s": Key.SUCCESS, b"f": Key.FAILURE, b"q": Key.QUIT}
_NAMES = {"space": b" "}
_ESCAPE, _BELL, _MOUSE = 0x1B, 0x07, 3  # a mouse that an earlier program left on: three bytes of any value
_PASTE_END = b"\x1b[201~"
_PASTES_IN_BRACKETS, _PASTES_BARE = b"\x1b[?2004h", b"\x1b[?2004l"


def hold_byte(hold_key: str | None) -> bytes | None:
    """What the terminal sends for the key of --hold-to-run. UsageError for anything but one letter or `space`."""
    if hold_key is None:
        return None
    letter = hold_key.lower()
    if letter in _NAMES:
        return _NAMES[letter]
    if len(letter) != 1 or not letter.isascii() or not letter.isalpha():
        raise UsageError(f"The key to be held is {shown(hold_key)}.", expected="one letter from a to z, or `space`")
    return letter.encode()


class _In(enum.Enum):
    """What the next byte belongs to."""

    NOTHING = enum.auto()
    ESCAPE = enum.auto()
    CONTROL = enum.auto()
    """`ESC [ ...`, to its final letter."""
    FEW = enum.auto()
    """A known number of bytes."""
    STRING = enum.auto()
    """An answer of the terminal, to BEL or `ESC \\`."""
    PASTE = enum.auto()


class _Sequences:
    """Tells bytes that are keys of their own from those of escape sequences and pastes, over several reads."""

    def __init__(self) -> None:
        self._state = _In.NOTHING
        self._held = b""  # of the sequence so far, or the end of what was pasted
        self._left = 0
        self._last_at = -math.inf

    def own(self, data: bytes, now: float) -> bytes:
        """The bytes that stand alone."""
        longest = PASTE_CUT if self._state is _In.PASTE else UNFINISHED
        if now - self._last_at > longest:
            self._state = _In.NOTHING
        self._last_at = now
        return bytes(byte for byte in data if self._alone(byte))

    def _alone(self, byte: int) -> bool:
        state = self._state
        if state is _In.PASTE:
            self._held = (self._held + bytes([byte]))[-len(_PASTE_END) :]
            if self._held == _PASTE_END:
                self._state = _In.NOTHING
        elif byte == _ESCAPE:
            self._state = _In.ESCAPE
        elif state is _In.NOTHING:
            return True
        elif state is _In.ESCAPE:
            return self._after_escape(byte)
        elif state is _In.CONTROL:
            self._in_control(byte)
        elif state is _In.STRING:
            self._state = _In.NOTHING if byte == _BELL else state
        else:
            self._left -= 1
            self._state = state if self._left else _In.NOTHING
        return False

    def _after_escape(self, byte: int) -> bool:
        self._held = b""
        self._state = _In.NOTHING
        if byte == ord("["):
            self._state = _In.CONTROL
        elif byte == ord("O"):
            self._state, self._left = _In.FEW, 1
        elif byte in b"]PX^_":
            self._state = _In.STRING
        # Else a letter with Alt; but who hits Escape and the space bar in a hurry wants to stop.
        return byte == ord(" ")

    def _in_control(self, byte: int) -> None:
        if byte == ord("[") and not self._held:
            self._state, self._left = _In.FEW, 1  # a function key of Linux's console
        elif 0x20 <= byte <= 0x3F:
            self._held += bytes([byte])
        elif byte == ord("M") and not self._held:
            self._state, self._left = _In.FEW, _MOUSE
        else:
            self._state = _In.PASTE if self._held + bytes([byte]) == b"200~" else _In.NOTHING
            self._held = b""


class KeyDecoder:
    """Bytes of a terminal to keys.

    - Space stops, Enter, s, f and q in upper or lower case; all others mean nothing. Each byte of the key to be held is
      HELD, and that key means nothing else.
    - Escape sequences (arrow keys, function keys, letters with Alt) and pastes in brackets are no keys.
    - The same key again within ONE_PRESS is one press, so that several Enters that piled up are one; STOP and HELD
      count always.
    - Of different keys that come at once or within TOGETHER, only STOP counts: nobody presses two keys at once, so it
      is a paste on a terminal without brackets, or piled up while nobody read, and what the keys were meant for is
      over. The key to be held may go before one other key: it repeats until that one is pressed.
    - HELD that comes after nobody has read for NOT_READ does not count: the key may have been let go.
    """

    def __init__(self, hold_key: str | None = None) -> None:
        self._hold = hold_byte(hold_key)
        self._meaning = {byte: key for byte, key in _KEYS.items() if byte != self._hold}
        self._sequences = _Sequences()
        self._pressed: dict[Key, float] = {}
        self._together: set[bytes] = set()
        self._last_at = self._looked_at = -math.inf

    def keys(self, data: bytes, now: float) -> list[Key]:
        """The keys in what was read at `now`, seconds that only grow. Call it after each look, also with nothing."""
        stale = now - self._looked_at > NOT_READ and self._looked_at > -math.inf
        self._looked_at = now
        if not data:
            return []
        alone = self._sequences.own(data, now).lower().replace(b"\r", b"\n")
        pressed = [bytes([byte]) for byte in alone]
        others = [byte for byte in pressed if byte != self._hold]
        if now - self._last_at > TOGETHER:
            self._together = set()
        self._last_at = now if others else self._last_at
        self._together.update(others)
        if len(self._together) > 1:
            return [Key.STOP] if self._meaning.get(b" ") and b" " in others else []
        found = [] if stale or not self._together <= set(self._meaning) else [Key.HELD] * (len(pressed) - len(others))
        if others and (key := self._meaning.get(others[0])) and (self._is_new(key, now) or key is Key.STOP):
            found.append(key)
        return found

    def _is_new(self, key: Key, now: float) -> bool:
        before = self._pressed.get(key, -math.inf)
        self._pressed[key] = now
        return now - before > ONE_PRESS


class Keyboard:
    """A terminal that gives each key at once and shows none, while it is entered; then it is as before.

    Ctrl-C stays a signal. Ctrl-S and Ctrl-V lose their meaning: one would halt what is shown, the other would make a
    letter of Ctrl-C. Reading waits for nothing.
    """

    def __init__(self, terminal: int, hold_key: str | None = None) -> None:
        """terminal: a descriptor. UsageError for a key that cannot be held."""
        self.terminal = terminal
        self.gone = False
        """The terminal was closed."""
        self._decoder = KeyDecoder(hold_key)
        self._before: list[object] | None = None

    def __enter__(self) -> Self:
        """OSError where it is no terminal, or another program's at the moment (a job in the background)."""
        try:
            _refuse_background(self.terminal)
            self._before = termios.tcgetattr(self.terminal)
            mode = termios.tcgetattr(self.terminal)
            mode[0] &= ~termios.IXON
            mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 0, 0
            termios.tcsetattr(self.terminal, termios.TCSANOW, mode)
            self._say(_PASTES_IN_BRACKETS)
        except termios.error as error:
            raise OSError(*error.args) from None
        except BaseException:  # also that of a handler of a signal
            self._restore()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._restore()

    def read(self) -> list[Key]:
        """The keys since the last call, oldest first; none, and `gone`, where the terminal was closed."""
        data = b""
        while not self.gone and len(data) < 65_536:
            happened = _happened(self.terminal, select.POLLIN)
            if happened & select.POLLIN:
                try:
                    piece = os.read(self.terminal, 4_096)
                except OSError:
                    self.gone = True
                    break
                data += piece
                if piece:
                    continue
            self.gone = bool(happened & (select.POLLHUP | select.POLLERR | select.POLLNVAL))
            break
        return self._decoder.keys(data, time.monotonic())

    def _restore(self) -> None:
        before, self._before = self._before, None
        if before is None:
            return
        with contextlib.suppress(OSError, termios.error):  # it was closed
            self._say(_PASTES_BARE)
            # What is typed and was not read is not for the shell. TCSAFLUSH would wait for the screen.
            termios.tcflush(self.terminal, termios.TCIFLUSH)
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self.terminal, termios.TCSANOW, before)  # type: ignore[arg-type]

    def _say(self, sequence: bytes) -> None:
        with contextlib.suppress(OSError):  # open for reading only
            if _happened(self.terminal, select.POLLOUT) & select.POLLOUT:
                os.write(self.terminal, sequence)


def _refuse_background(terminal: int) -> None:
    """A job in the background that touches its terminal is halted by the system."""
    try:
        front = os.tcgetpgrp(terminal)
    except OSError:  # not the one that this process was started from
        return
    if front != os.getpgrp():
        raise OSError("this is a job in the background")


def _happened(descriptor: int, events: int) -> int:
    poll = select.poll()
    poll.register(descriptor, events)
    return next((happened for _, happened in poll.poll(0)), 0)
