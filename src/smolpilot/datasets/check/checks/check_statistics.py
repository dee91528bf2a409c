"""Stored statistics against the data, within the rounding of whoever computed them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.check.context import Subject
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.statistics_columns import Stored
from smolpilot.datasets.statistics.rounding import true_statistics
from smolpilot.datasets.tolerant.findings import Finding, Severity
from smolpilot.datasets.tolerant.found_dataset import Vector
from smolpilot.datasets.tolerant.rules import WITHOUT

type Values = npt.NDArray[np.float64]

_CHECKED = ("mean", "std", "min", "max")


def vectors(subject: Subject) -> Iterator[Finding]:
    """Mean, spread and range of every vector: per episode where the version stores that, and of the whole."""
    recording = subject.recording
    complete = len(recording.rows) == len(recording.records)
    larger = larger_set(subject) if complete else None
    if larger is not None:
        yield larger
    for key, vector in recording.vectors.items():
        if key in INDEX_COLUMNS:
            continue
        parts = dict(recording.values(key))
        for episode, values in parts.items():
            stored = recording.records[episode].statistics
            if stored and key in stored and np.isfinite(values).all():
                yield from _compare(subject, vector, stored, values, len(values), episode)
        if not complete or larger is not None or key not in recording.statistics or not parts:
            continue
        whole = recording.stacked(key)
        if len(whole) and np.isfinite(whole).all():
            yield from _compare(subject, vector, recording.statistics, whole, len(whole), None)


def larger_set(subject: Subject) -> Finding | None:
    """One cause for all: the statistics of state and action are of other rows than there are.

    Their count says so; without one, info's total does, when no statistic fits.
    """
    recording = subject.recording
    rows = sum(len(one) for one in recording.rows.values())
    read = [key for key in (STATE, ACTION) if key in recording.vectors and key in recording.statistics]
    counts = {_count(recording.statistics[key].get("count")) for key in read}
    if not rows or len(counts) != 1:
        return None
    count = counts.pop()
    if count is None:
        count = recording.info.get("total_frames")
        wrong = any(
            len(whole := recording.stacked(key))
            and list(_compare(subject, recording.vectors[key], recording.statistics, whole, rows, None))
            for key in read
        )
        if not isinstance(count, int) or not wrong:
            return None
    if count == rows:
        return None
    what = "a larger set" if count > rows else "a part of it"
    message = f"meta/stats.json describes {count} rows; the dataset has {rows}: its statistics are those of {what}."
    return subject.finding("statistics-wrong", message)


def _count(value: Values | None) -> int | None:
    return int(value.flat[0]) if value is not None and value.size == 1 and np.isfinite(value).all() else None


def missing(subject: Subject) -> Iterator[Finding]:
    """Features and episodes without statistics, where the others have them."""
    recording = subject.recording
    wanted = [key for key in (*recording.vectors, *recording.cameras) if key not in INDEX_COLUMNS]
    if recording.statistics:
        for key in wanted:
            vector = recording.vectors.get(key)
            if key not in recording.statistics and (vector is None or vector.dtype.startswith(("float", "int"))):
                used = key in (STATE, ACTION) or (key in recording.cameras and recording.cameras[key].color)
                severity: Severity | None = None if used else "info"
                message = f"The statistics have nothing on '{key}'."
                yield subject.finding("statistics-missing", message, severity=severity)
    with_some = [index for index, record in recording.records.items() if record.statistics]
    if not with_some:
        return
    for index, record in recording.records.items():
        if record.listed and not record.statistics:
            yield subject.finding("statistics-missing", f"Episode {index} has no statistics.", episode=index)


def _compare(
    subject: Subject, vector: Vector, stored: Stored, values: Values, summed: int, episode: int | None
) -> Iterator[Finding]:
    stats = stored.get(vector.key, {})
    where = "the dataset" if episode is None else f"episode {episode}"
    used = vector.key in (STATE, ACTION)
    options: dict[str, Any] = {} if used else {"severity": "info", "fix": WITHOUT, "key": vector.key}
    options |= {} if episode is None else {"episode": episode}
    width = values.shape[1]
    told = {name: stats[name].reshape(-1) for name in _CHECKED if name in stats}
    # Of a matrix, LeRobot keeps the statistics of its columns.
    columns = (
        vector.shape[-1]
        if len(vector.shape) > 1 and told and {one.size for one in told.values()} == {vector.shape[-1]}
        else width
    )
    for name, value in told.items():
        if value.size != columns or not np.isfinite(value).all():
            found = "numbers that are not finite" if value.size == columns else f"shape {list(stats[name].shape)}"
            message = f"The stored {name} of '{vector.key}' for {where} has {found}."
            yield subject.finding("statistics-damaged", message, **options)
            return
    if not told:
        return
    true = true_statistics(values.reshape(-1, columns), summed * (width // columns))
    for name, value in told.items():
        off = np.abs(value - true.values[name])
        excess = off - true.allowed(name)
        if excess.max() > 0:
            joint = int(np.argmax(excess / true.scale))
            first, second = apart(float(value[joint]), float(true.values[name][joint]))
            named = vector.name(joint) if columns == width else f"column {joint}"
            message = (
                f"The stored {name} of '{vector.key}', joint '{named}', for {where} is {first}; the data have {second}."
            )
            yield subject.finding("statistics-wrong", message, **options, joint=named)
            return
    counted = stats.get("count")
    if counted is not None and counted.size == 1 and counted.flat[0] != len(values):
        message = (
            f"The statistics of '{vector.key}' for {where} count {counted.flat[0]:g} rows; there are {len(values)}."
        )
        yield subject.finding("statistics-wrong", message, **options)


def apart(one: float, other: float) -> tuple[str, str]:
    """Two different numbers with as many digits as tell them apart."""
    for digits in range(5, 18):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts
