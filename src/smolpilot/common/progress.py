"""Long work says what it does: a spinner or a bar on a terminal, one line elsewhere, nothing when it is short."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

SAY_AFTER_S = 2.0
_SHOW_AFTER_S = 1.0
_LINE_AFTER_S = 5.0  # in a log file
_open = threading.Lock()  # one line at a time: work inside other work is said by the outer one


def is_rank_zero() -> bool:
    """Whether this process prints and writes: of several that torchrun started, rank 0."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def working(text: str) -> Iterator[None]:
    """While the block runs longer than two seconds, say `text` on standard error: a spinner, or a line `text ...`."""
    if not is_rank_zero() or not _open.acquire(blocking=False):
        yield
        return
    ended = threading.Event()
    speaker = threading.Thread(target=_say, args=(text, ended), daemon=True)
    speaker.start()
    try:
        yield
    finally:
        ended.set()
        speaker.join()
        _open.release()


def track[T](items: Iterable[T], total: int, text: str, *, stream: TextIO | None = None) -> Iterator[T]:
    """Yield `items`; when it takes a while, show how many of `total` are done, on rank 0."""
    if not is_rank_zero():
        yield from items
        return
    with progress_bar(stream) as update:
        for done, item in enumerate(items, 1):
            yield item
            update(text, done, total)


@contextmanager
def progress_bar(stream: TextIO | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Yield `update(what, done, total)`; each new `what` is a bar of its own, shown once the work takes a while.

    Without a terminal a line says what is done, once for each `what` that is reached after five seconds. `stream`:
    standard error by default.
    """
    begin, stream = time.monotonic(), stream or sys.stderr
    if not stream.isatty():
        said: set[str] = set()

        def say(what: str, done: int, total: int) -> None:
            if what not in said and time.monotonic() - begin > _LINE_AFTER_S:
                said.add(what)
                print(f"{what}: {done} of {total} ...", file=stream, flush=True)

        yield say
        return
    from rich.progress import MofNCompleteColumn, TaskID, TimeRemainingColumn

    from . import terminal

    bar = terminal.bar(terminal.Terminal(file=stream), MofNCompleteColumn(), TimeRemainingColumn(), transient=True)
    tasks: dict[str, TaskID] = {}

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)
        if not bar.live.is_started and time.monotonic() - begin > _SHOW_AFTER_S:
            terminal.start(bar)

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()


def _say(text: str, ended: threading.Event) -> None:
    if ended.wait(SAY_AFTER_S):
        return
    if not sys.stderr.isatty():
        print(f"{text} ...", file=sys.stderr, flush=True)
        return
    from rich.text import Text

    from . import terminal
    from .text import plain

    spinner = terminal.Terminal(stderr=True).status(Text(plain(text)))
    terminal.start(spinner)
    ended.wait()
    spinner.stop()
