"""merge(): several datasets of one robot as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets.copy import CopyReport, EpisodePlan, Progress, copy_episodes
from smolpilot.datasets.copy.options import EditSettings
from smolpilot.datasets.feature_choice import ALWAYS_KEPT
from smolpilot.datasets.format.features import Feature
from smolpilot.datasets.format.files import read_json
from smolpilot.datasets.format.meta import DatasetMeta

from .history import of_union


def merge(
    sources: Sequence[DatasetMeta],
    dst: str | Path,
    settings: EditSettings | None = None,
    *,
    robot_type: str | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Write the episodes of all sources, in order, as the new folder `dst`; equal instructions become one task.

    The sources may be of different versions; a single one is numbered anew. `robot_type` is for robots whose names
    differ though they are the same: it becomes the result's. Raises UsageError for no source or one given twice,
    DatasetError naming the first difference in rate, robot, features or joint names.
    """
    if not sources:
        raise UsageError("There is nothing to merge.", expected="DST SRC1 SRC2 …")
    roots = [meta.root for meta in sources]
    twice = next((root for root, count in Counter(roots).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice.", expected="each dataset once: its episodes would be doubled")
    for other in sources[1:]:
        _require_same_kind(sources[0], other, robot_type)
    # Who is silent about the robot takes the name of those who are not.
    named = robot_type or next((meta.robot_type for meta in sources if meta.robot_type), None)
    info = {**read_json(sources[0].root / "meta" / "info.json", "dataset description"), "robot_type": named}
    # Numbers of the first source alone say nothing about the union.
    info.pop("splits", None)
    plans = [EpisodePlan(meta, episode.index) for meta in sources for episode in meta.episodes]
    options = (settings or EditSettings()).copying(sources)
    without = sorted(set().union(*(meta.without for meta in sources)))
    details = {"without": without} if without else {}
    files = of_union(list(sources), robot_type=named, **details)
    return copy_episodes(plans, dst, options, info=info, renumber=True, files=files, progress=progress)


def _require_same_kind(first: DatasetMeta, other: DatasetMeta, robot_type: str | None) -> None:
    if other.fps != first.fps:
        raise _unlike(first, other, "frames per second", first.fps, other.fps)
    if robot_type is None and first.robot_type and other.robot_type and other.robot_type != first.robot_type:
        raise _unlike(
            first,
            other,
            "robot",
            first.robot_type,
            other.robot_type,
            fix="If it is the same robot under two names, say its name: --robot-type NAME.",
        )
    for name in dict.fromkeys([*first.features, *other.features]):
        mine, theirs = first.features.get(name), other.features.get(name)
        if mine is None or theirs is None:
            lacking, having = (first, other) if mine is None else (other, first)
            raise DatasetError(
                f"{lacking.root.name} has no feature '{name}', {having.root.name} has one.",
                expected="the same features in every dataset",
                fix=_RECORD if name in ALWAYS_KEPT else f"Leave it out: --without {name}",
            )
        for what, one, two in _facets(mine, theirs):
            if one != two:
                fix = _RECORD if name in ALWAYS_KEPT else f"{_RECORD} Or leave it out: --without {name}"
                raise _unlike(first, other, f"the {what} of '{name}'", one, two, fix=fix)


def _facets(mine: Feature, theirs: Feature) -> list[tuple[str, Any, Any]]:
    facets: list[tuple[str, Any, Any]] = [
        ("dtype", mine.dtype, theirs.dtype),
        ("shape", list(mine.shape), list(theirs.shape)),
    ]
    # Names of an image's axes are spelled in many ways; a dataset without names is taken at its word.
    if mine.names and theirs.names and mine.dtype not in ("video", "image"):
        facets.append(("names", mine.names, theirs.names))
    return facets


_RECORD = "Merge datasets of the same robot with the same cameras and rate."


def _unlike(
    first: DatasetMeta, other: DatasetMeta, what: str, mine: Any, theirs: Any, fix: str = _RECORD
) -> DatasetError:
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        place = next(i for i, (one, two) in enumerate(zip(mine, theirs, strict=True)) if one != two)
        what, mine, theirs = f"{what}, place {place}", mine[place], theirs[place]
    return DatasetError(
        f"{other.root.name} differs from {first.root.name} in {what}: {theirs!r} there, {mine!r} here.",
        expected="equal rate, robot, features and joint names",
        fix=fix,
    )
