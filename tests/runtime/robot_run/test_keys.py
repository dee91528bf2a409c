"""Bytes of a terminal to keys: what a person presses counts, what is pasted or an arrow key does not."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.runtime.robot_run.keys import (
    NOT_READ,
    ONE_PRESS,
    PASTE_CUT,
    TOGETHER,
    UNFINISHED,
    Keyboard,
    KeyDecoder,
    hold_byte,
)
from smolpilot.runtime.robot_run.snapshot import Key

STOP, ENTER, HELD = Key.STOP, Key.ENTER, Key.HELD


def keys(*read: bytes | tuple[float, bytes], hold: str | None = None) -> list[Key]:
    """The keys of several reads: one second apart, or after so many seconds."""
    decoder = KeyDecoder(hold)
    now = 100.0
    found = []
    for one in read:
        wait, data = (1.0, one) if isinstance(one, bytes) else one
        for part in range(int(wait / 0.1)):  # it is looked at all the time
            found += decoder.keys(b"", now + part * 0.1)
        now += wait
        found += decoder.keys(data, now)
    return found


@pytest.mark.parametrize(
    ("data", "key"),
    [(b" ", STOP), (b"\n", ENTER), (b"\r", ENTER), (b"\r\n", ENTER), (b"s", Key.SUCCESS), (b"S", Key.SUCCESS),
     (b"f", Key.FAILURE), (b"F", Key.FAILURE), (b"q", Key.QUIT), (b"Q", Key.QUIT)],
)  # fmt: skip
def test_each_key_means_one_thing_also_in_upper_case(data: bytes, key: Key) -> None:
    assert keys(data) == [key]


def test_other_keys_mean_nothing() -> None:
    known = set(b" \n\rsSfFqQ\x1b")
    assert [byte for byte in range(256) if keys(bytes([byte])) and byte not in known] == []


def test_keys_one_after_the_other_all_count() -> None:
    assert keys(b"\n", b" ", (0.1, b"\n"), b"s", b"q") == [ENTER, STOP, ENTER, Key.SUCCESS, Key.QUIT]


ARROWS = [b"\x1b[A", b"\x1bOA", b"\x1b[1;5C", b"\x1b[3~", b"\x1b[15~", b"\x1b[[A", b"\x1b\x1b[D", b"\x1bs", b"\x1b\n"]
STRINGS = [b"\x1b]11;rgb:ffff/s q\x07", b"\x1bP1$r q\x1b\\", b"\x1b[Ms q", b"\x1b[<0;3;4M", b"\x1b[?1;2c", b"\x1b[I"]


@pytest.mark.parametrize("sequence", ARROWS + STRINGS)
@pytest.mark.parametrize("hold", [None, "a", "m"])
def test_an_escape_sequence_is_swallowed_whole_in_one_read_or_in_many(sequence: bytes, hold: str | None) -> None:
    assert keys(sequence, hold=hold) == []
    assert keys(*((0.001, bytes([byte])) for byte in sequence), hold=hold) == []
    assert keys(sequence + b"s", hold=hold) == [Key.SUCCESS], "and what follows is a key again"


def test_the_key_escape_alone_swallows_no_key_that_is_pressed_later() -> None:
    assert keys(b"\x1b", (UNFINISHED + 0.01, b"q")) == [Key.QUIT]
    assert keys(b"\x1b[", (UNFINISHED + 0.01, b"\n")) == [ENTER]


def test_space_stops_also_in_a_hurry_after_escape() -> None:
    assert keys(b"\x1b ") == [STOP]
    assert keys(b"\x1b", (0.01, b" ")) == [STOP]
    assert keys(b"\x1b ", hold="space") == [HELD], "there it is the key to be held"


PASTED = b"pick up\nsfq  \x1b[A\n"


def test_what_is_pasted_in_brackets_is_nothing() -> None:
    whole = b"\x1b[200~" + PASTED + b"\x1b[201~"
    assert keys(whole) == []
    assert keys(whole + b"\n") == [ENTER]
    for cut in range(1, len(whole)):
        assert keys((0.001, whole[:cut]), (0.2, whole[cut:])) == [], cut


def test_a_paste_without_its_end_does_not_take_the_keyboard_away() -> None:
    assert keys(b"\x1b[200~abc", (PASTE_CUT / 2, b" ")) == []
    assert keys(b"\x1b[200~abc", (PASTE_CUT + 0.01, b" ")) == [STOP]


@pytest.mark.parametrize("text", [b"open\n", b"s\n", b"\nq", b"fs", b"hx", b"x\n\n"])
@pytest.mark.parametrize("hold", [None, "h"])
def test_what_is_pasted_without_brackets_is_nothing(text: bytes, hold: str | None) -> None:
    assert keys(text, hold=hold) == []
    for cut in range(2, len(text)):
        assert keys(text[:cut], (TOGETHER / 2, text[cut:]), hold=hold) == []


def test_stop_counts_wherever_it_stands() -> None:
    assert keys(b"\n \n") == [STOP]
    assert keys(b"hhh ", hold="h") == [HELD] * 3 + [STOP]
    assert keys(b"s q") == [STOP]


def test_one_key_that_piled_up_is_one_press() -> None:
    assert keys(b"\n\n\n\n") == [ENTER]
    assert keys(b"\n", (0.1, b"\n"), (0.5, b"\n")) == [ENTER]
    assert keys(b"\n", (ONE_PRESS + 0.01, b"\n")) == [ENTER, ENTER]
    assert keys(b"\n", *[(0.03, b"\n")] * 100) == [ENTER], "held down for three seconds"
    assert keys(b" ", (0.05, b" ")) == [STOP, STOP], "a stop is never one too many"


@pytest.mark.parametrize(("hold", "byte"), [("h", b"h"), ("H", b"h"), ("h", b"H"), ("space", b" "), ("s", b"s")])
def test_the_key_to_be_held_counts_each_time_and_means_nothing_else(hold: str, byte: bytes) -> None:
    assert keys(byte, *[(0.03, byte)] * 20, hold=hold) == [HELD] * 21
    assert keys(byte * 5, hold=hold) == [HELD] * 5


@pytest.mark.parametrize("pause", [0.005, 0.033])
def test_other_keys_count_while_one_is_held(pause: float) -> None:
    held = [(pause, b"h")] * 5
    found = keys(*held, (pause, b"s"), *held, (1.0, b"h"), *held, (pause, b"f"), hold="h")
    assert [key for key in found if key is not HELD] == [Key.SUCCESS, Key.FAILURE]
    assert keys(b"hhs", hold="h") == [HELD, HELD, Key.SUCCESS]


def test_a_held_key_that_piled_up_while_nobody_read_may_have_been_let_go() -> None:
    decoder = KeyDecoder("h")
    assert decoder.keys(b"h", 1.0) == [HELD]
    assert decoder.keys(b"hhhh", 1.0 + NOT_READ + 0.01) == []
    assert decoder.keys(b"h", 1.0 + NOT_READ + 0.04) == [HELD]
    assert decoder.keys(b"\n", 3.0) == [ENTER], "a press stays one"


@pytest.mark.parametrize("name", ["", "hh", "1", "\n", "ä", "enter", "\x1b"])
def test_only_a_letter_or_space_can_be_held(name: str) -> None:
    with pytest.raises(UsageError, match="The key to be held is"):
        hold_byte(name)
    assert (hold_byte(None), hold_byte("X"), hold_byte("Space")) == (None, b"x", b" ")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The person's end and the program's."""
    main_end, end = pty.openpty()
    yield main_end, end
    for descriptor in (main_end, end):
        with contextlib.suppress(OSError):  # closed by the test
            os.close(descriptor)


