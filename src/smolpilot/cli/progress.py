"""A progress bar on standard error, for work that takes more than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SHOW_AFTER_S = 1.0


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield `update(what, done, total)`; each new `what` is a bar of its own, shown once the work takes a while.

    Without a terminal nothing is shown.
    """
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    begin = time.monotonic()

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)
        if not bar.live.is_started and time.monotonic() - begin > _SHOW_AFTER_S:
            bar.start()

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()
