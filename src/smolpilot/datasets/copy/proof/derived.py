"""Derived numbers of a source: which of its statistics are those of its content, and so are carried over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.statistics import array_statistics
from smolpilot.datasets.format.features import CAMERA_TYPES, Feature, is_depth
from smolpilot.datasets.statistics.rounding import beside_quantile, is_quantile, magnitude, within_rounding
from smolpilot.datasets.statistics.stored_statistics import side_by_side

REQUIRED = ("mean", "std", "min", "max", "count")
# Looser than for a comparison: any writer's way of summing up will do, another set of numbers will not.
_TOLERANCE = 1e-4
_QUANTILE = 0.1
# Of a whole dataset, as `dataset check` judges: of the standard deviation, and for images of 0 to 1.
_OF_STD, _PICTURE = 0.01, 0.08

type Values = npt.NDArray[np.float64]
type FeatureStatistics = Mapping[str, Values]


@dataclass
class Derived:
    """What became of the source's statistics, for the report: by feature, and of the episodes' how many."""

    carried: dict[str, None] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    episodes: dict[str, int] = field(default_factory=dict)
    unused: dict[str, None] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)

    def note_wrong(self, name: str, reason: str) -> None:
        """An episode's statistics of a feature that were not those of its content."""
        self.wrong.setdefault(name, reason)
        self.episodes[name] = self.episodes.get(name, 0) + 1

    @property
    def computed(self) -> list[str]:
        """Features of which statistics were computed from the content."""
        return list(dict.fromkeys([*self.missing, *self.wrong, *self.whole]))

    def notes(self, total: int) -> list[str]:
        """Sentences for a person; `total` is the number of episodes."""
        found = []
        for reason, names in _together(self.whole).items():
            which = f"the statistics of {_list(names)} {reason}"
            found.append(f"The source's meta/stats.json is not of its content: {which}. Computed anew.")
        wrong = {name: (reason, self.episodes[name]) for name, reason in self.wrong.items()}
        for (reason, count), names in _together(wrong).items():
            of = "all episodes" if count == total else f"{count} of {total} episodes"
            found.append(f"Statistics of {_list(names)} in {of} were not of their content: {reason}. Computed anew.")
        if self.unused:
            found.append(f"Statistics of {_list(list(self.unused))} belong to no feature of the source: left out.")
        return found


def usable(stats: Mapping[str, Any] | None) -> bool:
    """Whether the statistics of a feature have all that a reader needs, every number finite, one count above 0."""
    if stats is None or not all(name in stats for name in REQUIRED) or stats["count"].shape != (1,):
        return False
    return all(np.isfinite(value).all() for value in stats.values()) and float(stats["count"][0]) > 0


def judge_column(stats: FeatureStatistics, content: Values, frames: Collection[int]) -> str:
    """Why stored statistics are not those of `content` `[N, D]`, in LeRobot's form; nothing when they are.

    `frames` are the counts that are right.
    """
    size = content.shape[1]
    for key, value in stats.items():
        if key != "count" and value.size != size:
            return f"{value.size} numbers as {key} where there are {size}"
    if int(stats["count"][0]) not in frames:
        return f"counted over {int(stats['count'][0])} frames, not {min(frames)}"
    true = {key: getattr(np, key)(content, axis=0) for key in ("min", "max", "mean", "std")}
    scale = magnitude(true)
    for key, value in true.items():
        close = within_rounding(key, stats[key].ravel(), value, scale, len(content), _TOLERANCE)
        if not close.all():
            return _differs(key, stats[key].ravel(), value, close)
    quantiles = [key for key in stats if is_quantile(key)]
    if quantiles:
        room = _QUANTILE * (true["max"] - true["min"]) + 1e-6 * scale + 1e-9
        for key in quantiles:
            low, high = beside_quantile(content, float(f"0.{key[1:]}"))
            close = (stats[key].ravel() >= low - room) & (stats[key].ravel() <= high + room)
            if not close.all():
                return _differs(key, stats[key].ravel(), np.quantile(content, float(f"0.{key[1:]}"), axis=0), close)
    return ""


