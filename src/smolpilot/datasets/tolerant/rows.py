"""The tables' rows, episode by episode, wherever they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from .found_dataset import Array, Progress, Record, Recording, Rows
from .lenient_io import data_table
from .paths import Locator


def load_rows(recording: Recording, locator: Locator, progress: Progress | None = None) -> None:
    """Fill `recording.rows`; pictures inside the tables stay where they are."""
    skip = {key for key, camera in recording.cameras.items() if not camera.is_video}
    if recording.version == "v3.0":
        _shared_tables(recording, locator, skip, progress)
    else:
        _own_tables(recording, skip, progress)


def _own_tables(recording: Recording, skip: set[str], progress: Progress | None) -> None:
    for number, (index, record) in enumerate(recording.records.items(), 1):
        if progress is not None:
            progress("reading tables", number, len(recording.records))
        if record.data_path is None:
            recording.report("file-missing", f"Episode {index} has no data file.", episode=index)
            continue
        before = len(recording.findings)
        columns = data_table(recording, record.data_path, skip)
        _name_episode(recording, before, [index])
        if columns is not None:
            recording.rows[index] = _rows(record.data_path, columns, None)


def _shared_tables(recording: Recording, locator: Locator, skip: set[str], progress: Progress | None) -> None:
    by_path: dict[Path, list[Record]] = {}
    for record in recording.records.values():
        if record.data_path is not None:
            by_path.setdefault(record.data_path, []).append(record)
    listed_episodes = list(recording.records)
    paths = [*by_path, *(path for path in locator.tables if path not in by_path)]
    for number, path in enumerate(paths, 1):
        if progress is not None:
            progress("reading tables", number, len(paths))
        if number == len(by_path) + 1 and listed_episodes and all(i in recording.rows for i in listed_episodes):
            # Every episode has its rows: what else lies about is a stray file.
            return
        before = len(recording.findings)
        columns = data_table(recording, path, skip)
        listed = by_path.get(path, [])
        _name_episode(recording, before, [record.index for record in listed])
        if columns is not None:
            _split(recording, path, columns, listed)


def _split(recording: Recording, path: Path, columns: dict[str, Array], listed: list[Record]) -> None:
    index = columns.get("episode_index")
    numbers = index is not None and index.dtype.kind in "iuf" and index.ndim == 1
    if index is None or not numbers or not np.isfinite(index).all() or (index != np.round(index)).any():
        _split_by_span(recording, path, columns, listed)
        return
    # Sorted once: a search through all rows for each episode would take the square of their number.
    order = np.argsort(index, kind="stable")
    values, starts = np.unique(index[order], return_index=True)
    for value, places in zip(values.tolist(), np.split(order, starts[1:]), strict=False):
        episode = int(value)
        if episode in recording.rows:
            continue
        if episode not in recording.records:
            recording.records[episode] = Record(episode, data_path=path, listed=False)
        recording.rows[episode] = _rows(path, columns, places)


def _split_by_span(recording: Recording, path: Path, columns: dict[str, Array], listed: list[Record]) -> None:
    """Without the column `episode_index`: by the places that the episode table states."""
    starts = [record.first for record in listed if record.first is not None]
    count = len(next(iter(columns.values()), ()))
    for record in listed:
        if record.first is not None and record.last is not None:
            first = record.first - min(starts)
            places = np.arange(max(first, 0), min(first + record.last - record.first, count))
            recording.rows[record.index] = _rows(path, columns, places)


def _rows(path: Path, columns: dict[str, Array], places: Array | None) -> Rows:
    count = len(next(iter(columns.values()), ()))
    chosen = np.arange(count) if places is None else places
    # Neighbors, as they nearly always are, are a view of the file's columns and no copy.
    together = (
        len(chosen) > 0 and int(chosen[-1]) - int(chosen[0]) == len(chosen) - 1 and bool((np.diff(chosen) == 1).all())
    )
    part = slice(int(chosen[0]), int(chosen[-1]) + 1) if together else chosen
    return Rows(path, chosen.astype(np.int64), {name: values[part] for name, values in columns.items()})


def _name_episode(recording: Recording, before: int, episodes: list[int]) -> None:
    """Findings about a file are findings about the episodes in it."""
    fresh = recording.findings[before:]
    del recording.findings[before:]
    for found in fresh:
        if not episodes:
            recording.findings.append(found)
        for index in episodes:
            fix = found.fix.replace("--episodes N", f"--episodes {index}")
            recording.findings.append(replace(found, episode=index, fix=fix))
