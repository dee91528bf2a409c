"""convert(): a dataset of one LeRobot version as a new folder of another, proven equal."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from smolpilot.common.errors import DatasetError, UsageError

from .copy import CopyOptions, CopyReport, EpisodePlan, Progress, copy_episodes
from .format.meta import DatasetMeta, read_meta


def convert(
    src: str | Path,
    dst: str | Path,
    options: CopyOptions | None = None,
    *,
    without: Collection[str] = (),
    progress: Progress | None = None,
) -> CopyReport:
    """Write all episodes of `src` (v2.0, v2.1 or v3.0) as a new folder `dst`, with the indices they have.

    `without` are keys of features that are left out. Raises as `read_meta` and `copy_episodes` do.
    """
    meta = _read(Path(src).expanduser(), without)
    plans = [EpisodePlan(meta, episode.index) for episode in meta.episodes]
    return copy_episodes(plans, dst, options, progress=progress)


def _read(src: Path, without: Collection[str]) -> DatasetMeta:
    """The source's description; errors in it say that a repair may put them right."""
    if src.is_file():
        raise UsageError(
            f"{src} is a file.",
            expected="the folder of a dataset",
            fix="Name the folder that holds meta/, data/ and videos/.",
        )
    try:
        return read_meta(src, trainable=False, without=without)
    except DatasetError as error:
        described = (src / "meta" / "info.json").is_file() and "meta" in error.found.replace(str(src), "")
        if not described or "dataset repair" in error.fix:
            raise
        repair = "`smolpilot dataset repair` makes a copy in which this is right, as far as the other files tell."
        raise DatasetError(
            error.found, expected=error.expected, fix=f"{error.fix} Or: {repair}" if error.fix else repair
        ) from error
