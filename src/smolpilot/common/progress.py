"""Long work says what it does: a spinner or a bar on a terminal, one line elsewhere, nothing when it is short."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

SAY_AFTER_S = 2.0
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
    """Yield `items`; after two seconds, show how many of `total` are done."""
    if not is_rank_zero():
        yield from items
        return
    from rich.progress import TaskProgressColumn, TimeRemainingColumn

    from . import terminal

    stream = stream or sys.stderr
    begin, bar = time.monotonic(), None
    try:
        for number, item in enumerate(items):
            yield item
            if bar is None and time.monotonic() - begin > SAY_AFTER_S:
                if not stream.isatty():
                    print(f"{text}: {number + 1} of {total} ...", file=stream, flush=True)
                bar = terminal.bar(
                    terminal.Terminal(file=stream),
                    TaskProgressColumn(),
                    TimeRemainingColumn(),
                    disable=not stream.isatty(),
                    transient=True,
                )
                terminal.start(bar)
                task = bar.add_task(text, total=total)
            if bar is not None:
                bar.update(task, completed=number + 1)
    finally:
        if bar is not None:
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
