"""Episodes, tasks and statistics as the meta folder of each version lists them, read line by line and without trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smolpilot.common.json_input import parse_json
from smolpilot.common.statistics import Statistics, statistic_values
from smolpilot.common.text import shown
from smolpilot.datasets.format.episode_fields import own_fields

from .found_dataset import Record, Recording, Span
from .lenient_io import json_lines, json_object, parquet_table
from .paths import Locator, number_of
from .stored_statistics_columns import RowStatistics, stored_statistics


def read_v2_meta(recording: Recording, locator: Locator) -> None:
    """meta/*.jsonl of v2.0 and v2.1; an episode that only has files is a record, too."""
    meta = recording.root / "meta"
    _tasks(recording, json_lines(recording, meta / "tasks.jsonl", "task list"), "tasks.jsonl")
    chunk_size = whole_number(recording.info.get("chunks_size")) or 1000
    for row in json_lines(recording, meta / "episodes.jsonl", "episode list"):
        index = whole_number(row.get("episode_index"))
        if index is None or index < 0:
            recording.report("meta-damaged", "A line of meta/episodes.jsonl has no whole number as 'episode_index'.")
            continue
        record = Record(index, whole_number(row.get("length")), _texts(recording, row.get("tasks"), index))
        record.fields = own_fields(row)
        _add(recording, record, "episodes.jsonl")
    strays = _strays(recording, locator, chunk_size)
    for path in locator.tables:
        number = number_of(path)
        if number is not None and number not in recording.records and path not in strays:
            recording.records[number] = Record(number, listed=False)
    for index, record in recording.records.items():
        record.data_path = locator.data_of(index, index // chunk_size)
        for key, camera in recording.video_cameras.items():
            video = locator.video_of(camera, index, index // chunk_size)
            if video is not None:
                record.spans[key] = Span(video)
    for key, camera in recording.video_cameras.items():
        if recording.records and not locator.any_video(camera) and len(recording.video_cameras) > 1:
            for record in recording.records.values():
                record.spans.pop(key, None)
            recording.report_absent(camera)
    if recording.version == "v2.1":
        _v21_statistics(recording, meta / "episodes_stats.jsonl")
    else:
        _whole_statistics(recording)


def _strays(recording: Recording, locator: Locator, chunk_size: int) -> set[Path]:
    """Tables that are no episodes: unlisted and elsewhere, in a folder whose listed episodes lie where they should."""

    def usual(index: int) -> Path | None:
        return locator.path("data_path", {"episode_index": index, "episode_chunk": index // chunk_size})

    there = set(locator.tables)
    if not any(usual(index) in there for index in recording.records):
        return set()
    numbers = {path: number_of(path) for path in locator.tables}
    return {path for path, number in numbers.items() if number is not None and usual(number) != path}


def read_v3_meta(recording: Recording, locator: Locator) -> None:
    """meta/episodes/, meta/tasks.parquet and meta/stats.json of v3.0."""
    meta = recording.root / "meta"
    table = parquet_table(recording, meta / "tasks.parquet", "task list")
    if table is not None:
        recording.task_texts = row_labels(table)
        # What pandas calls its index is the text.
        names = ["task" if name == "__index_level_0__" else name for name in table.column_names]
        _tasks(recording, table.rename_columns(names).to_pylist(), "tasks.parquet")
    files = sorted((meta / "episodes").glob("*/*.parquet"))
    if not files:
        recording.report("meta-damaged", "The episode tables under meta/episodes are missing.")
    for path in files:
        table = parquet_table(recording, path, "episode table")
        if table is None:
            continue
        plain = table.select([name for name in dict.fromkeys(table.column_names) if not name.startswith("stats/")])
        stored = stored_statistics(table)
        for place, row in enumerate(plain.to_pylist()):
            _v3_record(recording, locator, row, RowStatistics(stored, place), own_fields(row, plain.schema))
    _unplaced(recording)
    _whole_statistics(recording)


