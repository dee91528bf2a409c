"""Comparing two datasets of any version: every value, every video packet, boundary frames, statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from .copy.options import Progress
from .copy.pool import Pool, size_of
from .copy.proof.comparison import (
    Comparison,
    Difference,
    camera_feature_keys,
    compare_descriptions,
    compare_episodes,
    compare_files,
    compare_meta,
    not_compared,
)
from .copy.proof.content_digests import collect
from .copy.source import read_extras
from .copy.tables import RowReader, column_digests, rows_of
from .copy.video.packets import Span, clips_of, packet_rows, read_packets
from .format.arrow import plain_column
from .format.meta import DatasetMeta, read_meta
from .statistics.rounding import TOLERANCE

__all__ = ["TOLERANCE", "Comparison", "Difference", "compare"]


def compare(
    a: str | Path, b: str | Path, *, jobs: int = 1, tolerance: float = TOLERANCE, progress: Progress | None = None
) -> Comparison:
    """Compare two datasets of any version, streaming.

    Joined files, other list types and other file limits are no difference; values, dtypes, packets, time stamps
    relative to the episode's start, images, tasks, own fields, other files and statistics (to `tolerance` and the
    rounding of their writers, see docs/dataset-checks.md) are.
    Raises DatasetError when one of them cannot be read.
    """
    metas = [read_meta(path, trainable=False) for path in (a, b)]
    report = progress or (lambda what, done, total: None)
    paths = [path for meta in metas for episode in meta.episodes for path in episode.paths]
    with Pool(jobs, size_of(paths)) as pool:
        facts = [collect(meta, pool, report, f"read {meta.root.name}") for meta in metas]
    result = Comparison()
    compare_meta(metas[0], metas[1], result, tolerance)
    compare_episodes(facts[0], facts[1], result, tolerance, camera_feature_keys(metas[0]))
    compare_descriptions(read_extras(metas[0]), read_extras(metas[1]), result)
    compare_files(metas[0].root, metas[1].root, result)
    result.not_compared = not_compared(metas, facts)
    _explain(result, metas[0], metas[1])
    return result


def _explain(result: Comparison, a: DatasetMeta, b: DatasetMeta, limit: int = 5) -> None:
    """Say of the first few unequal columns and videos where exactly they begin to differ."""
    for number, one in enumerate(result.differences):
        if one.check not in ("values", "packets") or one.episode is None or limit == 0 or "'" not in one.text:
            continue
        name, limit = one.text.split("'")[1], limit - 1
        find = first_value_difference if one.check == "values" else first_packet_difference
        detail = find(a, b, one.episode, name)
        if detail:
            result.differences[number] = Difference(one.check, one.episode, f"{one.text}: {detail}")


def first_value_difference(a: DatasetMeta, b: DatasetMeta, episode: int, column: str) -> str:
    """`frame 3: 0.5 and 0.25`, or nothing when a column is missing or of another type."""
    tables = [RowReader().read(rows_of(meta)[episode]) for meta in (a, b)]
    if any(column not in table.column_names for table in tables) or len(tables[0]) != len(tables[1]):
        return ""
    if plain_column(tables[0][column]).type != plain_column(tables[1][column]).type:
        return ""
    # By hash of single rows: equality of values would not see the sign of zero or take NaN for unequal.
    low, high = 0, len(tables[0])
    while high - low > 1:
        middle = (low + high) // 2
        halves = [column_digests(table.select([column]).slice(low, middle - low)) for table in tables]
        low, high = (middle, high) if halves[0] == halves[1] else (low, middle)
    cells = [plain_column(table[column].slice(low, 1)) for table in tables]
    return f"frame {low}: {_shown(cells[0], cells[1])}"


def first_packet_difference(a: DatasetMeta, b: DatasetMeta, episode: int, camera: str) -> str:
    """`packet 3 has another content`, or nothing when one of the videos is missing."""
    found = []
    for meta in (a, b):
        span = meta.episode(episode).videos.get(camera)
        if span is None:
            return ""
        starts = [e.videos[camera].start for e in meta.episodes if e.videos[camera].path == span.path]
        packets = read_packets(span.path)
        wanted = [Span(episode, span.start, span.stop, meta.episode(episode).length)]
        found.append(packet_rows(packets, clips_of(span.path, packets, wanted, starts, meta.fps)[0]))
    for number, (mine, theirs) in enumerate(zip(*found, strict=False)):
        if mine[1] != theirs[1]:
            return f"packet {number} has another content"
        if mine[0] != theirs[0]:
            return f"packet {number} is shown at {mine[0] / 1e9:.6f} s and {theirs[0] / 1e9:.6f} s"
    return ""


def _shown(a: pa.Array, b: pa.Array) -> str:
    values = [np.ravel(np.array(array.to_pylist()[0], dtype=object)) for array in (a, b)]
    if len(values[0]) == len(values[1]):
        for i, (mine, theirs) in enumerate(zip(*values, strict=True)):
            if mine != theirs:
                where = f"[{i}] " if len(values[0]) > 1 else ""
                return f"{where}{_short(mine)} and {_short(theirs)}"
    return f"{_short(values[0].tolist())} and {_short(values[1].tolist())}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
