"""A progress bar on standard error, for work that takes more than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHOW_AFTER_S = 1.0
_LINE_AFTER_S = 5.0  # in a log file


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield `update(what, done, total)`; each new `what` is a bar of its own, shown once the work takes a while.

    Without a terminal a line says what is done, once for each `what` that is reached after five seconds.
    """
    begin = time.monotonic()
    if not sys.stderr.isatty():
        said: set[str] = set()

        def say(what: str, done: int, total: int) -> None:
            if what not in said and time.monotonic() - begin > _LINE_AFTER_S:
                said.add(what)
                print(f"{what}: {done} of {total} ...", file=sys.stderr, flush=True)

        yield say
        return
    from rich.progress import MofNCompleteColumn, TaskID, TimeRemainingColumn

    from smolpilot.common import terminal

    bar = terminal.bar(terminal.Terminal(stderr=True), MofNCompleteColumn(), TimeRemainingColumn(), transient=True)
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
