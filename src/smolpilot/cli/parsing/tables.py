"""Tables in the terminal, all of one look."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(*columns: str, numbers: Collection[str] = (), title: str | None = None) -> Table:
    """A table without frames. Columns named in `numbers` are right-aligned and never broken: a number that is cut off
    would be another number.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column in columns:
        number = column in numbers
        found.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return found
