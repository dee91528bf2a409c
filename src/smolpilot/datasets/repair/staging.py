"""The repaired tables and metadata as a v2.1 folder without videos: the source from which the engine writes DST."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.beside import files_beside
from smolpilot.datasets.format.arrow import LARGE
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.features import INDEX_COLUMNS, parse_cameras, parse_features
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.format.parquet_files import parquet_file, write_parquet
from smolpilot.datasets.format.versions import SINGLE
from smolpilot.datasets.format.writing import write_lines
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.datasets.tolerant.paths import VIDEO_ENDINGS

from .nested import nested_recordings
from .repair_plan import EpisodeRepair, RepairPlan
from .repaired_columns import converted

RECORDED = "recorded_timestamps.parquet"


def write_staging(dataset: FoundDataset, plan: RepairPlan, folder: Path) -> DatasetMeta:
    """Write tables, metadata and other files into `folder`; the videos stay where they are, in the source."""
    features = parse_features(plan.info, dataset.root / "meta" / "info.json")
    cameras = parse_cameras(plan.info, features, trainable=False)
    names = {camera.key: name for name, camera in cameras.items()}
    (folder / "meta").mkdir(parents=True)
    (folder / "data").mkdir()
    tables = _Tables(dataset, plan)
    episodes, recorded = [], []
    for one in plan.episodes:
        path = folder / "data" / f"episode_{one.new:06d}.parquet"
        table = tables.repaired(one)
        write_parquet(table, path)
        videos = {names[key]: VideoSpan(span.path, span.start, span.stop) for key, span in one.spans.items()}
        episodes.append(Episode(one.new, one.length, one.tasks, path, videos))
        if one.times is not None and (old := tables.recorded_times(one)) is not None:
            recorded.append(old)
    _write_meta(dataset, plan, folder, recorded)
    _copy_extras(dataset.root, folder)
    _settle(folder)
    return DatasetMeta(
        root=folder,
        version=SINGLE.version,
        fps=plan.fps,
        robot_type=plan.info.get("robot_type"),
        features=features,
        cameras=cameras,
        tasks=plan.tasks,
        episodes=episodes,
        statistics={},
    )


class _Tables:
    """Reads the source's tables, one file at a time."""

    def __init__(self, dataset: FoundDataset, plan: RepairPlan) -> None:
        self._recording, self._plan = dataset, plan
        self._last: tuple[Path, pa.Table] | None = None

    def repaired(self, one: EpisodeRepair) -> pa.Table:
        """An episode's rows, in order, with index columns written anew; every other value as it was."""
        table = self._rows(one)
        numbers = np.arange(one.length, dtype=np.int64)
        columns: dict[str, Any] = {
            "frame_index": numbers,
            "episode_index": np.full(one.length, one.new, dtype=np.int64),
            "index": numbers + one.first_row,
            "task_index": one.task_index,
        }
        if one.times is not None:
            columns["timestamp"] = one.times
        for name in INDEX_COLUMNS:
            if name in columns:
                kind = pa.float32() if name == "timestamp" else pa.int64()
                table = _put(table, name, pa.array(columns[name]).cast(kind))
        for name, column in self._plan.columns.items():
            if name in table.column_names:
                converted_column = converted(table[name], column.kind, scalar=column.scalar, fill=column.fill)
                table = _put(table, name, converted_column)
        return self._ordered(table)

    def recorded_times(self, one: EpisodeRepair) -> pa.Table | None:
        """The time stamps as they were, for those who need them."""
        table = self._rows(one)
        if "timestamp" not in table.column_names or "timestamp" not in self._plan.columns:
            return None
        count = len(table)
        return pa.table(
            {
                "episode_index": pa.array(np.full(count, one.new, dtype=np.int64)),
                "frame_index": pa.array(np.arange(count, dtype=np.int64)),
                "timestamp": _as_times(table["timestamp"], self._plan.columns["timestamp"].scalar),
            }
        )

    def _rows(self, one: EpisodeRepair) -> pa.Table:
        path = self._recording.rows[one.old].path
        if self._last is None or self._last[0] != path:
            self._last = None
            try:
                self._last = (path, parquet_file(path).read(use_threads=path.stat().st_size > LARGE))
            except (pa.ArrowException, OSError) as error:
                raise DatasetError(f"The data file {path} cannot be read: {str(error).splitlines()[0]}") from error
        table = self._last[1]
        names = [self._plan.renames.get(name, name) for name in table.column_names]
        # Of a column that stands twice, the first.
        chosen = {name: names.index(name) for name in names if name not in self._plan.left_out}
        table = table.select(list(chosen.values())).rename_columns(list(chosen))
        table = table.take(pa.array(one.positions))
        # The description that `datasets` leaves in a file does not know of columns made anew.
        return table.replace_schema_metadata(None)

    def _ordered(self, table: pa.Table) -> pa.Table:
        """Columns in one order for all episodes: that of the first table, then what was added."""
        known = [name for name in self._plan.columns if name in table.column_names]
        return table.select([*known, *(name for name in table.column_names if name not in known)])


def _put(table: pa.Table, name: str, column: Any) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.append_column(name, column) if place < 0 else table.set_column(place, name, column)


def _as_times(column: pa.ChunkedArray, scalar: bool) -> Any:
    """The time stamps as they were, as numbers; nothing where they are none."""
    try:
        return converted(column, pa.float64(), scalar=scalar, fill=False)
    except (pa.ArrowException, ValueError):
        return pa.nulls(len(column), pa.float64())


def _write_meta(dataset: FoundDataset, plan: RepairPlan, folder: Path, recorded: list[pa.Table]) -> None:
    meta = folder / "meta"
    (meta / "info.json").write_text(json.dumps(plan.info, indent=4), encoding="utf-8")
    write_lines(meta / "tasks.jsonl", [{"task_index": index, "task": text} for index, text in plan.tasks.items()])
    episodes, statistics = [], []
    for one in plan.episodes:
        record = dataset.records[one.old]
        episodes.append({"episode_index": one.new, "tasks": one.tasks, "length": one.length, **record.fields})
        stats = {key: {k: v.tolist() for k, v in record.statistics[key].items()} for key in one.keep_statistics}
        statistics.append({"episode_index": one.new, "stats": stats})
    write_lines(meta / "episodes.jsonl", episodes)
    write_lines(meta / "episodes_stats.jsonl", statistics)
    if recorded:
        write_parquet(pa.concat_tables(recorded), meta / RECORDED)


def _copy_extras(root: Path, folder: Path) -> None:
    """Card, license and other meta files; not datasets in folders of an unusual name, nor datasets inside."""
    inside = set(nested_recordings(root))
    beside = files_beside(root)
    for relative in list(beside.files):
        dataset = relative.suffix == ".parquet" or relative.suffix.lower() in VIDEO_ENDINGS
        if (dataset and relative.parts[0] != "meta") or not inside.isdisjoint((root / relative).parents):
            del beside.files[relative]
    beside.copy_to(folder)


def _settle(folder: Path) -> None:
    """The same times for the same content: a repair that was killed goes on where it was."""
    for path in sorted(folder.rglob("*")):
        os.utime(path, (0, 0))