def comes(keyboard: Keyboard, *expected: Key, seconds: float = 20) -> list[Key]:
    """What is read until so many keys have come, or the time is over."""
    found: list[Key] = []
    until = time.monotonic() + seconds
    while len(found) < len(expected) and time.monotonic() < until:
        found += keyboard.read()
        time.sleep(0.002)
    return found


def test_a_key_comes_without_enter_and_is_not_shown(terminal: tuple[int, int]) -> None:
    person, end = terminal
    with Keyboard(end) as keyboard:
        assert keyboard.read() == [], "and waits for nothing"
        for data, key in ((b"\n", ENTER), (b" ", STOP), (b"q", Key.QUIT)):
            os.write(person, data)
            assert comes(keyboard, key) == [key]
            time.sleep(2 * TOGETHER)
    shown = b""
    while select.select([person], [], [], 0.3 if len(shown) >= 16 else 20)[0]:
        shown += os.read(person, 1_000)
    assert shown == b"\x1b[?2004h\x1b[?2004l", "no echo; pastes come in brackets, and then no more"


def test_junk_of_a_terminal_gives_no_key(terminal: tuple[int, int]) -> None:
    person, end = terminal
    with Keyboard(end) as keyboard:
        for junk in (b"\x1b[A\x1b[B", b"\x1b[200~" + PASTED + b"\x1b[201~", b"open the box\n".replace(b" ", b"_")):
            os.write(person, junk)
            time.sleep(2 * TOGETHER)
            os.write(person, b" ")
            assert comes(keyboard, STOP) == [STOP]


