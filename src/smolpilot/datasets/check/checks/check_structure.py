"""Totals, splits, stray files, and columns against the features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.text import shown
from smolpilot.datasets.beside import files_beside, visible_files
from smolpilot.datasets.check.context import CheckContext, gaps, ranges
from smolpilot.datasets.format.arrow import is_list, word_of
from smolpilot.datasets.format.features import INDEX_COLUMNS, Feature
from smolpilot.datasets.tolerant.findings import Finding

from .lerobot_rules import harmful_strays

_LARGE = 5 * 1024**3
_TYPES = ("float", "int", "uint", "bool")


def totals(context: CheckContext) -> Iterator[Finding]:
    """info's totals against what is there."""
    dataset = context.dataset
    if not dataset.info:
        return
    true = {
        "total_episodes": len(dataset.records),
        "total_frames": sum(len(rows) for rows in dataset.rows.values()),
        "total_tasks": len(dataset.tasks),
    }
    absent = [name for name in true if name not in dataset.info]
    if absent:
        severity = None if dataset.format.loadable else "warning"
        message = f"meta/info.json does not state {', '.join(absent)}."
        yield context.finding("totals-missing", message, severity=severity)
    for name, value in true.items():
        # Rows that could not be read are no proof against the total.
        unread = name == "total_frames" and len(dataset.rows) < len(dataset.records)
        stated = dataset.info.get(name)
        if name in dataset.info and stated != value and value and not unread:
            yield context.finding("totals-wrong", f"meta/info.json says {name} {shown(stated)}; there are {value}.")


def splits(context: CheckContext) -> Iterator[Finding]:
    """Ranges such as `0:50` within the episodes that exist."""
    stated = context.dataset.info.get("splits")
    episodes = context.dataset.episodes
    if not isinstance(stated, dict) or not episodes:
        return
    for name, value in stated.items():
        parts = str(value).split(":")
        if len(parts) == 2 and all(part.strip().isdecimal() for part in parts) and int(parts[1]) > len(episodes):
            yield context.finding(
                "splits-wrong", f"The split '{name}' is {shown(value)}; there are {len(episodes)} episodes."
            )


def files(context: CheckContext) -> Iterator[Finding]:
    """Files that nobody uses, and very large ones."""
    dataset = context.dataset
    used: set[Path] = set(dataset.schemas)
    for record in dataset.records.values():
        used |= {span.path for span in record.spans.values()}
        used |= {record.data_path} if record.data_path else set()
    for message in files_beside(dataset.root).warnings():
        yield context.finding("file-left-out", message, severity="info" if "is a hidden" in message else None)
    stray, harmful = [], set(harmful_strays(dataset))
    for folder in ("data", "videos"):
        for path in visible_files(dataset.root / folder):
            if path.stat().st_size > _LARGE:
                size = path.stat().st_size / 1024**3
                yield context.finding("file-large", f"{dataset.relative(path)} has {size:.1f} GB.")
            if path not in used and path not in harmful:
                stray.append(path)
    if stray and dataset.records:
        more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
        yield context.finding("file-stray", f"No episode uses {dataset.relative(stray[0])}{more}.")


def columns(context: CheckContext) -> Iterator[Finding]:
    """Each table's columns against the features: present, declared, of their type and width."""
    dataset = context.dataset
    inside = {key for key, camera in dataset.cameras.items() if not camera.is_video}
    declared = {*dataset.vectors, *inside}
    required = {*declared, *INDEX_COLUMNS}
    grouped: dict[tuple[str, str], list[Path]] = {}
    for path, schema in dataset.schemas.items():
        names = set(schema.names)
        for name in sorted(required - names):
            grouped.setdefault(("column-missing", f"have no column '{name}'"), []).append(path)
        if dataset.vectors.keys() > set(INDEX_COLUMNS) and not dataset.format.loadable:
            # In v3.0 it keeps LeRobot from opening the file: lerobot_rules says so.
            for name in sorted(names - required - set(dataset.video_cameras)):
                grouped.setdefault(("column-undeclared", f"have a column '{name}' that is no feature"), []).append(path)
        for name in sorted(names & set(dataset.vectors)):
            wrong = _type_problem(name, dataset.vectors[name], schema.field(name).type)
            if wrong:
                grouped.setdefault(("column-type", wrong), []).append(path)
    for (code, text), paths in grouped.items():
        severity = None if code == "column-missing" else "warning"
        for episode in context.episodes_in(paths):
            where = "" if episode is None else f": {dataset.relative(dataset.rows[episode].path)}"
            yield context.finding(code, f"The data files {text}{where}.", episode=episode, severity=severity)
    yield from _shapes(context)


