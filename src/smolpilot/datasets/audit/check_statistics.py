"""Stored statistics against the data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.audit.declared import INDEX_COLUMNS
from smolpilot.datasets.audit.findings import Finding
from smolpilot.datasets.audit.recording import Vector
from smolpilot.datasets.audit.subject import Subject
from smolpilot.statistics import Statistics

_CHECKED = ("mean", "std", "min", "max")
# Of the joint's standard deviation; recorders compute in float32.
_TOLERANCE = 0.01


def vectors(subject: Subject) -> Iterator[Finding]:
    """Mean, spread and range of every vector: per episode where the version stores that, and of the whole."""
    recording = subject.recording
    parts = {}
    for key in recording.vectors:
        if key not in INDEX_COLUMNS:
            parts[key] = dict(recording.values(key))
    for episode, record in recording.records.items():
        for key, values in parts.items():
            if episode in values and np.isfinite(values[episode]).all():
                stored, where = record.statistics, f"episode {episode}"
                yield from _compare(subject, recording.vectors[key], stored, values[episode], where, episode)
    complete = len(recording.rows) == len(recording.records)
    for key in parts:
        whole = recording.stacked(key)
        if complete and len(whole) and np.isfinite(whole).all():
            yield from _compare(subject, recording.vectors[key], recording.statistics, whole, "the dataset", None)


def missing(subject: Subject) -> Iterator[Finding]:
    """Features and episodes without statistics, where the others have them."""
    recording = subject.recording
    wanted = [key for key in (*recording.vectors, *recording.cameras) if key not in INDEX_COLUMNS]
    if recording.statistics:
        for key in wanted:
            vector = recording.vectors.get(key)
            if key not in recording.statistics and (vector is None or vector.dtype.startswith(("float", "int"))):
                yield subject.finding("statistics-missing", f"The statistics have nothing on '{key}'.")
    with_some = [index for index, record in recording.records.items() if record.statistics]
    if not with_some:
        return
    for index, record in recording.records.items():
        if record.listed and not record.statistics:
            yield subject.finding("statistics-missing", f"Episode {index} has no statistics.", episode=index)


def _compare(
    subject: Subject,
    vector: Vector,
    stored: Statistics,
    values: npt.NDArray[np.float64],
    where: str,
    episode: int | None,
) -> Iterator[Finding]:
    stats = stored.get(vector.key, {})
    scale = np.maximum(values.std(axis=0), 1e-6 + 1e-4 * np.abs(values).max(axis=0))
    for name in _CHECKED:
        if name not in stats:
            continue
        told = stats[name].reshape(-1)
        if told.shape != scale.shape or not np.isfinite(told).all():
            found = f"shape {list(stats[name].shape)}" if told.shape != scale.shape else "numbers that are not finite"
            message = f"The stored {name} of '{vector.key}' for {where} has {found}."
            yield subject.finding("statistics-damaged", message, episode=episode)
            return
        true = getattr(values, name)(axis=0)
        off = np.abs(told - true) / scale
        if off.max() > _TOLERANCE:
            joint = int(off.argmax())
            message = (
                f"The stored {name} of '{vector.key}', joint '{vector.name(joint)}', for {where} is {told[joint]:.5g}; "
                f"the data have {true[joint]:.5g}."
            )
            yield subject.finding("statistics-wrong", message, episode=episode, joint=vector.name(joint))
            return
    counted = stats.get("count")
    if counted is not None and counted.size == 1 and counted.flat[0] != len(values):
        message = (
            f"The statistics of '{vector.key}' for {where} count {counted.flat[0]:g} rows; there are {len(values)}."
        )
        yield subject.finding("statistics-wrong", message, episode=episode)
