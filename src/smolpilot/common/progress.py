"""Work of unknown length says what it does: a spinner on a terminal, one line elsewhere, nothing when it is short."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SAY_AFTER_S = 2.0
_open = threading.Lock()  # one line at a time: work inside other work is said by the outer one


@contextmanager
def working(text: str) -> Iterator[None]:
    """While the block runs longer than two seconds, say `text` on standard error: a spinner, or a line `text ...`."""
    # Of several processes that torchrun started, number 0 speaks.
    if os.environ.get("RANK", "0") != "0" or not _open.acquire(blocking=False):
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
