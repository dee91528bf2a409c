"""Lists of the meta folder from plain values: rows of the episode table, lines of JSON, the index features."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.statistics import Statistics, plain_statistics

from .features import INDEX_COLUMNS

INDEX_TYPES = {name: "float32" if name == "timestamp" else "int64" for name in INDEX_COLUMNS}
"""The dtypes of LeRobot's own columns, which the format fixes."""


def index_feature(name: str) -> dict[str, Any]:
    """The feature of one of LeRobot's own columns."""
    return {"dtype": INDEX_TYPES[name], "shape": [1], "names": None}


def episode_row(
    index: int,
    tasks: Sequence[str],
    rows: range,
    data_file: int,
    videos: Mapping[str, tuple[int, float, float]],
    per_chunk: int,
) -> dict[str, Any]:
    """A row of the episode table: instructions, rows of the whole dataset, and places.

    `videos` are (file, start, end in seconds) by feature key; a folder has `per_chunk` files.
    """
    chunk, file = divmod(data_file, per_chunk)
    row: dict[str, Any] = {
        "episode_index": index,
        "tasks": tasks,
        "length": len(rows),
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": rows.start,
        "dataset_to_index": rows.stop,
    }
    for key, (number, start, end) in videos.items():
        chunk, file = divmod(number, per_chunk)
        values = {"chunk_index": chunk, "file_index": file, "from_timestamp": start, "to_timestamp": end}
        row |= {f"videos/{key}/{name}": value for name, value in values.items()}
    return row


def statistics_cells(statistics: Statistics) -> dict[str, Any]:
    """The cells of the episode table that hold an episode's statistics, and the table's own place."""
    plain = plain_statistics(statistics)
    cells = {f"stats/{name}/{key}": value for name, stats in plain.items() for key, value in stats.items()}
    return {**cells, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A file with one JSON object per line; what JSON has not is written as text."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
