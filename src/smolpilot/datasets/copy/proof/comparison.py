"""The outcome of a comparison, and the comparison of what has been read of two datasets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.hashing import file_digest
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import pluralize
from smolpilot.datasets.beside import files_beside
from smolpilot.datasets.copy.info import splits_fit
from smolpilot.datasets.copy.source import Extras
from smolpilot.datasets.format.episode_fields import plain_field, same_field
from smolpilot.datasets.format.features import CAMERA_TYPES, Feature, video_details
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.versions import INFO_KEYS
from smolpilot.datasets.statistics.rounding import (
    TOLERANCE,
    count_of,
    is_quantile,
    magnitude,
    within_method,
    within_rounding,
)

from .content_digests import EpisodeDigests
from .derived import FeatureStatistics

_CHECKS = ("description", "tasks", "episodes", "values", "packets", "pictures", "statistics", "files")
_WHAT = {
    "description": "facts: rate, robot, features, own fields",
    "tasks": "instructions",
    "episodes": "episodes: index, length, instructions, own fields",
    "values": "table values, bit by bit",
    "packets": "video packets: content and time",
    "pictures": "decoded first and last frames",
    "statistics": "statistics per episode and in all",
    "files": "card, license and other files",
}


@dataclass(frozen=True)
class Difference:
    """One thing that is not equal; `episode` None where it concerns the whole recording."""

    check: str
    episode: int | None
    text: str

    def __str__(self) -> str:
        return self.text if self.episode is None else f"episode {self.episode}: {self.text}"


@dataclass
class Comparison:
    """The outcome: per check how much was compared, and all differences.

    `encoded` counts what was encoded again and so is not compared with the source; `not_compared` names
    what the comparison leaves out. `methods` counts statistics, by feature and kind, that differ no more than two
    ways of computing them do: no difference. `remarks` are what else was found that is none.
    """

    compared: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_CHECKS, 0))
    differences: list[Difference] = field(default_factory=list)
    encoded: dict[str, int] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)
    methods: dict[tuple[str, str], int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def content_equal(self) -> bool:
        """Whether nothing differs but statistics, which can be computed from the content."""
        return all(one.check == "statistics" for one in self.differences)

    @property
    def notes(self) -> list[str]:
        """What was found that is no difference."""
        return self.remarks + [
            f"{what} of '{name}' were computed in different ways, and differ no more than that does "
            f"({pluralize(count, 'number')})"
            for (name, what), count in self.methods.items()
        ]

    def add(self, check: str, text: str, episode: int | None = None) -> None:
        """Note a difference."""
        self.differences.append(Difference(check, episode, text))

    def count(self, check: str, number: int, *, encoded: bool = False) -> None:
        """Note what was compared, or (`encoded`) only with what it was encoded to."""
        counts = self.encoded if encoded else self.compared
        counts[check] = counts.get(check, 0) + number

    def table(self) -> list[dict[str, Any]]:
        """One row per check: what, how many things were compared, how many differ."""
        return [
            {
                "check": check,
                "what": _WHAT[check],
                "compared": self.compared[check],
                "differences": sum(one.check == check for one in self.differences),
                "encoded_again": self.encoded.get(check, 0),
            }
            for check in _CHECKS
        ]

    def to_json(self) -> dict[str, Any]:
        """The whole outcome as plain values."""
        return {
            "equal": self.equal,
            "content_equal": self.content_equal,
            "notes": self.notes,
            "checks": self.table(),
            "not_compared": self.not_compared,
            "differences": [vars(one) for one in self.differences],
        }


def compare_meta(a: DatasetMeta, b: DatasetMeta, result: Comparison, tolerance: float = TOLERANCE) -> None:
    """Rate, robot, features, cameras, task list and the statistics of the whole recording."""
    for name, mine, theirs in (
        ("frames per second", a.fps, b.fps),
        ("robot", a.robot_type, b.robot_type),
        ("cameras", a.camera_names, b.camera_names),
    ):
        result.compared["description"] += 1
        if mine != theirs:
            result.add("description", f"{name}: {mine} and {theirs}")
    for name in {**a.features, **b.features}:
        result.compared["description"] += 1
        text = _feature_difference(a.features.get(name), b.features.get(name))
        if text:
            result.add("description", f"feature '{name}': {text}")
    for index in sorted({**a.tasks, **b.tasks}):
        result.compared["tasks"] += 1
        if a.tasks.get(index) != b.tasks.get(index):
            result.add("tasks", f"task {index}: {a.tasks.get(index)!r} and {b.tasks.get(index)!r}")
    # v2.0 counted otherwise, and only for the whole dataset: what is computed anew cannot be equal to it.
    if a.format.comparable_statistics and b.format.comparable_statistics:
        _compare_statistics(a.statistics, b.statistics, None, result, tolerance, camera_feature_keys(a))


def compare_whole(a: Statistics, b: Statistics, result: Comparison) -> None:
    """Statistics of a whole dataset as they were to be written with those that were read back."""
    _compare_statistics(a, b, None, result, TOLERANCE, None)


def camera_feature_keys(meta: DatasetMeta) -> set[str]:
    """Features whose statistics are counted over some of their images."""
    return {name for name, feature in meta.features.items() if feature.dtype in CAMERA_TYPES}


def compare_episodes(
    a: Sequence[EpisodeDigests],
    b: Sequence[EpisodeDigests],
    result: Comparison,
    tolerance: float = TOLERANCE,
    pictures: Collection[str] | None = None,
) -> None:
    """Episodes with the same index value: lengths, instructions, columns, packets, images, statistics.

    `pictures` are the features of images; None where statistics have to be the same numbers, not only of the same
    content.
    """
    mine, theirs = ({one.index: one for one in side} for side in (a, b))
    for index in sorted({**mine, **theirs}):
        result.compared["episodes"] += 1
        if index not in mine or index not in theirs:
            result.add("episodes", f"only in the {'first' if index in mine else 'second'} dataset", index)
            continue
        one, other = mine[index], theirs[index]
        if one.length != other.length:
            result.add("episodes", f"{one.length} and {other.length} frames", index)
        # An episode list without instructions says nothing: they are in the rows.
        if one.tasks and other.tasks and one.tasks != other.tasks:
            result.add("episodes", f"instructions {one.tasks} and {other.tasks}", index)
        _compare_columns(one, other, result)
        _compare_videos(one, other, result)
        _compare_statistics(one.statistics, other.statistics, index, result, tolerance, pictures)


def _feature_difference(a: Feature | None, b: Feature | None) -> str:
    # One that is described on one side only shows among the columns and videos if it is more than words.
    if a is None or b is None:
        return ""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{a.dtype} {list(a.shape)} and {b.dtype} {list(b.shape)}"
    # Names that were missing and have been filled in are no difference.
    if a.names is not None and b.names is not None and a.names != b.names:
        return f"names {a.names} and {b.names}"
    return ""


def _compare_columns(one: EpisodeDigests, other: EpisodeDigests, result: Comparison) -> None:
    for name in {**one.columns, **other.columns}:
        mine, theirs = one.columns.get(name), other.columns.get(name)
        result.compared["values"] += one.length
        if mine is None or theirs is None:
            result.add("values", f"column '{name}' only in the {'second' if mine is None else 'first'}", one.index)
        elif mine[0] != theirs[0]:
            result.add("values", f"column '{name}' is {mine[0]} and {theirs[0]}", one.index)
        elif mine[1] != theirs[1]:
            result.add("values", f"column '{name}' differs", one.index)


def _compare_videos(one: EpisodeDigests, other: EpisodeDigests, result: Comparison) -> None:
    for camera in {**one.clips, **other.clips}:
        mine, theirs = one.clips.get(camera), other.clips.get(camera)
        if mine is None or theirs is None:
            which = "second" if mine is None else "first"
            result.add("packets", f"video of '{camera}' only in the {which} dataset", one.index)
            continue
        encoded = camera in one.encoded
        result.count("packets", mine.frames, encoded=encoded)
        codings = [name for name in mine.coding.differs_in(theirs.coding) if name != "time_base"]
        if codings:
            result.add("packets", f"video of '{camera}' is coded otherwise ({', '.join(codings)})", one.index)
        if mine.frames != theirs.frames:
            result.add("packets", f"video of '{camera}' has {mine.frames} and {theirs.frames} frames", one.index)
        elif mine.digest != theirs.digest:
            result.add("packets", f"video of '{camera}' differs", one.index)
        if float(abs(mine.lead * mine.tick - theirs.lead * theirs.tick)) > 1e-3:
            result.add("packets", f"video of '{camera}' begins at another time", one.index)
        for which, first, second in zip(("first", "last"), one.pictures[camera], other.pictures[camera], strict=True):
            result.count("pictures", 1, encoded=encoded)
            if first != second:
                result.add("pictures", f"the {which} image of '{camera}' differs", one.index)


def _compare_statistics(
    a: Statistics,
    b: Statistics,
    episode: int | None,
    result: Comparison,
    tolerance: float,
    pictures: Collection[str] | None,
) -> None:
    """Only what both have: missing statistics may have been filled in."""
    for name in a:
        for key in a[name]:
            if name not in b or key not in b[name]:
                continue
            mine, theirs = np.ravel(a[name][key]), np.ravel(b[name][key])
            result.compared["statistics"] += len(mine)
            if mine.shape != theirs.shape:
                result.add("statistics", f"{key} of '{name}' has {len(mine)} and {len(theirs)} numbers", episode)
                continue
            # Nearly always they are the same numbers, and that is cheap to see.
            if np.array_equal(mine, theirs):
                continue
            scale = magnitude(a[name], b[name])
            scale = scale if np.shape(scale) == mine.shape else float(np.max(scale))
            close = within_rounding(key, mine, theirs, scale, count_of(a[name], b[name]), tolerance)
            if pictures is not None and not close.all():
                far = ~close
                spread = _spread(a[name], mine)
                close |= within_method(key, mine, theirs, spread, name in pictures, merged=episode is None)
                what = "quantiles" if is_quantile(key) else "statistics"
                found = int((far & close).sum())
                if found:
                    result.methods[name, what] = result.methods.get((name, what), 0) + found
            if not close.all():
                worst = int(np.flatnonzero(~close)[0])
                where = f"'{name}'" + (f"[{worst}]" if len(mine) > 1 else "")
                result.add("statistics", f"{key} of {where}: {mine[worst]:.9g} and {theirs[worst]:.9g}", episode)


def _spread(stats: FeatureStatistics, like: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | float:
    """Maximum less minimum of each dimension; 0 where they are not stated."""
    if "min" not in stats or "max" not in stats:
        return 0.0
    spread = np.nan_to_num(stats["max"].ravel() - stats["min"].ravel(), posinf=0.0)
    return spread if spread.shape == like.shape else 0.0


_HISTORY = Path("meta/smolpilot_history.json")
_COMPARED = ("dtype", "shape", "names")
_NEVER = (
    "LeRobot version, division into files and folders, totals (counted from the data)",
    "meta/smolpilot_manifest.json and meta/smolpilot_history.json",
    "attributes of features and splits that only one side states",
)


def compare_descriptions(a: Extras, b: Extras, result: Comparison) -> None:
    """Splits, own fields of `info.json`, attributes of features, own fields of episodes."""
    own = [{key: value for key, value in side.info.items() if key not in INFO_KEYS} for side in (a, b)]
    for name in {**own[0], **own[1]}:
        _compare_said(name, own[0].get(name), own[1].get(name), result)
    if _has_splits("A", a, result) and _has_splits("B", b, result):
        _compare_said("splits", a.info["splits"], b.info["splits"], result)
    features = [side.info.get("features", {}) for side in (a, b)]
    for name in features[0]:
        mine, theirs = (_attributes(side.get(name)) for side in features)
        for key in mine:
            if key in theirs:
                _compare_said(f"'{key}' of feature '{name}'", mine[key], theirs[key], result)
    compare_fields(a, b, result)


def _has_splits(which: str, side: Extras, result: Comparison) -> bool:
    """Whether a dataset states splits that are of its episodes; others are stale, not content."""
    splits = side.info.get("splits")
    if not splits or splits_fit(splits, len(side.fields)):
        return bool(splits)
    result.remarks.append(f"splits of {which} ({_shortened(splits)}) are not of its {len(side.fields)} episodes")
    return False


def compare_fields(a: Extras, b: Extras, result: Comparison) -> None:
    """Own fields of the episodes that both have."""
    for index in sorted(a.fields.keys() & b.fields.keys()):
        mine, theirs = a.fields[index], b.fields[index]
        for name in {**mine, **theirs}:
            _compare_said(f"field '{name}'", mine.get(name), theirs.get(name), result, index)


def compare_files(a: Path, b: Path, result: Comparison) -> None:
    """Card, license and other files beside the recording."""
    mine, theirs = (
        {name.as_posix(): root / path for path, name in files_beside(root).files.items() if name != _HISTORY}
        for root in (a, b)
    )
    for name in sorted(mine.keys() | theirs.keys()):
        result.count("files", 1)
        if name not in mine or name not in theirs:
            result.add("files", f"{name}: only in the {'first' if name in mine else 'second'} dataset")
        elif file_digest(mine[name]) != file_digest(theirs[name]):
            result.add("files", f"{name} differs")


def not_compared(metas: Sequence[DatasetMeta], facts: Sequence[Sequence[EpisodeDigests]]) -> list[str]:
    """What two datasets can differ in all the same, and statistics that one of them lacks."""
    found = list(_NEVER)
    levels = {
        "in all": [set(meta.statistics) for meta in metas],
        "per episode": [{name for one in side for name in one.statistics} for side in facts],
    }
    for level, (mine, theirs) in levels.items():
        for side, absent, there in (("A", theirs - mine, mine), ("B", mine - theirs, theirs)):
            if absent:
                which = f" of {', '.join(sorted(absent))}" if there else ""
                found.append(f"statistics {level}{which}: none in {side}")
    odd = sorted({meta.version for meta in metas if not meta.format.comparable_statistics})
    return [*found, *(f"statistics in all: {version} counted them otherwise" for version in odd)]


def _compare_said(what: str, mine: Any, theirs: Any, result: Comparison, episode: int | None = None) -> None:
    check = "description" if episode is None else "episodes"
    # The count of episodes is that of episodes.
    if episode is None:
        result.count(check, 1)
    if not same_field(_without_nulls(mine), _without_nulls(theirs)):
        result.add(check, f"{what}: {_shortened(mine)} and {_shortened(theirs)}", episode)


def _attributes(entry: Any) -> dict[str, Any]:
    """Those that are not part of a feature's dtype, shape and names; of videos in one level."""
    if not isinstance(entry, Mapping):
        return {}
    own = {key: value for key, value in entry.items() if key not in (*_COMPARED, "info", "video_info")}
    return own | video_details(dict(entry))


def _without_nulls(value: Any) -> Any:
    """Tables say null where json lines leave out, and have types that JSON has as text."""
    value = plain_field(value)
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list | tuple) else value


def _shortened(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
