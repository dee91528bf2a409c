"""convert(): a recording of one LeRobot version as a new folder of another, proven equal."""

from __future__ import annotations

from pathlib import Path

from smolpilot.datasets.meta import read_meta
from smolpilot.datasets.rewrite import EpisodePlan, Progress, RewriteOptions, RewriteReport, rewrite


def convert(
    src: str | Path, dst: str | Path, options: RewriteOptions | None = None, *, progress: Progress | None = None
) -> RewriteReport:
    """Write all episodes of `src` (v2.0, v2.1 or v3.0) as a new folder `dst`, with the indices they have.

    Raises as `read_meta` and `rewrite` do.
    """
    meta = read_meta(src, trainable=False)
    plans = [EpisodePlan(meta, episode.index) for episode in meta.episodes]
    return rewrite(plans, dst, options, progress=progress)
