"""What a person wants to know of a dataset, as plain values for `smolpilot dataset info`."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smolpilot.common.progress import working
from smolpilot.common.statistics import Statistics, array_statistics

from .format.completeness import Absent
from .format.features import MOST_NAMES, CameraInfo, Feature, dimension_names, motion_keys
from .format.files import file_state, read_json
from .format.meta import DatasetMeta, read_meta
from .left_out import notes_of_gaps
from .media.video import probe
from .read.joint_units import doubt_units, find_profile, joint_units
from .read.media_sizes import require_size, size_note
from .read.tables import Tables, load_tables


@working("opening the dataset")
def summarize(path: str | Path, robot: str | None = None) -> dict[str, Any]:
    """Facts of a dataset, ready for JSON.

    LeRobot's format states no units: `units` of state and action are those of the robot's profile, null where it is
    not known. robot: a profile's name or path, `none`, or None: by robot_type or joint names.
    Shows what is there: datasets without state or action, and such of which only a part is on this machine; `absent`
    names the rest. Raises what `read_meta` and `load_tables` raise for damaged ones.
    """
    meta = read_meta(path, trainable=False, complete=False)
    tables = load_tables(meta, meta.episodes, trainable=False) if not meta.absent and meta.episodes else None
    if tables is not None:
        meta = dataclasses.replace(meta, left_out=meta.left_out | tables.left_out)
    info = read_json(meta.root / "meta" / "info.json", "dataset description")
    lengths = [episode.length for episode in meta.episodes]
    frames = sum(lengths) if meta.episodes else int(info.get("total_frames") or 0)
    statistics = _statistics(meta, tables)
    robot_notes: list[str] = []
    profile = find_profile(meta, robot, robot_notes)
    units = joint_units(meta, profile, chosen=robot is not None, notes=robot_notes)
    if profile is not None and (doubt := doubt_units(meta, profile)) is not None:
        robot_notes.append(f"units: {doubt.text}" + (f" ({doubt.fix})" if doubt.fix else ""))
    return {
        "path": str(meta.root),
        "version": meta.version,
        "robot_type": meta.robot_type,
        "robot": {"name": profile.name if profile is not None else None, "notes": robot_notes},
        "episodes": len(lengths) or int(info.get("total_episodes") or 0),
        "episode_frames": {"min": min(lengths), "median": float(np.median(lengths)), "max": max(lengths)}
        if lengths
        else None,
        "frames": frames,
        "hours": frames / meta.fps / 3600,
        "fps": meta.fps,
        "features": _features(meta, {motion_keys(meta.features).get(key, key): one for key, one in units.items()}),
        "cameras": {name: _camera(meta, name, camera) for name, camera in meta.cameras.items()},
        "instructions": _instructions(meta, tables),
        "statistics": {
            name: {key: value.tolist() for key, value in stats.items()} for name, stats in statistics.items()
        },
        "state": motion_keys(meta.features).get("observation.state"),
        "action": motion_keys(meta.features).get("action"),
        "left_out": meta.left_out,
        "absent": _absent(meta),
        "notes": _notes(meta),
        "fingerprint": meta.fingerprint if not meta.absent else None,
    }


def _features(meta: DatasetMeta, units: dict[str, list[str | None]]) -> dict[str, Any]:
    return {
        name: {
            "dtype": feature.dtype,
            "shape": list(feature.shape),
            "names": dimension_names(feature) if _is_named(feature) else feature.names,
            "named_by_dataset": feature.names is not None,
            "unit": None,
            **({"units": units[name]} if name in units and name in meta.features else {}),
        }
        for name, feature in meta.features.items()
    }


def _is_named(feature: Feature) -> bool:
    return len(feature.shape) == 1 and 1 < feature.shape[0] <= MOST_NAMES


def _camera(meta: DatasetMeta, name: str, camera: CameraInfo) -> dict[str, Any]:
    """As the first video says, where there is one: the meta folder may be silent or wrong about codec and format."""
    codec, pix_fmt = camera.codec, camera.pix_fmt
    paths = dict.fromkeys(episode.videos[name].path for episode in meta.episodes if name in episode.videos)
    first = next((path for path in paths if file_state(path) == "whole"), None)
    if first is not None:
        codec, pix_fmt, width, height = probe(first)
        if camera.key not in meta.left_out:
            require_size(meta, f"The video {first.name}", camera, (width, height), first)
    size = {"width": camera.width, "height": camera.height}
    return {**size, "codec": codec, "pixel_format": pix_fmt, "fps": camera.fps}


def _instructions(meta: DatasetMeta, tables: Tables | None) -> list[dict[str, Any]]:
    """Episodes and frames of each instruction; by the episode list where the tables are not there."""
    if tables is None:
        return _listed_instructions(meta)
    rows = pa.table({name: tables.array(f"{name}_index") for name in ("task", "episode")})
    counted = rows.group_by("task").aggregate([("episode", "count_distinct"), ("episode", "count")]).sort_by("task")
    return [
        {
            "task_index": row["task"],
            "text": meta.tasks[row["task"]],
            "episodes": row["episode_count_distinct"],
            "frames": row["episode_count"],
        }
        for row in counted.to_pylist()
    ]


def _listed_instructions(meta: DatasetMeta) -> list[dict[str, Any]]:
    if not meta.episodes:
        return [{"task_index": i, "text": text, "episodes": None, "frames": None} for i, text in meta.tasks.items()]
    indices = {text: index for index, text in meta.tasks.items()}
    counted = Counter(text for episode in meta.episodes for text in episode.tasks)
    return [
        {"task_index": indices.get(text), "text": text, "episodes": count, "frames": None}
        for text, count in counted.items()
    ]


def _statistics(meta: DatasetMeta, tables: Tables | None) -> Statistics:
    """The stored ones; those of state and action computed where they are missing."""
    statistics = dict(meta.statistics)
    for key in motion_keys(meta.features).values():
        size = math.prod(meta.features[key].shape)
        stored = [statistics.get(key, {}).get(name) for name in ("mean", "std", "min", "max")]
        if all(one is not None and one.size == size and np.isfinite(one).all() for one in stored):
            continue
        statistics.pop(key, None)
        if tables is not None and isinstance(tables.columns.get(key), np.ndarray):
            column = tables.array(key)
            statistics[key] = array_statistics(column.reshape(len(column), -1))
    return statistics


def _absent(meta: DatasetMeta) -> list[dict[str, Any]]:
    """Which files are not there, by kind: how many of how many, of how many episodes."""
    total: dict[str, set[Path]] = {}
    for episode in meta.episodes:
        total.setdefault("data file", set()).add(episode.data_path)
        for name, span in episode.videos.items():
            total.setdefault(f"video of camera '{name}'", set()).add(span.path)
    kinds: dict[tuple[str, str], list[Absent]] = {}
    for one in meta.absent:
        kinds.setdefault((one.what, one.state), []).append(one)
    return [
        {
            "what": what,
            "state": state,
            "files": len(those),
            "of": len(total.get(what, ())) or len(those),
            "episodes": len({index for one in those for index in one.episodes}),
            "first": str(those[0].path),
        }
        for (what, state), those in kinds.items()
    ]


def _notes(meta: DatasetMeta) -> list[str]:
    notes = []
    plain = {old: new for new, old in motion_keys(meta.features).items() if old != new}
    if plain:
        pairs = " ".join(f"{shlex.quote(old)}={new}" for old, new in plain.items())
        notes.append(
            f"What a policy needs has other names here: `smolpilot dataset rename {shlex.quote(str(meta.root))} DST "
            f"--feature {pairs}` gives it LeRobot's in a copy."
        )
    notes += notes_of_gaps(meta)
    note = size_note(meta)
    if note:
        notes.append(f"{note} `smolpilot dataset check {shlex.quote(str(meta.root))}` names all such videos.")
    return notes
