"""`smolpilot dataset tasks PATH [DST]`: list, rename and set the instructions of a recording."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from smolpilot.common.errors import UsageError
from smolpilot.common.text import plain
from smolpilot.option_types import Pairs

from .edit_options import EditOptions, report_results, settings_of, without_of
from .options import parse

if TYPE_CHECKING:
    from smolpilot.datasets.copy import Progress, RewriteReport
    from smolpilot.datasets.edit import Instruction
    from smolpilot.datasets.format.meta import DatasetMeta

_MOST_ROWS = 1_000
_MOST_LETTERS = 500


@dataclass
class TasksOptions(EditOptions):
    """List the instructions of a recording, or write a copy in which they are others.

    The source is only read, and the copy remembers what its episodes said before: --undo gives it back. Instructions
    that no episode follows are left out of the copy. Episodes and tasks of the copy are numbered 0, 1, … without gaps:
    episodes in their order, tasks in the order of first use.
    """

    path: tyro.conf.Positional[Path]
    """The recording: the folder with meta/, data/ and videos/."""
    dst: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DST")] = None
    """The new folder for --rename, --set and --undo; it must not exist yet."""
    rename: Pairs = field(default_factory=dict)
    """Other texts, as 'old text=new text' or INDEX='new text'. Texts that become equal become one task."""
    set: Pairs = field(default_factory=dict)
    """Texts for whole episodes, as '0,3-5=text'."""
    undo: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Undo the last change of instructions since a merge, split or exclude."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset tasks …`."""
    options = parse(TasksOptions, args, verb="dataset tasks")
    from smolpilot.datasets.edit import list_instructions
    from smolpilot.datasets.format.meta import read_meta

    wishes = [name for name, wish in _wishes(options).items() if wish]
    if len(wishes) > 1:
        raise UsageError(f"{' and '.join(wishes)} are given together.", expected="one of them at a time")
    if wishes and options.dst is None:
        raise UsageError(
            f"{wishes[0]} needs a new folder.",
            expected=f"smolpilot dataset tasks {options.path} DST {wishes[0]} …: recordings are never changed in place",
        )
    if options.dst is not None and not wishes:
        raise UsageError("A new folder is named, but no change.", expected="--rename, --set or --undo")
    meta = read_meta(options.path, trainable=False, without=without_of(options, options.path))
    if options.dst is None:
        _list(list_instructions(meta), options.json)
        return 0
    from .progress import progress_bar

    with progress_bar() as progress:
        report = _change(meta, options.dst, options, progress)
    found = list_instructions(read_meta(options.dst, trainable=False))
    report_results({options.dst: report}, options, source=str(options.path), instructions=_document(found))
    if not options.json:
        _list(found, False)
    return 0


def _wishes(options: TasksOptions) -> dict[str, Any]:
    return {"--rename": options.rename, "--set": options.set, "--undo": options.undo}


def _change(meta: DatasetMeta, dst: Path, options: TasksOptions, progress: Progress) -> RewriteReport:
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


def _document(found: Sequence[Instruction]) -> list[dict[str, Any]]:
    return [{"index": one.index, "text": one.text, "episodes": one.episodes, "frames": one.frames} for one in found]


def _list(found: Sequence[Instruction], as_json: bool) -> None:
    if as_json:
        print(json_module.dumps({"instructions": _document(found)}, indent=2))
        return
    from rich import box
    from rich.table import Table

    from smolpilot.common.terminal import Terminal
    from smolpilot.datasets.splits import episode_ranges

    table = Table(title="Instructions", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("index", justify="right")
    table.add_column("instruction", overflow="fold")
    table.add_column("episodes", justify="right")
    table.add_column("frames", justify="right")
    table.add_column("which", overflow="fold")
    for one in found[:_MOST_ROWS]:
        which = plain(episode_ranges(one.episodes) or "none", _MOST_LETTERS)
        text = plain(one.text, _MOST_LETTERS)
        table.add_row(str(one.index), text, str(len(one.episodes)), f"{one.frames:,}", which)
    if len(found) > _MOST_ROWS:
        table.add_row("…", f"and {len(found) - _MOST_ROWS:,} more (--json lists all)")
    Terminal().print(table)
