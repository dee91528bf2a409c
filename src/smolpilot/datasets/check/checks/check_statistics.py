"""Stored statistics against the data, within the rounding of whoever computed them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.statistics_columns import Stored
from smolpilot.datasets.statistics.rounding import true_statistics, unlike
from smolpilot.datasets.tolerant.findings import Finding, Severity
from smolpilot.datasets.tolerant.rules import WITHOUT

type Values = npt.NDArray[np.float64]

_CHECKED = ("mean", "std", "min", "max")


def vectors(context: CheckContext) -> Iterator[Finding]:
    """Mean, spread and range of every vector: per episode where the version stores that, and of the whole."""
    dataset = context.dataset
    complete = len(dataset.rows) == len(dataset.records)
    larger = larger_set(context) if complete else None
    if larger is not None:
        yield larger
    for key in dataset.vectors:
        if key in INDEX_COLUMNS:
            continue
        parts = dict(dataset.values(key))
        for episode, values in parts.items():
            stored = dataset.records[episode].statistics
            if stored and key in stored and np.isfinite(values).all():
                yield from _compare(context, key, stored, values, len(values), episode)
        if not complete or larger is not None or key not in dataset.statistics or not parts:
            continue
        whole = dataset.stacked(key)
        if len(whole) and np.isfinite(whole).all():
            yield from _compare(context, key, dataset.statistics, whole, len(whole), None)


def larger_set(context: CheckContext) -> Finding | None:
    """One cause for all: the statistics of state and action are of other rows than there are.

    Their count says so; without one, info's total does, when no statistic fits.
    """
    dataset = context.dataset
    rows = sum(len(one) for one in dataset.rows.values())
    read = [key for key in (STATE, ACTION) if key in dataset.vectors and key in dataset.statistics]
    counts = {_count(dataset.statistics[key].get("count")) for key in read}
    if not rows or len(counts) != 1:
        return None
    count = counts.pop()
    if count is None:
        count = dataset.info.get("total_frames")
        wrong = any(
            len(whole := dataset.stacked(key)) and list(_compare(context, key, dataset.statistics, whole, rows, None))
            for key in read
        )
        if not isinstance(count, int) or not wrong:
            return None
    if count == rows:
        return None
    what = "a larger set" if count > rows else "a part of it"
    message = f"meta/stats.json describes {count} rows; the dataset has {rows}: its statistics are those of {what}."
    return context.finding("statistics-wrong", message)


def _count(value: Values | None) -> int | None:
    return int(value.flat[0]) if value is not None and value.size == 1 and np.isfinite(value).all() else None


def missing(context: CheckContext) -> Iterator[Finding]:
    """Features and episodes without statistics, where the others have them."""
    dataset = context.dataset
    wanted = [key for key in (*dataset.vectors, *dataset.cameras) if key not in INDEX_COLUMNS]
    if dataset.statistics:
        for key in wanted:
            vector = dataset.vectors.get(key)
            if key not in dataset.statistics and (vector is None or vector.dtype.startswith(("float", "int"))):
                used = key in (STATE, ACTION) or (key in dataset.cameras and dataset.cameras[key].color)
                severity: Severity | None = None if used else "info"
                message = f"The statistics have nothing on '{key}'."
                yield context.finding("statistics-missing", message, severity=severity)
    if not any(record.statistics for record in dataset.records.values()):
        return
    for index, record in dataset.records.items():
        if record.listed and not record.statistics:
            yield context.finding("statistics-missing", f"Episode {index} has no statistics.", episode=index)


def _compare(
    context: CheckContext, key: str, stored: Stored, values: Values, summed: int, episode: int | None
) -> Iterator[Finding]:
    stats, vector = stored.get(key, {}), context.dataset.vectors[key]
    where = "the dataset" if episode is None else f"episode {episode}"
    used = key in (STATE, ACTION)
    options: dict[str, Any] = {} if used else {"severity": "info", "fix": WITHOUT, "key": key}
    options |= {} if episode is None else {"episode": episode}
    width = values.shape[1]
    told = {name: stats[name].reshape(-1) for name in _CHECKED if name in stats}
    # Of a matrix, LeRobot keeps the statistics of its columns.
    of_columns = len(vector.shape) > 1 and {one.size for one in told.values()} == {vector.shape[-1]}
    columns = vector.shape[-1] if of_columns else width
    for name, value in told.items():
        if value.size != columns or not np.isfinite(value).all():
            found = "numbers that are not finite" if value.size == columns else f"shape {list(stats[name].shape)}"
            message = f"The stored {name} of '{key}' for {where} has {found}."
            yield context.finding("statistics-damaged", message, **options)
            return
    if not told:
        return
    true = true_statistics(values.reshape(-1, columns), summed * (width // columns))
    for name, value in told.items():
        off = np.abs(value - true.values[name])
        excess = off - true.allowed(name)
        if excess.max() > 0:
            joint = int(np.argmax(excess / true.scale))
            first, second = unlike(float(value[joint]), float(true.values[name][joint]))
            named = vector.name(joint) if columns == width else f"column {joint}"
            message = f"The stored {name} of '{key}', joint '{named}', for {where} is {first}; the data have {second}."
            yield context.finding("statistics-wrong", message, **options, joint=named)
            return
    counted = stats.get("count")
    if counted is not None and counted.size == 1 and counted.flat[0] != len(values):
        message = f"The statistics of '{key}' for {where} count {counted.flat[0]:g} rows; there are {len(values)}."
        yield context.finding("statistics-wrong", message, **options)
