"""Standard output and error while a command runs: what is printed is shown, and nothing of it acts on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from .text import plain_lines


class Guarded:
    """A text stream in which control characters and half surrogate pairs are spelled; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, made safe; returns its length, as streams do."""
        self._stream.write(plain_lines(text))
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write several texts."""
        for text in texts:
            self.write(text)

    @property
    def rich_proxied_file(self) -> TextIO:
        """Where rich's consoles write, whose own control sequences must pass (the name is rich's)."""
        return self._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_streams() -> None:
    """Give a program that was started without one of its three streams (`>&-`, some services) one that goes nowhere.

    Else the next file or serial port that is opened becomes descriptor 1, and whatever is printed goes into it.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard both streams while the block runs. A letter that their encoding lacks is spelled, too."""
    before = sys.stdout, sys.stderr
    if isinstance(before[0], Guarded):
        yield
        return
    with contextlib.ExitStack() as stack:
        for stream in before:
            if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
                stack.callback(stream.reconfigure, errors="strict")
        guard()
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def guard() -> None:
    """Put a guard before both streams."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is not None:
            setattr(sys, name, cast("TextIO", Guarded(getattr(sys, name))))


def unguarded(stream: TextIO) -> TextIO:
    """The stream behind all guards."""
    while (inner := getattr(stream, "rich_proxied_file", None)) is not None:
        stream = inner
    return stream


@contextlib.contextmanager
def results_apart(apart: bool = True) -> Iterator[None]:
    """While the block runs, what is printed goes to standard error, so that a result printed afterwards stands alone.

    Policies and environments of other packages print what they like, also from C: both Python's stream and descriptor 1
    are turned. apart: False does nothing.
    """
    if not apart or sys.stdout is None or sys.stderr is None:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
