"""exclude(): a copy of a recording without some of its episodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from smolpilot.common.errors import UsageError
from smolpilot.datasets.copy import EpisodePlan, Progress, RewriteReport, rewrite
from smolpilot.datasets.format.meta import DatasetMeta, unknown_episode
from smolpilot.datasets.splits import episode_ranges

from .edit_options import EditSettings
from .history import left_out, with_edit


def exclude(
    meta: DatasetMeta,
    dst: str | Path,
    episodes: Collection[int],
    settings: EditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> RewriteReport:
    """Write all episodes but `episodes` (index values) as the new folder `dst`, numbered 0, 1, … in their order.

    Raises UsageError for an unknown episode and when none would be left; otherwise as `rewrite` does.
    """
    known = {episode.index for episode in meta.episodes}
    for index in episodes:
        if index not in known:
            raise unknown_episode(meta, index)
    gone = set(episodes)
    kept = [episode.index for episode in meta.episodes if episode.index not in gone]
    if not kept:
        raise UsageError(f"All {len(known)} episodes would be left out.", expected="at least one that stays")
    files = with_edit(meta, "exclude", episodes=episode_ranges(episodes), **left_out(meta))
    return write_episodes(meta, dst, kept, files, settings, progress)


def write_episodes(
    meta: DatasetMeta,
    dst: str | Path,
    kept: Sequence[int],
    files: Mapping[str, str],
    settings: EditSettings | None,
    progress: Progress | None,
) -> RewriteReport:
    """Write the episodes `kept`, in that order, as a recording of their own with this history."""
    plans = [EpisodePlan(meta, index) for index in kept]
    options = (settings or EditSettings()).rewriting([meta])
    return rewrite(plans, dst, options, renumber=True, files=files, progress=progress)