def _type_problem(key: str, vector: Feature, kind: pa.DataType) -> str:
    while is_list(kind):
        kind = kind.value_type
    named = word_of(kind) or str(kind)
    if isinstance(kind, pa.BaseExtensionType) or not vector.dtype.startswith(_TYPES):
        return ""
    if vector.dtype in (named, str(kind)):
        return ""
    return f"have '{key}' as {named}, declared is {vector.dtype}"


def _shapes(context: CheckContext) -> Iterator[Finding]:
    dataset = context.dataset
    for key, vector in dataset.vectors.items():
        expected = math.prod(vector.shape)
        wrong: dict[int, list[int]] = {}
        for episode, rows in dataset.rows.items():
            column = rows.get(key)
            if column is None or not len(column) or column.dtype.kind not in "fiub":
                continue
            if column.size != len(column) * expected:
                wrong.setdefault(column.size // len(column), []).append(episode)
        for size, episodes in wrong.items():
            text = f"'{key}' has {size} numbers per row, the feature's shape is {list(vector.shape)}"
            concerned: list[int | None] = [*episodes] if len(episodes) < len(dataset.rows) else [None]
            for one in concerned:
                where = "" if one is None else f", in episode {one}"
                yield context.finding("column-shape", f"{text}{where}.", episode=one)


def empty_cells(context: CheckContext) -> Iterator[Finding]:
    """Rows without a value: by episode where a sample needs it, once for a column that no policy reads."""
    dataset = context.dataset
    needed = {STATE, ACTION, *INDEX_COLUMNS, *dataset.cameras}
    unread: dict[str, tuple[int, list[int]]] = {}
    by_path: dict[Path, list[int]] = {}
    for episode, rows in dataset.rows.items():
        by_path.setdefault(rows.path, []).append(episode)
    for (path, name), places in dataset.nulls.items():
        for episode in by_path.get(path, ()):
            frames = np.flatnonzero(without_value(dataset.rows[episode].positions, places))
            if not len(frames):
                continue
            if name not in needed:
                count, episodes = unread.get(name, (0, []))
                if episode not in episodes[-1:]:
                    episodes.append(episode)
                unread[name] = (count + len(frames), episodes)
                continue
            message = f"The column '{name}' has {len(frames)} rows without a value in episode {episode}."
            yield context.finding("column-empty", message, episode=episode, frame=int(frames[0]))
    for name, (count, episodes) in unread.items():
        where = f"episode{'s' if len(episodes) > 1 else ''} {ranges(episodes)}"
        message = f"The column '{name}', which no policy reads, has {count} rows without a value ({where}): LeRobot "
        message += "cannot make batches of them."
        yield context.finding("column-empty", message)


def without_value(positions: npt.NDArray[np.int64], empty: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of an episode's rows, at these places of its file, are among the file's rows without a value (sorted).

    Only those between the episode's first and last row are compared: a file has the empty rows of many episodes.
    """
    if not len(positions):
        return np.zeros(0, dtype=np.bool_)
    low, high = np.searchsorted(empty, (positions.min(), positions.max() + 1))
    return np.isin(positions, empty[low:high], assume_unique=True)


def unlisted(context: CheckContext) -> Iterator[Finding]:
    """Episodes that have data but no entry, and gaps in their numbers."""
    dataset = context.dataset
    for index, record in dataset.records.items():
        if not record.listed:
            message = f"Episode {index} has data, but is not in the episode list."
            yield context.finding("episode-unlisted", message, episode=index)
    episodes = dataset.episodes
    if episodes and episodes != list(range(len(episodes))):
        message = f"There is no episode {ranges(gaps(episodes))}, but an episode {episodes[-1]}."
        yield context.finding("episode-gaps", message)
