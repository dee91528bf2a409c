"""Other names for the features of a dataset: state, action, cameras, further columns; nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.keys import ACTION, IMAGES, STATE
from smolpilot.common.safe_paths import why_no_name
from smolpilot.common.text import plain
from smolpilot.datasets.beside import files_beside
from smolpilot.datasets.copy import CopyReport, EpisodePlan, Progress, copy_episodes
from smolpilot.datasets.copy.options import EditSettings
from smolpilot.datasets.format.features import CAMERA_TYPES, INDEX_COLUMNS, Feature, parse_cameras, parse_features
from smolpilot.datasets.format.files import read_json
from smolpilot.datasets.format.meta import DatasetMeta

from .history import with_edit

_INDEX = (*INDEX_COLUMNS, "task")


def rename_features(
    meta: DatasetMeta,
    dst: str | Path,
    names: Mapping[str, str],
    settings: EditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> CopyReport:
    """Write a copy in which features have other names: in `info.json`, tables, statistics, episode list and folders.

    `names` are old keys (cameras also by name) and new keys. Video packets and values are copied. Raises UsageError for
    an unknown feature and for a name that cannot be; otherwise as `copy_episodes` does.
    """
    chosen = _checked(meta, names)
    renamed = _renamed(meta, chosen)
    plans = [EpisodePlan(renamed, episode.index) for episode in renamed.episodes]
    options = (settings or EditSettings()).copying([renamed])
    files = with_edit(meta, "rename", features=chosen)
    report = copy_episodes(plans, dst, options, files=files, renamed=chosen, progress=progress)
    report.warnings += _still_named(meta, chosen)
    return report


def _checked(meta: DatasetMeta, names: Mapping[str, str]) -> dict[str, str]:
    """Whole keys; UsageError where a name is unknown, taken, or not one that the feature can have."""
    if not names:
        raise UsageError("No feature is named.", expected="--feature OLD=NEW")
    keys = {name: camera.key for name, camera in meta.cameras.items()} | {key: key for key in meta.features}
    chosen: dict[str, str] = {}
    for name, new in names.items():
        if name not in keys:
            raise UsageError(
                f"The dataset {meta.root} has no feature '{name}'.",
                expected="a feature of meta/info.json, or a camera by name",
                fix=did_you_mean(name, keys),
            )
        old = keys[name]
        if old in _INDEX or new in _INDEX:
            raise UsageError(
                f"'{name}' cannot be called '{new}': LeRobot's own columns keep their names.",
                expected=f"other features than {', '.join(_INDEX)}",
            )
        if why_no_name(new) or new != new.strip() or not new.isprintable():
            raise UsageError(
                f"'{plain(new)}' cannot be a feature's name.", expected="a name without '/', such as action"
            )
        _check_kind(meta.features[old], name, new)
        if chosen.setdefault(old, new) != new:
            raise UsageError(f"The feature '{old}' is given two names: {chosen[old]} and {new}.", expected="one")
    after = [chosen.get(key, key) for key in meta.features]
    twice = sorted({key for key in after if after.count(key) > 1})
    if twice:
        raise UsageError(
            f"Two features would be called '{twice[0]}'.",
            expected="one name for each feature",
            fix=f"Give the other one another name, too: --feature {twice[0]}=OTHER",
        )
    if all(old == new for old, new in chosen.items()):
        raise UsageError(f"No feature of {meta.root} would change.", expected="another name than now")
    return {old: new for old, new in chosen.items() if old != new}


def _check_kind(feature: Feature, name: str, new: str) -> None:
    camera = feature.dtype in CAMERA_TYPES
    if new in (STATE, ACTION) and (camera or len(feature.shape) != 1):
        raise UsageError(
            f"'{name}' cannot be called '{new}': its dtype is {feature.dtype} and its shape {list(feature.shape)}.",
            expected="a vector per frame",
        )
    if new.startswith(f"{IMAGES}.") and not camera:
        raise UsageError(
            f"'{name}' cannot be called '{new}': its dtype is {feature.dtype}.", expected="a camera (video or image)"
        )


def _renamed(meta: DatasetMeta, names: Mapping[str, str]) -> DatasetMeta:
    """The dataset with the new names; its files stay where they are and have the old ones."""
    path = meta.root / "meta" / "info.json"
    info = read_json(path, "dataset description")
    info["features"] = {names.get(key, key): entry for key, entry in info["features"].items()}
    kept = {names.get(key, key) for key in meta.features}
    features = {key: one for key, one in parse_features(info, path).items() if key in kept}
    cameras = parse_cameras(info, features, trainable=False)
    if len(cameras) != len(meta.cameras):
        raise UsageError("Two cameras would have the same name.", expected="another name for each camera")
    short = {camera.key: name for name, camera in cameras.items()}
    new = {name: short[names.get(camera.key, camera.key)] for name, camera in meta.cameras.items()}
    episodes = [
        replace(episode, videos={new[name]: span for name, span in episode.videos.items()}) for episode in meta.episodes
    ]
    statistics = {names.get(key, key): stats for key, stats in meta.statistics.items()}
    return replace(meta, features=features, cameras=cameras, episodes=episodes, statistics=statistics)


def _still_named(meta: DatasetMeta, names: Mapping[str, str]) -> list[str]:
    """Files beside the dataset that speak of the old names."""
    found = []
    for relative in files_beside(meta.root).files:
        if relative.parts[0] == "meta" and relative.suffix == ".json" and "history" not in relative.name:
            text = (meta.root / relative).read_text(encoding="utf-8", errors="replace")
            old = [name for name in names if f'"{name}"' in text]
            if old:
                found.append(f"{plain(relative.as_posix())} still names {', '.join(old)}: it was copied as it is.")
    return found
