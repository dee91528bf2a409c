"""What a person sees of a run: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from smolpilot.common import terminal
from smolpilot.common.progress import working

_PLAIN_EVERY_S = 15.0


class RunProgress:
    """Shows step, loss, rate, speed, the share of time spent waiting for data, memory, and the time left."""

    def __init__(self, steps: int, *, start: int = 0, stream: TextIO | None = None, silent: bool = False) -> None:
        self._silent = silent
        self._stream = stream or sys.stderr
        self._steps, self._start, self._begin = steps, start, time.monotonic()
        self._last = -math.inf
        self._live: Progress | None = None
        if self._stream.isatty() and not silent:
            # The bar takes what the text leaves, so that 80 columns are enough.
            self._live = Progress(
                TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                console=terminal.Terminal(file=self._stream),
                expand=True,
            )
            terminal.start(self._live)
            self._task = self._live.add_task("train", total=steps, completed=start, text="first step")

    def update(self, step: int, values: dict[str, Any]) -> None:
        """Show the values of a train line of the metrics log."""
        now = time.monotonic()
        text = f"step {step}/{self._steps}  {line_text(values)}  left {_clock(self._left(step, now))}"
        if self._live is not None:
            self._live.update(self._task, completed=step, text=text)
        elif now - self._last >= _PLAIN_EVERY_S or step == self._steps:
            self._last = now
            self.note(text)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Say what is done while no step is made: in the live line, elsewhere as `working` does."""
        if self._live is None:
            with contextlib.nullcontext() if self._silent else working(text):
                yield
            return
        before = self._live.tasks[0].fields["text"]
        self._live.update(self._task, text=text)
        yield
        self._live.update(self._task, text=before)

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if self._silent:
            return
        if self._live is not None:
            self._live.console.print(text)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def _left(self, step: int, now: float) -> float:
        done = max(1, step - self._start)
        return (now - self._begin) / done * (self._steps - step)


def line_text(values: dict[str, Any]) -> str:
    """The values of a train line as a person reads them."""
    return (
        f"loss {values['loss']:.4f}  lr {values['lr']:.1e}  {values['samples_per_s']:.0f} samples/s  "
        f"data {values['data_wait']:.0%}  {values['memory_gb']:.1f} GB"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