def row_labels(table: pa.Table) -> list[Any]:
    """What pandas makes of a table's rows as their labels: the columns that its metadata call the index, else numbers.

    LeRobot takes the label of the row at the place `task_index` for the instruction.
    """
    try:
        index = parse_json((table.schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, ValueError, TypeError):
        index = []
    listed = index if isinstance(index, list) else []
    named = [name for name in listed if isinstance(name, str) and name in table.column_names]
    if not named:
        return list(range(table.num_rows))
    labels = [table[name].to_pylist() for name in named]
    return labels[0] if len(labels) == 1 else list(zip(*labels, strict=True))


def whole_number(value: Any) -> int | None:
    """The value when it is a whole number; JSON's `3.0` is one, too."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    number = int(value)
    return number if abs(number) < 2**62 else None


def _texts(recording: Recording, value: Any, index: int) -> list[str]:
    """The instructions that the list gives an episode; what is no text is a finding and left out."""
    if value is None:
        return []
    listed = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    wrong = [text for text in listed if not isinstance(text, str)]
    if wrong:
        message = f"The episode list has {shown(wrong[0])} as an instruction of episode {index}, which is no text."
        recording.report("meta-damaged", message, episode=index)
    return [text for text in listed if isinstance(text, str)]


def _v3_record(
    recording: Recording, locator: Locator, row: dict[str, Any], statistics: RowStatistics, fields: dict[str, Any]
) -> None:
    index = whole_number(row.get("episode_index"))
    if index is None or index < 0:
        recording.report("meta-damaged", "A row of the episode table has no whole number as 'episode_index'.")
        return
    recording.listed_order.append(index)
    record = Record(index, whole_number(row.get("length")), _texts(recording, row.get("tasks"), index))
    record.first, record.last = (whole_number(row.get(f"dataset_{end}_index")) for end in ("from", "to"))
    chunk, file = (whole_number(row.get(f"data/{part}_index")) for part in ("chunk", "file"))
    absent = [] if record.length is not None else ["length"]
    if chunk is None or file is None:
        absent.append("data/chunk_index or data/file_index")
    else:
        record.data_path = locator.shared_data(chunk, file)
    for key, camera in recording.video_cameras.items():
        prefix = f"videos/{key}"
        chunk, file = (whole_number(row.get(f"{prefix}/{part}_index")) for part in ("chunk", "file"))
        start, stop = (row.get(f"{prefix}/{end}_timestamp") for end in ("from", "to"))
        if chunk is None or file is None or not isinstance(start, int | float) or not np.isfinite(start):
            recording.unplaced.setdefault(key, []).append(index)
            continue
        path = locator.shared_video(camera, chunk, file)
        if path is not None:
            ends = float(stop) if isinstance(stop, int | float) and np.isfinite(stop) else None
            record.spans[key] = Span(path, float(start), ends)
    if absent:
        message = f"The episode table says nothing of {', '.join(absent)} for episode {index}."
        recording.report("meta-damaged", message, episode=index)
    record.statistics = statistics
    record.fields = fields
    _add(recording, record, "episodes")


def _unplaced(recording: Recording) -> None:
    """A camera that no episode has a place for was never recorded: one finding, not one for each episode."""
    for key, episodes in recording.unplaced.items():
        camera = recording.cameras[key]
        if len(set(episodes)) == len(recording.records):
            recording.report_absent(camera)
            continue
        for index in episodes:
            message = f"The episode table says nothing of the place of its '{camera.name}' video for episode {index}."
            recording.report("meta-damaged", message, episode=index, camera=camera.name)


def _add(recording: Recording, record: Record, where: str) -> None:
    if record.index in recording.records:
        message = f"Episode {record.index} stands twice in meta/{where}."
        recording.report("episode-duplicate", message, episode=record.index)
        return
    recording.records[record.index] = record


def _tasks(recording: Recording, rows: list[dict[str, Any]], where: str) -> None:
    for row in rows:
        index = whole_number(row.get("task_index"))
        if index is None:
            recording.report("meta-damaged", f"An entry of meta/{where} has no whole number as 'task_index'.")
            continue
        text = row.get("task")
        if not isinstance(text, str):
            message = f"Task {index} in meta/{where} has {shown(text)} as its instruction, which is no text."
            recording.report("meta-damaged", message)
            continue
        if index in recording.tasks:
            recording.report("task-duplicate", f"Task {index} stands twice in meta/{where}.")
            continue
        recording.tasks[index] = text


def _v21_statistics(recording: Recording, path: Path) -> None:
    if not path.exists():
        recording.report("statistics-missing", "meta/episodes_stats.jsonl is missing.")
        return
    for row in json_lines(recording, path, "statistics"):
        record = recording.records.get(whole_number(row.get("episode_index")) or 0)
        if record is not None:
            record.statistics = read_statistics(recording, row.get("stats"), record.index)


def _whole_statistics(recording: Recording) -> None:
    path = recording.root / "meta" / "stats.json"
    if not path.exists():
        recording.report("statistics-missing", "meta/stats.json is missing.")
        return
    recording.statistics = read_statistics(recording, json_object(recording, path, "statistics", "meta-damaged"), None)


def read_statistics(recording: Recording, raw: Any, episode: int | None) -> Statistics:
    """Statistics as numbers; what holds none is a finding and left out."""
    found: Statistics = {}
    if not isinstance(raw, dict):
        recording.report("statistics-damaged", "The statistics are no object of features.", episode=episode)
        return found
    for feature, stats in raw.items():
        if not isinstance(stats, dict):
            recording.report("statistics-damaged", f"The statistics of '{feature}' are no object.", episode=episode)
            continue
        for name, value in stats.items():
            try:
                found.setdefault(feature, {})[name] = statistic_values(value)
            except ValueError:
                message = f"The {name} of '{feature}' in the statistics holds no numbers."
                recording.report("statistics-damaged", message, episode=episode)
    return found
