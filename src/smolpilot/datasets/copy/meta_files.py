"""The meta folder of either version, written from the placed episodes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from smolpilot.common.statistics import Statistics, plain_statistics, statistics_to_json
from smolpilot.common.text import plain
from smolpilot.datasets.format.episode_fields import FieldColumns, columns_of, plain_field
from smolpilot.datasets.format.parquet_files import parquet_writer, tasks_table, write_parquet

from .copy_plan import Placed
from .proof.content_digests import EpisodeFacts

_BATCH = 512
_AS_JSON = (
    "The values of '{name}' in the episode list have no one type that a table has: they are JSON texts in the tables, "
    "and values again in a conversion to v2.1."
)
_AS_TEXT = "The values of '{name}' in the episode list have a type that JSON has not: they are texts."


@dataclass(frozen=True)
class EpisodeRecord:
    """What the meta folder says of an episode: instructions, further fields of the source, statistics."""

    placed: Placed
    tasks: list[str]
    fields: Mapping[str, Any]
    facts: EpisodeFacts

    @property
    def statistics(self) -> Statistics:
        """The episode's statistics, unpacked anew each time."""
        return self.facts.statistics

    @property
    def plain_fields(self) -> dict[str, Any]:
        """The fields for a line of JSON: a table's empty cells are left out there."""
        table = self.placed.plan.source.format.shared_files
        fields = {name: plain_field(value) for name, value in self.fields.items()}
        return {name: value for name, value in fields.items() if value is not None or not table}


def write_meta(
    root: Path,
    info: Mapping[str, Any],
    tasks: Mapping[int, str],
    records: Sequence[EpisodeRecord],
    whole: Statistics,
    keys: Mapping[str, str],
) -> list[str]:
    """Write the meta folder; `whole` are the statistics of all episodes, `keys` the features that are videos.

    Gives sentences on fields of the episode list that are there in another form.
    """
    meta = root / "meta"
    meta.mkdir(exist_ok=True)
    _write_text(meta / "info.json", json.dumps(info, indent=4, ensure_ascii=False))
    if info["codebase_version"] == "v3.0":
        write_parquet(tasks_table(tasks), meta / "tasks.parquet")
        _write_text(meta / "stats.json", statistics_to_json(whole))
        fields = columns_of([one.fields for one in records])
        _write_episodes(meta, records, keys, int(info["chunks_size"]), fields)
        return [_AS_JSON.format(name=plain(name, 100)) for name in sorted(fields.texts)]
    rows = [{"task_index": index, "task": text} for index, text in tasks.items()]
    _write_lines(meta / "tasks.jsonl", rows)
    _write_lines(
        meta / "episodes.jsonl",
        (
            {
                "episode_index": one.placed.index,
                "tasks": one.tasks,
                "length": one.placed.rows.length,
                **one.plain_fields,
            }
            for one in records
        ),
    )
    _write_lines(
        meta / "episodes_stats.jsonl",
        ({"episode_index": one.placed.index, "stats": plain_statistics(one.statistics)} for one in records),
    )
    changed = {name: None for one in records for name, value in one.plain_fields.items() if value != one.fields[name]}
    return [_AS_TEXT.format(name=plain(name, 100)) for name in sorted(changed)]


def _write_episodes(
    meta: Path, records: Sequence[EpisodeRecord], keys: Mapping[str, str], chunk_files: int, own: FieldColumns
) -> None:
    path = meta / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = _episode_schema(records, keys, chunk_files, own)
    with parquet_writer(path, schema) as writer:
        for rows in _batches(_episode_rows(records, keys, chunk_files, own)):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _episode_schema(
    records: Sequence[EpisodeRecord], keys: Mapping[str, str], chunk_files: int, own: FieldColumns
) -> pa.Schema:
    """The columns of all episodes: a statistic that only some have is empty for the others."""
    fields: dict[str, pa.Field] = {}
    for rows in _batches(_episode_rows(records, keys, chunk_files, own)):
        for field in pa.Table.from_pylist([_all_keys(rows), *rows]).schema:
            known = fields.get(field.name)
            if known is None or pa.types.is_null(known.type):
                fields[field.name] = field
    return pa.schema([own.columns.get(name, field) for name, field in fields.items()])


def _all_keys(rows: list[dict[str, Any]]) -> dict[str, Any]:
    # Arrow takes the columns from the first row.
    return dict.fromkeys(key for row in rows for key in row)


def _episode_rows(
    records: Sequence[EpisodeRecord], keys: Mapping[str, str], chunk_files: int, own: FieldColumns
) -> Iterator[dict[str, Any]]:
    first = 0
    for one in records:
        placed, length = one.placed, one.placed.rows.length
        chunk, file = divmod(placed.data_file, chunk_files)
        row: dict[str, Any] = {
            "episode_index": placed.index,
            "tasks": one.tasks,
            "length": length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
        }
        for camera, (number, begin, end) in placed.videos.items():
            chunk, file = divmod(number, chunk_files)
            tick, prefix = placed.clips[camera].tick, f"videos/{keys[camera]}"
            row |= {
                f"{prefix}/chunk_index": chunk,
                f"{prefix}/file_index": file,
                f"{prefix}/from_timestamp": float(begin * tick),
                f"{prefix}/to_timestamp": float(end * tick),
            }
        row |= own.row(one.fields)
        for name, stats in plain_statistics(one.statistics).items():
            row |= {f"stats/{name}/{key}": value for key, value in stats.items()}
        yield {**row, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        first += length


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_lines(path: Path, rows: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