def test_several_presses_that_piled_up_are_one_and_a_held_key_comes_again_and_again(terminal: tuple[int, int]) -> None:
    person, end = terminal
    os.write(person, b"\n\n\n")
    with Keyboard(end, "h") as keyboard:
        os.write(person, b"\n\n\n")
        assert comes(keyboard, ENTER) == [ENTER]
        time.sleep(2 * TOGETHER)
        os.write(person, b" ")
        assert comes(keyboard, STOP) == [STOP], "and no second Enter before it"
        for _ in range(3):
            time.sleep(2 * TOGETHER)
            for _ in range(50):  # on a machine that halts for long, one that is read late does not count
                os.write(person, b"h")
                if found := comes(keyboard, HELD, seconds=0.4):
                    break
            assert set(found) == {HELD}


class _Terminated(BaseException):
    pass


def _raises(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def _is_told_to_end() -> None:
    def handler(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, handler)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "act",
    [lambda: None, _raises(ValueError("x")), _raises(KeyboardInterrupt()), _raises(SystemExit(1)), _is_told_to_end],
)
def test_the_terminal_is_as_before_however_it_ends(act: Callable[[], None], terminal: tuple[int, int]) -> None:
    person, end = terminal
    before = termios.tcgetattr(end)
    try:
        with Keyboard(end):
            within = termios.tcgetattr(end)
            os.write(person, b"rm -r x\n")
            act()
    except (ValueError, KeyboardInterrupt, SystemExit, _Terminated):
        pass
    assert termios.tcgetattr(end) == before
    changed = before[3] & ~within[3]
    assert changed == termios.ECHO | termios.ICANON | termios.IEXTEN
    assert within[3] & termios.ISIG, "Ctrl-C stays a signal"
    assert not within[0] & termios.IXON, "Ctrl-S halts nothing"


def test_a_signal_within_the_change_leaves_the_terminal_as_before(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    end = terminal[1]
    before = termios.tcgetattr(end)
    change = termios.tcsetattr
    changes: list[int] = []

    def interrupted(descriptor: int, when: int, attributes: list[object]) -> None:
        change(descriptor, when, attributes)  # type: ignore[arg-type]
        changes.append(when)
        if len(changes) == 1:
            raise _Terminated

    monkeypatch.setattr(termios, "tcsetattr", interrupted)
    with pytest.raises(_Terminated, match=r"^$"), Keyboard(end):
        raise AssertionError("it must not be entered")
    assert len(changes) == 2
    assert termios.tcgetattr(end) == before


def test_a_terminal_that_is_closed_gives_no_keys_and_no_error(terminal: tuple[int, int]) -> None:
    person, end = terminal
    with Keyboard(end) as keyboard:
        os.close(person)
        until = time.monotonic() + 20
        while not keyboard.gone and time.monotonic() < until:
            assert keyboard.read() == []
        assert keyboard.gone
        assert keyboard.read() == []


def test_what_is_no_terminal_is_refused() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Inappropriate ioctl"), Keyboard(reader):
            raise AssertionError("it must not be entered")
    finally:
        os.close(reader)
        os.close(writer)


def test_a_job_in_the_background_leaves_its_terminal_alone(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would halt it."""
    monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
    touched: list[object] = []
    monkeypatch.setattr(termios, "tcsetattr", lambda *arguments: touched.append(arguments))
    with pytest.raises(OSError, match="this is a job in the background"), Keyboard(terminal[1]):
        raise AssertionError("it must not be entered")
    assert touched == []
