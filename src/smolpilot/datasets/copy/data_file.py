"""A data file of the result: rows of its episodes, changed and renumbered as planned, checked, then written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.errors import DatasetError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import PackedStatistics
from smolpilot.datasets.format.arrow import list_items, plain_column, replace_column
from smolpilot.datasets.format.parquet_files import parquet_writer
from smolpilot.datasets.media.video import VideoIndex, read_index

from .copy_plan import Numbers, used_tasks
from .episode_statistics import table_statistics
from .tables import RowReader, Rows, column_digests, thread_reader
from .video.packets import Clip

_REGULAR = 0.05
_TOLERANCE = 0.4
_FIX = "See `smolpilot dataset check`; `smolpilot dataset repair` makes a copy that is right."


@dataclass(frozen=True)
class EpisodeRows:
    """One episode of a data file.

    `stored` are the source's statistics of its columns, `skipped` columns that need none, `pictures` image columns
    of which some are wanted.
    """

    rows: Rows
    index: int
    change: Callable[[pa.Table], pa.Table] | None
    numbers: Numbers | None
    stored: PackedStatistics
    skipped: list[str]
    pictures: list[str]
    clips: dict[str, tuple[Path, Clip]]


def write_rows(target: Path, *, episodes: Sequence[EpisodeRows], fps: float, misaligned: bool) -> dict[str, Any]:
    """Write a parquet file with one row group per episode; gives hashes of each one's columns, its tasks, statistics.

    `misaligned` allows time stamps for which the video has no frame.
    """
    reader, facts = thread_reader(), []
    # Of the cameras' last files, in which the next episode usually is, too.
    index_of = lru_cache(maxsize=8)(read_index)
    writer: pq.ParquetWriter | None = None
    try:
        for episode in episodes:
            table = episode_table(reader, episode)
            computed, wrong = table_statistics(table, episode.stored.unpack(), episode.skipped, episode.pictures)
            facts.append(
                {
                    "columns": column_digests(table),
                    "tasks": used_tasks(table),
                    "statistics": computed,
                    "wrong_statistics": wrong,
                    "off_video": _off_video(table, episode, index_of, fps, misaligned=misaligned),
                    "not_finite": _not_finite(table),
                }
            )
            if writer is None:
                schema = table.schema
                writer = parquet_writer(target, schema)
            if not table.schema.equals(schema):
                raise _other_columns(episode, table.schema, episodes[0], schema)
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=max(len(table), 1))
    finally:
        if writer is not None:
            writer.close()
    return {"episodes": facts}


def _off_video(
    table: pa.Table, episode: EpisodeRows, index_of: Callable[[Path], VideoIndex], fps: float, *, misaligned: bool
) -> float:
    """The largest distance in seconds between a row's time stamp and its frame."""
    if "timestamp" not in table.column_names or not episode.clips:
        return 0.0
    times = np.asarray(table["timestamp"].to_numpy(), dtype=np.float64)
    worst = 0.0
    for camera, (path, clip) in episode.clips.items():
        if clip.off_grid < _REGULAR / fps:
            frames = clip.lead * float(clip.tick) + np.arange(len(times)) / fps
        else:
            shown = index_of(path).pts
            first = int(np.searchsorted(shown, clip.first_pts))
            ticks = shown[first : first + len(times)] - clip.first_pts + clip.lead
            frames = ticks * np.float64(clip.tick)
        off = np.abs(times - frames)
        worst = max(worst, float(np.nan_to_num(off, nan=np.inf).max()))
        if worst > _TOLERANCE / fps and not misaligned:
            row = int(np.nan_to_num(off, nan=np.inf).argmax())
            raise DatasetError(
                f"The time stamps of episode {episode.rows.episode} do not fit the video of camera '{camera}': at "
                f"frame {row} they are {worst:.3f} s apart, so that samples would not load.",
                expected=f"one row per frame, {1000 / fps:.1f} ms apart",
                fix="`smolpilot dataset repair` puts them onto the grid; --keep-times leaves them as they are.",
            )
    return worst


def episode_table(reader: RowReader, episode: EpisodeRows) -> pa.Table:
    """The rows as they are to be written; raises DatasetError when they would not make an episode."""
    table = reader.read(episode.rows)
    if episode.change is not None:
        table = episode.change(table)
        if len(table) != episode.rows.length:
            raise DatasetError(
                f"Changing episode {episode.rows.episode} gave {len(table)} rows.", expected=f"{episode.rows.length}"
            )
    missing = table["task_index"].null_count if "task_index" in table.column_names else 0
    if missing:
        raise DatasetError(
            f"{missing} of {len(table)} rows of episode {episode.rows.episode} have no task_index, so that their "
            f"samples would not load ({episode.rows.path}).",
            expected="a task index in every row",
            fix=_FIX,
        )
    if episode.numbers is not None:
        table = _renumber(table, episode.index, episode.numbers)
    if "episode_index" in table.column_names:
        wrong = np.flatnonzero(np.asarray(table["episode_index"].to_numpy()) != episode.index)
        if len(wrong):
            raise DatasetError(
                f"Row {int(wrong[0])} of episode {episode.index} in {episode.rows.path} says that it belongs to "
                f"episode {table['episode_index'][int(wrong[0])].as_py()}.",
                expected=f"{episode.index} in every row",
                fix=_FIX,
            )
    return table


def _renumber(table: pa.Table, index: int, numbers: Numbers) -> pa.Table:
    count = len(table)
    if "task_index" in table.column_names:
        new = [numbers.tasks[old] for old in table["task_index"].to_pylist()]
        table = replace_column(table, "task_index", np.array(new, dtype=np.int64))
    if "index" in table.column_names:
        table = replace_column(table, "index", numbers.first_row + np.arange(count, dtype=np.int64))
    if "episode_index" in table.column_names:
        table = replace_column(table, "episode_index", np.full(count, index, dtype=np.int64))
    return table


def _not_finite(table: pa.Table) -> list[str]:
    """State and action where a number is NaN or infinite."""
    found = []
    for name in (STATE, ACTION):
        if name in table.column_names:
            values = plain_column(table[name])
            while pa.types.is_list(values.type):
                values = list_items(values)
            values = values.drop_null()
            if pa.types.is_floating(values.type) and not np.isfinite(values.to_numpy(zero_copy_only=False)).all():
                found.append(name)
    return found


def _other_columns(episode: EpisodeRows, found: pa.Schema, first: EpisodeRows, expected: pa.Schema) -> DatasetError:
    mine, theirs = ({column.name: str(column.type) for column in schema} for schema in (found, expected))
    differing = sorted(name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name))
    name = differing[0] if differing else "order of columns"
    return DatasetError(
        f"Episode {episode.rows.episode} has other columns than episode {first.rows.episode}: '{name}' is "
        f"{mine.get(name, 'missing')}, not {theirs.get(name, 'missing')} ({episode.rows.path}).",
        expected="the same columns and dtypes in every episode",
        fix="Leave this episode out, or record it anew.",
    )
