"""Other names for the features of a dataset: state, action, cameras, further columns; nothing else changes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from smolpilot.common.atomic import refuse_existing
from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.keys import ACTION, IMAGES, STATE
from smolpilot.common.safe_paths import below, why_no_name
from smolpilot.common.text import plain
from smolpilot.datasets.beside import files_beside
from smolpilot.datasets.copy import CopyReport, EpisodePlan, Progress, copy_episodes
from smolpilot.datasets.copy.options import EditSettings
from smolpilot.datasets.format.features import Feature, parse_cameras, parse_features
from smolpilot.datasets.format.files import iter_jsonl, open_parquet, read_json, read_parquet, reading
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.parquet_files import parquet_writer, write_parquet
from smolpilot.datasets.format.paths import OWN_META
from smolpilot.datasets.format.writing import write_lines

from .history import with_edit

_INDEX = ("timestamp", "frame_index", "episode_index", "index", "task_index", "task")
_CAMERA = ("video", "image")


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
    target = Path(dst).expanduser().absolute()
    refuse_existing(target, "datasets", meta.root)
    staging = target.parent / f".{target.name}.renamed-tables"
    target.parent.mkdir(parents=True, exist_ok=True)
    if staging.exists():
        shutil.rmtree(staging)
    try:
        renamed = _stage(meta, chosen, staging, progress)
        plans = [EpisodePlan(renamed, episode.index) for episode in renamed.episodes]
        options = (settings or EditSettings()).copying([renamed])
        files = with_edit(meta, "rename", features=chosen)
        report = copy_episodes(plans, target, options, files=files, progress=progress)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    report.warnings += [*files_beside(meta.root).warnings(), *_still_named(meta, chosen)]
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
    camera = feature.dtype in _CAMERA
    if new in (STATE, ACTION) and (camera or len(feature.shape) != 1):
        raise UsageError(
            f"'{name}' cannot be called '{new}': its dtype is {feature.dtype} and its shape {list(feature.shape)}.",
            expected="a vector per frame",
        )
    if new.startswith(f"{IMAGES}.") and not camera:
        raise UsageError(
            f"'{name}' cannot be called '{new}': its dtype is {feature.dtype}.", expected="a camera (video or image)"
        )


def _stage(meta: DatasetMeta, names: Mapping[str, str], folder: Path, progress: Progress | None) -> DatasetMeta:
    """Tables and meta folder with the new names; videos stay where they are, in the source."""
    _copy_meta(meta.root / "meta", folder / "meta")
    _rename_meta(folder / "meta", names)
    files_beside(meta.root).copy_to(folder)
    tables = list(dict.fromkeys(episode.data_path for episode in meta.episodes))
    copies = {path: folder / path.relative_to(meta.root) for path in tables}
    for done, (path, copy) in enumerate(copies.items()):
        _rename_table(path, copy, names)
        if progress is not None:
            progress("rename", done + 1, len(copies))
    info = read_json(folder / "meta" / "info.json", "dataset description")
    features = parse_features(info, folder / "meta" / "info.json")
    features = {key: one for key, one in features.items() if key in {names.get(old, old) for old in meta.features}}
    cameras = parse_cameras(info, features, trainable=False)
    if len(cameras) != len(meta.cameras):
        raise UsageError("Two cameras would have the same name.", expected="another name for each camera")
    short = {camera.key: name for name, camera in cameras.items()}
    new = {name: short[names.get(camera.key, camera.key)] for name, camera in meta.cameras.items()}
    episodes = [
        replace(
            episode,
            data_path=copies[episode.data_path],
            videos={new[name]: span for name, span in episode.videos.items()},
        )
        for episode in meta.episodes
    ]
    # The same times for the same content: a command that was killed goes on where it was.
    for path in sorted(folder.rglob("*")):
        os.utime(path, (0, 0))
    statistics = {names.get(key, key): stats for key, stats in meta.statistics.items()}
    return replace(meta, root=folder, features=features, cameras=cameras, episodes=episodes, statistics=statistics)


def _copy_meta(meta: Path, copy: Path) -> None:
    """The files that describe the dataset; `read_meta` has seen that they are its own."""
    tables = meta.glob("episodes/*/*.parquet")
    for path in [*(meta / name for name in OWN_META), *tables]:
        if path.is_file():
            target = below(copy, path.relative_to(meta))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _rename_meta(folder: Path, names: Mapping[str, str]) -> None:
    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        return {names.get(key, key): value for key, value in values.items()}

    info = read_json(folder / "info.json", "dataset description")
    info["features"] = renamed(info["features"])
    _write(folder / "info.json", info)
    if (folder / "stats.json").is_file():
        _write(folder / "stats.json", renamed(read_json(folder / "stats.json", "statistics")))
    path = folder / "episodes_stats.jsonl"
    if path.is_file():
        rows = list(iter_jsonl(path, "statistics"))
        write_lines(path, [{**row, "stats": renamed(row.get("stats") or {})} for row in rows])
    for path in sorted((folder / "episodes").glob("*/*.parquet")):
        table = read_parquet(path, "episode table")
        columns = [_column(name, names) for name in table.column_names]
        write_parquet(table.rename_columns(columns).replace_schema_metadata(None), path)


def _column(name: str, names: Mapping[str, str]) -> str:
    """A column of the episode table: `stats/KEY/mean`, `videos/KEY/file_index`."""
    for prefix in ("stats/", "videos/"):
        if name.startswith(prefix):
            key, _, what = name.removeprefix(prefix).rpartition("/")
            return f"{prefix}{names.get(key, key)}/{what}"
    return name


def _rename_table(path: Path, copy: Path, names: Mapping[str, str]) -> None:
    """A data file with other names of columns, a row group at a time."""
    file = open_parquet(path, "data file")
    # Without what `datasets` and pandas noted in the file: it speaks of the old names.
    schema = pa.schema([field.with_name(names.get(field.name, field.name)) for field in file.schema_arrow])
    copy.parent.mkdir(parents=True, exist_ok=True)
    with parquet_writer(copy, schema) as writer:
        for group in range(file.num_row_groups):
            with reading(path, "data file"):
                table = file.read_row_group(group).rename_columns(schema.names)
            writer.write_table(table.replace_schema_metadata(None), row_group_size=max(len(table), 1))


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


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
