"""Tables, colors and bars for texts of others: nothing in a name is markup, an emoji's code or a control sequence.

rich's own control sequences must reach the terminal, so a `Terminal` writes past the guard of `streams` and spells what
is in its texts itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Protocol, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.segment import Segment
from rich.text import Text

from .streams import guard, unguarded
from .text import plain, plain_lines

_LONGEST = 20_000  # letters of one text: rich takes a minute to fold ten million


class Terminal(Console):
    """rich's console without markup, emoji codes and highlighting.

    Styles are given as `style=` or in a `rich.text.Text`. `file` is standard output by default.
    """

    def __init__(
        self, *, stderr: bool = False, file: TextIO | None = None, width: int | None = None, soft_wrap: bool = False
    ) -> None:
        stream = file or (sys.stderr if stderr else sys.stdout)
        super().__init__(
            file=unguarded(stream), width=width, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
        )

    def on_broken_pipe(self) -> None:
        """The reader of a pipe (head, less) went away; rich would end the program with exit code 1."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """A string of a table or a line, as rich asks for it."""
        text = plain_lines(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")
        return super().render_str(text, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of anything that rich draws; texts that did not come as strings are spelled here."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else plain_lines(segment.text)
            yield segment if safe == segment.text else Segment(safe, segment.style)


def bar(terminal: Terminal, *columns: ProgressColumn, **options: Any) -> Progress:
    """A progress bar whose descriptions are no markup; `columns` stand after description and bar."""
    return Progress(_Description(), BarColumn(), *columns, console=terminal, **options)


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(plain(task.description))


class _Display(Protocol):
    def start(self) -> None: ...


def start(display: _Display) -> None:
    """Start a live display. rich takes the streams over then and obeys control sequences: a guard stands before it."""
    display.start()
    if isinstance(sys.stdout, FileProxy) or isinstance(sys.stderr, FileProxy):
        guard()