def judge_images(stats: FeatureStatistics, *, depth: bool) -> str:
    """Why statistics of images cannot be right, whatever frames they were counted over; nothing when they can."""
    sizes = {value.size for key, value in stats.items() if key != "count"}
    if len(sizes) > 1 or not sizes <= {1, 3, 4}:
        return f"{sorted(sizes)} numbers where there is one for each channel"
    if depth:
        return ""
    flat = {key: value.ravel() for key, value in stats.items() if key != "count"}
    if any((value < -1e-3).any() or (value > 1 + 1e-3).any() for value in flat.values()):
        return "values beyond 0 to 1, of images that were not scaled"
    if (flat["mean"] < flat["min"] - 1e-3).any() or (flat["mean"] > flat["max"] + 1e-3).any():
        return "a mean beyond minimum and maximum"
    return ""


def judge_whole(stats: FeatureStatistics, content: FeatureStatistics, *, picture: bool) -> str:
    """Why statistics of a whole dataset are not those of its episodes, merged in `content`; nothing if they are."""
    if not usable(stats):
        return "lacked numbers, or held NaN or infinity"
    for key in ("mean", "std", "min", "max"):
        if stats[key].size != content[key].size:
            return f"had {stats[key].size} numbers as {key} where there are {content[key].size}"
    there, here = int(stats["count"][0]), int(content["count"][0])
    if not picture and there != here:
        return f"were those of a {'larger' if there > here else 'smaller'} set of {there} frames, not of these {here}"
    scale = magnitude(content)
    for key in ("mean", "std", "min", "max"):
        mine, true = stats[key].ravel(), content[key].ravel()
        if picture:
            # Darkest and brightest pixel depend on which ones were looked at.
            close = np.abs(mine - true) <= _PICTURE if key in ("mean", "std") else np.ones(mine.shape, dtype=bool)
        else:
            close = within_rounding(key, mine, true, scale, here, _TOLERANCE)
            if key in ("mean", "std"):
                close |= np.abs(mine - true) <= _OF_STD * content["std"].ravel()
        if not close.all():
            how = "were those of other images, or made in another way" if picture else "were those of another set"
            return f"{how} ({_differs(key, mine, true, close)})"
    low, high = (content[key].ravel() for key in ("min", "max"))
    for key, value in stats.items():
        # Merged quantiles are an approximation: only what cannot be is wrong.
        room = 1e-4 * scale + 1e-9
        if not picture and is_quantile(key) and (value.size != low.size or _outside(value.ravel(), low, high, room)):
            return f"had {key} beyond minimum and maximum"
    return ""


def column_statistics(content: Values) -> dict[str, Values] | None:
    """Statistics of `[N, D]`, over the finite numbers of each dimension; None where one has none."""
    finite = np.isfinite(content)
    if finite.all():
        return array_statistics(content)
    if not finite.any(axis=0).all():
        return None
    columns = [array_statistics(content[finite[:, place], place]) for place in range(content.shape[1])]
    return side_by_side(columns, len(content))


def is_image(name: str, features: Mapping[str, Feature]) -> bool:
    """Whether a feature is images, whose statistics are counted over some of them."""
    return name in features and features[name].dtype in CAMERA_TYPES


def depth_keys(info: Mapping[str, Any], features: Mapping[str, Feature]) -> set[str]:
    """Features that hold distances: their statistics are in units, and not made up."""
    raw = info.get("features", {})
    pictures = {name: one for name, one in features.items() if is_image(name, features)}
    return {name for name, one in pictures.items() if isinstance(raw.get(name), dict) and is_depth(raw[name], one)}


def in_lerobot_form(stats: Mapping[str, Any], *, picture: bool) -> dict[str, Values]:
    """Of images `[C, 1, 1]`, of columns `[D]`; the count is one number."""
    shape = (-1, 1, 1) if picture else (-1,)
    return {key: value if key == "count" else value.reshape(shape) for key, value in stats.items()}


def _outside(value: Values, low: Values, high: Values, room: Values | float) -> bool:
    return bool((value < low - room).any() or (value > high + room).any())


def _differs(key: str, stored: Values, true: Values, close: npt.NDArray[np.bool_]) -> str:
    place = int(np.flatnonzero(~close)[0])
    where = f"[{place}]" if len(true) > 1 else ""
    return f"{key}{where} {stored[place]:.6g}, by the content {true[place]:.6g}"


def _together[T](reasons: Mapping[str, T]) -> dict[T, list[str]]:
    groups: dict[T, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return groups


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
