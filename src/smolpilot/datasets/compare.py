"""Comparing two recordings of any version: every value, every video packet, boundary frames, statistics."""

from __future__ import annotations

from pathlib import Path

from .copy.options import Progress
from .copy.pool import Pool, size_of
from .copy.proof.comparison import Comparison, Difference, compare_episodes, compare_meta, picture_keys
from .copy.proof.content_digests import collect
from .copy.proof.description import compare_descriptions, compare_files, not_compared
from .copy.proof.differences import first_packet_difference, first_value_difference
from .copy.source import read_extras
from .format.meta import DatasetMeta, read_meta
from .statistics.rounding import TOLERANCE

__all__ = ["TOLERANCE", "Comparison", "Difference", "compare"]


def compare(
    a: str | Path, b: str | Path, *, jobs: int = 1, tolerance: float = TOLERANCE, progress: Progress | None = None
) -> Comparison:
    """Compare two recordings of any version, streaming.

    Joined files, other list types and other file limits are no difference; values, dtypes, packets, time stamps
    relative to the episode's start, pictures, tasks, own fields, other files and statistics (to `tolerance` and the
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
    compare_episodes(facts[0], facts[1], result, tolerance, picture_keys(metas[0]))
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
