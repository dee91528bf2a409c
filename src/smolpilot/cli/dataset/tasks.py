"""`smolpilot dataset tasks PATH [DST]`: list, rename and set the instructions of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.cli.parsing.tables import table
from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.errors import UsageError
from smolpilot.common.option_types import Flag, Pairs
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text, plain

from .edits import EditOptions, Place, report_results, settings_of, without_of

if TYPE_CHECKING:
    from smolpilot.datasets.copy import CopyReport, Progress
    from smolpilot.datasets.edit import Instruction
    from smolpilot.datasets.format.meta import DatasetMeta

_MOST_ROWS = 1_000
_MOST_LETTERS = 500


@dataclass(kw_only=True)
class TasksOptions(EditOptions):
    """List the instructions of a dataset, or write a copy with other ones.

    The source is only read, and the copy remembers its former instructions: --undo restores them. Instructions
    that no episode follows are left out of the copy. Episodes and tasks of the copy are numbered 0, 1, … without gaps:
    episodes in their order, tasks in the order of first use.
    """

    path: Place
    """The dataset: the folder with meta/, data/ and videos/."""
    dst: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DST")] = None
    """The new folder for --rename, --set and --undo; it must not exist."""
    rename: Pairs = field(default_factory=dict)
    """New instructions, as 'old one=new one' or INDEX='new one'. Instructions that become equal become one task."""
    set: Pairs = field(default_factory=dict)
    """Instructions for whole episodes, as '0,3-5=instruction'."""
    undo: Flag = False
    """Undo the last change of instructions since a merge, split or exclude."""


def run(options: TasksOptions) -> None:
    """List the instructions, or write the copy."""
    from smolpilot.datasets.edit import list_instructions
    from smolpilot.datasets.format.meta import read_meta

    changes = {"--rename": options.rename, "--set": options.set, "--undo": options.undo}
    given = [name for name, value in changes.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are given together.", expected="one of them at a time")
    if given and options.dst is None:
        raise UsageError(
            f"{given[0]} needs a new folder.",
            expected=f"smolpilot dataset tasks {options.path} DST {given[0]} …: datasets are never changed in place",
        )
    if options.dst is not None and not given:
        raise UsageError("A new folder is named, but no change.", expected="--rename, --set or --undo")
    meta = read_meta(options.path, trainable=False, without=without_of(options, options.path))
    if options.dst is None:
        _list(list_instructions(meta), options.json)
        return
    with progress_bar() as progress:
        report = _change(meta, options.dst, options, progress)
    found = list_instructions(read_meta(options.dst, trainable=False))
    report_results({options.dst: report}, options, source=str(options.path), instructions=list(map(asdict, found)))
    if not options.json:
        _list(found, False)


def _change(meta: DatasetMeta, dst: Path, options: TasksOptions, progress: Progress) -> CopyReport:
    from smolpilot.datasets.edit import rename_tasks, set_tasks, undo_tasks
    from smolpilot.datasets.splits import parse_episodes

    settings = settings_of(options)
    if options.undo:
        return undo_tasks(meta, dst, settings, progress=progress)
    if options.rename:
        return rename_tasks(meta, dst, options.rename, settings, progress=progress)
    texts: dict[int, str] = {}
    for episodes, text in options.set.items():
        for index in parse_episodes(episodes, meta, option="--set"):
            if texts.setdefault(index, text) != text:
                raise UsageError(f"Episode {index} is given two instructions.", expected="one for each episode")
    return set_tasks(meta, dst, texts, settings, progress=progress)


def _list(found: Sequence[Instruction], as_json: bool) -> None:
    if as_json:
        print(json_text({"instructions": list(map(asdict, found))}))
        return
    from smolpilot.common.terminal import Terminal
    from smolpilot.datasets.splits import episode_ranges

    columns = ("index", "instruction", "episodes", "frames", "which")
    rows = table(*columns, numbers=("index", "episodes", "frames"), title="Instructions")
    for one in found[:_MOST_ROWS]:
        which = plain(episode_ranges(one.episodes) or "none", _MOST_LETTERS)
        text = plain(one.text, _MOST_LETTERS)
        rows.add_row(str(one.index), text, str(len(one.episodes)), f"{one.frames:,}", which)
    if len(found) > _MOST_ROWS:
        rows.add_row("…", f"and {len(found) - _MOST_ROWS:,} more (--json lists all)")
    Terminal().print(rows)


VERB = Verb(TasksOptions, run)
