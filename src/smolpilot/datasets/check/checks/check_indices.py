"""Whether index, episode_index, frame_index and task_index resolve, and the metadata agree with the rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from smolpilot.datasets.check.context import CheckContext, gaps, ranges
from smolpilot.datasets.tolerant.findings import Finding


def lengths(context: CheckContext) -> Iterator[Finding]:
    """Stated lengths against the rows."""
    for index, record in context.dataset.records.items():
        rows = context.dataset.rows.get(index)
        if rows is None or record.length is None or not record.listed:
            continue
        if record.length != len(rows):
            message = f"Episode {index} has {len(rows)} rows; the metadata say {record.length}."
            yield context.finding("episode-length", message, episode=index, frame=min(record.length, len(rows)))


def missing_rows(context: CheckContext) -> Iterator[Finding]:
    """Episodes of shared tables that no readable table has rows of."""
    dataset = context.dataset
    if not dataset.format.shared_files:
        return
    for index, record in dataset.records.items():
        readable = record.data_path in dataset.schemas
        if index not in dataset.rows and (readable or record.data_path is None):
            message = f"Episode {index} is listed, but no table has rows of it."
            yield context.finding("episode-length", message, episode=index)


def frames(context: CheckContext) -> Iterator[Finding]:
    """Frames 0, 1, 2, … in order; none twice; rows of this episode only."""
    for episode, rows in context.dataset.rows.items():
        own = rows.numbers("episode_index")
        if own is not None:
            strange = np.flatnonzero(own != episode)
            if len(strange):
                frame = int(strange[0])
                message = f"{len(strange)} rows of episode {episode} carry the episode number {int(own[frame])}."
                yield context.finding("episode-index-wrong", message, episode=episode, frame=frame)
        number = rows.numbers("frame_index")
        if number is None or np.array_equal(number, np.arange(len(rows))):
            continue
        first = np.unique(number, return_index=True)[1]
        count = len(number) - len(first)
        if count:
            twice = int(np.setdiff1d(np.arange(len(number)), first)[0])
            message = f"Frame {int(number[twice])} of episode {episode} stands twice ({count} rows too many)."
            yield context.finding("rows-duplicated", message, episode=episode, frame=twice)
            continue
        frame = int(np.flatnonzero(number != np.arange(len(rows)))[0])
        message = f"Row {frame} of episode {episode} is numbered {int(number[frame])}, not {frame}."
        yield context.finding("frame-index-wrong", message, episode=episode, frame=frame)


def running_index(context: CheckContext) -> Iterator[Finding]:
    """`index` counts all rows of all episodes in order; where v3.0 states each episode's part of it, that, too."""
    dataset = context.dataset
    start = 0
    for episode in dataset.episodes:
        rows, record = dataset.rows.get(episode), dataset.records[episode]
        if rows is None or not len(rows):
            # Without these rows nobody knows where the next episode begins.
            if record.length is None:
                return
            start += record.length
            continue
        numbers = rows.numbers("index")
        expected = np.arange(start, start + len(rows))
        if numbers is not None and not np.array_equal(numbers, expected):
            frame = int(np.flatnonzero(numbers != expected)[0])
            message = f"`index` is {int(numbers[frame])} at frame {frame} of episode {episode}, not {start + frame}."
            yield context.finding("index-wrong", message, episode=episode, frame=frame)
            # The rest is judged by its own steps: one cause, one finding.
            start = (
                int(numbers[-1]) + 1 - len(rows) if np.array_equal(np.diff(numbers), np.ones(len(rows) - 1)) else start
            )
        if dataset.format.shared_files and record.listed:
            stated, true = (record.first, record.last), (int(expected[0]), int(expected[-1]) + 1)
            if stated != (None, None) and stated != true and record.length == len(rows):
                message = (
                    f"Episode {episode} has rows {true[0]} to {true[1]}; its entry says {stated[0]} to {stated[1]}."
                )
                yield context.finding("episode-span", message, episode=episode)
        start += len(rows)


def tasks(context: CheckContext) -> Iterator[Finding]:
    """Task indices with a text, and the same text as the episode list."""
    dataset = context.dataset
    used: set[int] = set()
    for episode, rows in dataset.rows.items():
        numbers = rows.numbers("task_index")
        if numbers is None:
            continue
        values = [int(value) for value in np.unique(numbers)]
        used |= set(values)
        unknown = [value for value in values if value not in dataset.tasks]
        if unknown:
            frame = int(np.flatnonzero(numbers == unknown[0])[0])
            message = f"Rows of episode {episode} point to task {unknown[0]}, which is not in the task list."
            yield context.finding("task-unknown", message, episode=episode, frame=frame)
            continue
        stated, true = set(dataset.records[episode].tasks), {dataset.tasks[value] for value in values}
        if dataset.records[episode].listed and stated and stated != true:
            message = (
                f"The episode list gives episode {episode} the instruction {sorted(stated)}, its rows {sorted(true)}."
            )
            yield context.finding("task-mismatch", message, episode=episode)
    indices = sorted(dataset.tasks)
    if indices and indices != list(range(len(indices))):
        message = f"The task list has no task {ranges(gaps(indices))}, but a task {indices[-1]}."
        # Of v3.0, LeRobot's own rules say whether a text is found; a conversion of v2.x puts the texts one by one.
        beyond = not dataset.format.loadable and bool(used) and max(used) >= len(indices)
        yield context.finding("task-gaps", message, severity="error" if beyond else None)
    unused = sorted(set(indices) - used)
    if unused and used:
        yield context.finding("task-unused", f"No row uses task {ranges(unused)}.")
