"""The instructions of a dataset: listed, renamed, given to episodes; every change can be undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.errors import DatasetError, UsageError, did_you_mean
from smolpilot.datasets.copy import CopyReport, EpisodePlan, Progress, copy_episodes
from smolpilot.datasets.copy.options import EditSettings
from smolpilot.datasets.copy.tables import RowReader, rows_of
from smolpilot.datasets.format.arrow import replace_column
from smolpilot.datasets.format.meta import DatasetMeta, read_meta
from smolpilot.datasets.splits import episode_ranges

from .history import left_out, read_history, with_edit

# Edits after which an episode has the number that it had.
_SAME_EPISODES = ("tasks", "rename")
# The text of each frame, by episode.
type Texts = dict[int, list[str]]


@dataclass(frozen=True)
class Instruction:
    """One text of the task list and where it is used; `episodes` empty: nowhere."""

    index: int
    text: str
    episodes: list[int]
    frames: int


def list_instructions(meta: DatasetMeta) -> list[Instruction]:
    """All instructions by index, with the episodes and frames that point to them."""
    episodes: dict[int, list[int]] = {}
    frames: Counter[int] = Counter()
    for episode, indices in _indices(meta).items():
        frames.update(indices)
        for index in dict.fromkeys(indices):
            episodes.setdefault(index, []).append(episode)
    return [
        Instruction(index, text, episodes.get(index, []), frames[index]) for index, text in sorted(meta.tasks.items())
    ]


def rename_tasks(
    meta: DatasetMeta,
    dst: str | Path,
    names: Mapping[str, str],
    settings: EditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> CopyReport:
    """Give instructions other texts; a key is the old text or its index. Texts that become equal become one task.

    Raises UsageError for an unknown instruction and an empty text; otherwise as `copy_episodes` does.
    """
    texts: dict[int, str] = {}
    for old, text in names.items():
        if texts.setdefault(_index_of(meta, old), _checked(text)) != text:
            raise UsageError(f"Instruction '{old}' is given two new texts.", expected="one for each instruction")
    before = _indices(meta)
    new = {episode: [texts.get(index, meta.tasks[index]) for index in indices] for episode, indices in before.items()}
    renamed = {meta.tasks[index]: text for index, text in texts.items()}
    return _write(meta, dst, before, new, {"action": "rename", "texts": renamed}, settings, progress)


def set_tasks(
    meta: DatasetMeta,
    dst: str | Path,
    texts: Mapping[int, str],
    settings: EditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> CopyReport:
    """Give whole episodes (index values) an instruction.

    Raises UsageError for an unknown episode and an empty text; otherwise as `copy_episodes` does.
    """
    old = _indices(meta)
    new = _texts(meta, old)
    for episode, text in texts.items():
        new[episode] = [_checked(text)] * meta.episode(episode).length
    groups: dict[str, list[int]] = {}
    for episode, text in texts.items():
        groups.setdefault(text, []).append(episode)
    after = {text: episode_ranges(episodes) for text, episodes in groups.items()}
    return _write(meta, dst, old, new, {"action": "set", "texts": after}, settings, progress)


def undo_tasks(
    meta: DatasetMeta, dst: str | Path, settings: EditSettings | None = None, *, progress: Progress | None = None
) -> CopyReport:
    """Give back the instructions that the episodes had before the last change of instructions.

    Raises UsageError when the dataset's history has none since episodes were last numbered anew.
    """
    number = _last_change(meta)
    edits = [edit for edit in read_history(meta) if edit.get("edit") == "tasks"]
    old = _indices(meta)
    new = _texts(meta, old)
    try:
        for before in edits[number]["before"]:
            for episode in before["episodes"]:
                # A single text stands for all frames.
                whole = [(text, meta.episode(episode).length) for text, *_ in before["texts"]]
                runs = whole if len(whole) == 1 else before["texts"]
                new[episode] = [str(text) for text, count in runs for _ in range(int(count))]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"The history of edits of {meta.root} is damaged.") from error
    return _write(meta, dst, old, new, {"action": "undo", "undoes": number}, settings, progress)


def _last_change(meta: DatasetMeta) -> int:
    """The last change that is not undone, counted among all changes of instructions.

    Changes before a merge, split or exclude do not count: the episodes they speak of have other numbers since.
    """
    history = read_history(meta)
    last = max((place for place, edit in enumerate(history) if edit.get("edit") not in _SAME_EPISODES), default=-1)
    edits = [(place, edit) for place, edit in enumerate(history) if edit.get("edit") == "tasks"]
    undone = {edit["undoes"] for _, edit in edits if "undoes" in edit}
    open_changes = [number for number, (_, edit) in enumerate(edits) if number not in undone and "undoes" not in edit]
    if open_changes and edits[open_changes[-1]][0] > last:
        recorded = (edits[open_changes[-1]][1].get("source") or {}).get("episodes", len(meta.episodes))
        if recorded != len(meta.episodes):
            # `repair` leaves broken episodes out and numbers the others anew.
            raise UsageError(
                f"Changes of instructions cannot be undone: {meta.root} had {recorded} episodes then, now it has "
                f"{len(meta.episodes)}.",
                fix="Undo them in a folder from before episodes were left out.",
            )
        return open_changes[-1]
    if open_changes or (last >= 0 and _changed_in_sources(history[last])):
        verb = history[last].get("edit")
        raise UsageError(
            f"Changes of instructions cannot be undone after '{verb}': episodes of {meta.root} were numbered anew.",
            fix=f"Undo them in a folder from before the {verb}.",
        )
    if edits:
        raise UsageError(f"Every change of instructions of {meta.root} is undone already.")
    raise UsageError(f"No instruction of {meta.root} was changed.", expected="a folder that `dataset tasks` made")


def _changed_in_sources(edit: Mapping[str, Any]) -> bool:
    """Whether a dataset that was merged here, or in one of those, had its instructions changed."""
    histories = [inner for source in edit.get("sources", ()) for inner in source.get("history", ())]
    return any(inner.get("edit") == "tasks" or _changed_in_sources(inner) for inner in histories)


def _write(
    meta: DatasetMeta,
    dst: str | Path,
    old: Mapping[int, list[int]],
    new: Texts,
    details: dict[str, Any],
    settings: EditSettings | None,
    progress: Progress | None,
) -> CopyReport:
    before = _texts(meta, old)
    changed = {episode: None for episode, texts in new.items() if texts != before[episode]}
    if not changed:
        raise UsageError(f"No instruction of {meta.root} would change.", expected="another text than now")
    first = max(meta.tasks) + 1
    plans = [
        _plan(meta, episode.index, old[episode.index], new[episode.index], first)
        if episode.index in changed
        else EpisodePlan(meta, episode.index)
        for episode in meta.episodes
    ]
    place = {episode.index: number for number, episode in enumerate(meta.episodes)}
    recorded = _recorded({place[episode]: before[episode] for episode in changed})
    files = with_edit(meta, "tasks", **details, **left_out(meta), before=recorded)
    options = (settings or EditSettings()).copying([meta])
    report = copy_episodes(plans, dst, options, renumber=True, files=files, progress=progress)
    report.warnings += _renumbered(meta, read_meta(dst, trainable=False))
    return report


def _renumbered(meta: DatasetMeta, result: DatasetMeta) -> list[str]:
    """What has another number in the result than in the source, in words."""
    found = []
    old, new = ([episode.index for episode in one.episodes] for one in (meta, result))
    if old != new:
        found.append(f"Episodes are numbered anew: {episode_ranges(old)} are now {episode_ranges(new)}, in this order.")
    indices = {text: index for index, text in result.tasks.items()}
    moved = [
        f"'{text}' was {index} and is {indices[text]}"
        for index, text in meta.tasks.items()
        if indices.get(text, index) != index
    ]
    if moved or sorted(meta.tasks) != list(range(len(meta.tasks))):
        indices_now = f"{episode_ranges(meta.tasks)} are now {episode_ranges(result.tasks)}"
        shown = ", ".join(moved[:3]) + (", …" if len(moved) > 3 else "") if moved else indices_now
        found.append(f"Tasks are numbered anew, in the order of first use: {shown}.")
    return found


def _plan(meta: DatasetMeta, episode: int, old: list[int], new: list[str], first: int) -> EpisodePlan:
    """Other texts for the indices in the rows where that says it all: then the rows, and their statistics, stay.

    Else the texts get indices from `first` on, which no row has yet.
    """
    if len(new) != len(old):
        raise DatasetError(
            f"The history of edits of {meta.root} speaks of {len(new)} frames of episode {episode}.",
            expected=f"{len(old)}, as there are",
        )
    pairs = set(zip(old, new, strict=True))
    texts = dict(pairs)
    if len(texts) == len(pairs):
        return EpisodePlan(meta, episode, tasks=texts)
    indices = {text: first + place for place, text in enumerate(dict.fromkeys(new))}
    values = np.array([indices[text] for text in new], dtype=np.int64)
    change = partial(replace_column, name="task_index", values=values)
    return EpisodePlan(meta, episode, change, {index: text for text, index in indices.items()})


def _recorded(episodes: Texts) -> list[dict[str, Any]]:
    """What the changed episodes said: those with the same single text together, others with the frames of each."""
    groups: dict[str, list[int]] = {}
    rows: list[dict[str, Any]] = []
    for episode, texts in episodes.items():
        runs = [[text, len(list(same))] for text, same in groupby(texts)]
        if len(runs) == 1:
            groups.setdefault(texts[0], []).append(episode)
        else:
            rows.append({"episodes": [episode], "texts": runs})
    return [{"episodes": indices, "texts": [[text]]} for text, indices in groups.items()] + rows


def _indices(meta: DatasetMeta) -> dict[int, list[int]]:
    """The task index of each frame, by episode."""
    reader = RowReader()
    found = {}
    for episode, rows in rows_of(meta).items():
        table = reader.read(rows, ["task_index", "episode_index"])
        if "task_index" not in table.column_names:
            raise DatasetError(
                f"The data file {rows.path} has no column 'task_index'.",
                fix=f"`smolpilot dataset repair {meta.root} DST` rebuilds it.",
            )
        values = table["task_index"].to_pylist()
        for value in set(values):
            if value not in meta.tasks:
                raise DatasetError(
                    f"Frames of episode {episode} point to task {value}, which has no text.",
                    expected=f"one of the task indices {sorted(meta.tasks)}",
                    fix=f"`smolpilot dataset repair {meta.root} DST`",
                )
        found[episode] = [int(value) for value in values]
    return found


def _texts(meta: DatasetMeta, indices: Mapping[int, list[int]]) -> Texts:
    return {episode: [meta.tasks[index] for index in mine] for episode, mine in indices.items()}


def _index_of(meta: DatasetMeta, name: str) -> int:
    by_text = {text: index for index, text in meta.tasks.items()}
    if name in by_text:
        return by_text[name]
    if name.isdigit() and int(name) in meta.tasks:
        return int(name)
    raise UsageError(
        f"The dataset {meta.root} has no instruction '{name}'.",
        expected="the text as it is, or its index; see `smolpilot dataset tasks PATH`",
        fix=did_you_mean(name, by_text),
    )


def _checked(text: str) -> str:
    if not text.strip():
        raise UsageError("The new instruction is empty.", expected="a text that says what the robot is to do")
    if "\n" in text or "\r" in text:
        raise UsageError("The new instruction has more than one line.", expected="one line")
    return text
