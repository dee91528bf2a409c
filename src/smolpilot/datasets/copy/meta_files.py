"""The meta folder of either version, written from the placed episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any

import pyarrow as pa

from smolpilot.common.statistics import Statistics, plain_statistics, statistics_to_json
from smolpilot.common.text import plain
from smolpilot.datasets.format.episode_fields import FieldColumns, columns_of, plain_field
from smolpilot.datasets.format.parquet_files import parquet_writer, tasks_table, write_parquet
from smolpilot.datasets.format.versions import FORMATS
from smolpilot.datasets.format.writing import episode_row, statistics_cells, write_lines

from .copy_plan import PlacedEpisode
from .proof.content_digests import EpisodeDigests

_BATCH = 512
_AS_JSON = (
    "The values of '{name}' in the episode list have no one type that a table has: they are JSON texts in the tables, "
    "and values again in a conversion to v2.1."
)
_AS_TEXT = "The values of '{name}' in the episode list have a type that JSON has not: they are texts."


@dataclass(frozen=True)
class EpisodeRecord:
    """What the meta folder says of an episode: its place, what it holds, further fields of the source."""

    placed: PlacedEpisode
    facts: EpisodeDigests
    fields: Mapping[str, Any]

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
    if FORMATS[info["codebase_version"]].shared_files:
        write_parquet(tasks_table(tasks), meta / "tasks.parquet")
        _write_text(meta / "stats.json", statistics_to_json(whole))
        fields = columns_of([one.fields for one in records])
        rows = partial(_episode_rows, records, keys, int(info["chunks_size"]), fields)
        _write_episodes(meta / "episodes" / "chunk-000" / "file-000.parquet", fields, rows)
        return [_AS_JSON.format(name=plain(name, 100)) for name in sorted(fields.texts)]
    write_lines(meta / "tasks.jsonl", ({"task_index": index, "task": text} for index, text in tasks.items()))
    write_lines(
        meta / "episodes.jsonl",
        (
            {
                "episode_index": one.placed.index,
                "tasks": one.facts.tasks,
                "length": one.placed.rows.length,
                **one.plain_fields,
            }
            for one in records
        ),
    )
    write_lines(
        meta / "episodes_stats.jsonl",
        ({"episode_index": one.placed.index, "stats": plain_statistics(one.facts.statistics)} for one in records),
    )
    changed = {name: None for one in records for name, value in one.plain_fields.items() if value != one.fields[name]}
    return [_AS_TEXT.format(name=plain(name, 100)) for name in sorted(changed)]


def _write_episodes(path: Path, own: FieldColumns, all_rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write the episode table, a batch after the other; a statistic that only some have is empty for the others."""
    fields: dict[str, pa.Field] = {}
    for rows in batched(all_rows(), _BATCH):
        # Arrow takes the columns from the first row.
        names = dict.fromkeys(key for row in rows for key in row)
        for field in pa.Table.from_pylist([names, *rows]).schema:
            known = fields.get(field.name)
            if known is None or pa.types.is_null(known.type):
                fields[field.name] = field
    schema = pa.schema([own.columns.get(name, field) for name, field in fields.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    with parquet_writer(path, schema) as writer:
        for rows in batched(all_rows(), _BATCH):
            writer.write_table(pa.Table.from_pylist(list(rows), schema=schema))


def _episode_rows(
    records: Sequence[EpisodeRecord], keys: Mapping[str, str], chunk_files: int, own: FieldColumns
) -> Iterator[dict[str, Any]]:
    first = 0
    for one in records:
        placed, length = one.placed, one.placed.rows.length
        videos = {
            keys[camera]: (number, float(begin * placed.clips[camera].tick), float(end * placed.clips[camera].tick))
            for camera, (number, begin, end) in placed.videos.items()
        }
        rows = range(first, first + length)
        row = episode_row(placed.index, one.facts.tasks, rows, placed.data_file, videos, chunk_files)
        yield row | own.row(one.fields) | statistics_cells(one.facts.statistics)
        first += length


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
