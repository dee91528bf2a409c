"""`info.json` of the result: the stored one, corrected by what is in the files."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import pyarrow as pa

from smolpilot.datasets.audit.declared import INDEX_COLUMNS
from smolpilot.datasets.audit.recording import Recording
from smolpilot.datasets.audit.run import Audit
from smolpilot.datasets.audit.scanning import RATE_TOLERANCE
from smolpilot.datasets.features import flatten_names
from smolpilot.datasets.repair.plan import RepairPlan

_INDEX_TYPES = {"timestamp": "float32", **dict.fromkeys(INDEX_COLUMNS[1:], "int64")}


def repair_info(result: Audit, plan: RepairPlan, kept: list[int]) -> None:
    """Fill `plan.info`: rate, features, names, camera details; totals, patterns and version are written anew anyway."""
    recording = result.recording
    info = copy.deepcopy(recording.info)
    if not info:
        plan.actions.append("meta/info.json made anew from the files: robot_type is not known.")
    stated = recording.fps
    if stated is None or abs(stated / plan.fps - 1) > RATE_TOLERANCE:
        plan.actions.append(f"meta/info.json: fps {_stated(info, stated)} becomes {plan.fps:g}.")
        info["fps"] = int(plan.fps) if float(plan.fps).is_integer() else plan.fps
    plan.info = info
    raw = info.get("features")
    features: dict[str, Any] = raw if isinstance(raw, dict) else {}
    info["features"] = _features(recording, plan, features, kept)
    _cameras(result, plan, info["features"], kept)
    codes = {found.code for found in result.findings}
    for code, text in _SAID.items():
        if code in codes:
            plan.actions.append(text)


def _stated(info: dict[str, Any], rate: float | None) -> str:
    if rate is not None:
        return f"{rate:g}"
    if "fps" not in info:
        return "(missing)"
    text = json.dumps(info["fps"], ensure_ascii=False, default=str)
    text = text if len(text) <= 60 else f"{text[:60]}…"
    return f"{text} (text, no number)" if isinstance(info["fps"], str) else text


_SAID = {
    "version-unknown": "meta/info.json: codebase_version as the files are laid out.",
    "totals-wrong": "meta/info.json: totals counted anew.",
    "totals-missing": "meta/info.json: totals counted.",
    "template-unusable": "meta/info.json: data_path and video_path written anew.",
    "path-unusual": "Files put where data_path and video_path say, under LeRobot's names.",
    "splits-wrong": "meta/info.json: splits written anew.",
    "episode-length": "Episode list: lengths counted anew.",
    "episode-span": "Episode table: ranges of rows written anew.",
    "episode-duplicate": "Episode list: each episode once.",
    "episode-unlisted": "Episode list: episodes added that only had data.",
}


def _features(recording: Recording, plan: RepairPlan, raw: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    features: dict[str, Any] = {}
    present = {name for episode in kept for name in recording.schemas[recording.rows[episode].path].names}
    for key, entry in raw.items():
        camera = key in recording.cameras
        if not isinstance(entry, dict) or (not camera and key not in present and key not in INDEX_COLUMNS):
            plan.actions.append(f"meta/info.json: feature '{key}' removed, no table has it.")
            continue
        features[key] = entry
    for key, vector in recording.vectors.items():
        if key not in features and key in present:
            features[key] = {"dtype": vector.dtype, "shape": list(vector.shape), "names": vector.names}
    for name in sorted(present - set(features)):
        described = _described(recording, name, kept)
        if described is not None and name not in INDEX_COLUMNS:
            features[name] = described
            plan.actions.append(f"meta/info.json: feature '{name}' added, the tables have it.")
    for name in INDEX_COLUMNS:
        features.setdefault(name, {"dtype": _INDEX_TYPES[name], "shape": [1], "names": None})
    for key, entry in features.items():
        if key in recording.cameras:
            continue
        _correct(recording, plan, key, entry)
    return features


def _correct(recording: Recording, plan: RepairPlan, key: str, entry: dict[str, Any]) -> None:
    kind = plan.column_types.get(key)
    vector = recording.vectors.get(key)
    if kind is not None and entry.get("dtype") != kind:
        plan.actions.append(f"meta/info.json: '{key}' is declared {kind}, as it is stored.")
        entry["dtype"] = kind
    if vector is not None and not isinstance(entry.get("shape"), list):
        entry["shape"] = list(vector.shape)
    shape = entry.get("shape") or [1]
    if key in INDEX_COLUMNS or len(shape) != 1 or entry.get("dtype") not in ("float32", "float64"):
        return
    names = flatten_names(entry.get("names"), shape)
    if names is not None and len(set(names)) < len(names):
        counts = Counter(names)
        names = [f"{name}_{i}" if counts[name] > 1 else name for i, name in enumerate(names)]
    if names is None and (shape[0] > 1 or key in ("observation.state", "action")):
        names = [f"joint_{i}" for i in range(shape[0])]
    if entry.get("names") != names:
        plan.actions.append(
            f"meta/info.json: names of '{key}' are one per dimension: {', '.join((names or [])[:3])}, …"
        )
        entry["names"] = names


def _described(recording: Recording, name: str, kept: list[int]) -> dict[str, Any] | None:
    for episode in kept:
        rows = recording.rows[episode]
        column = rows.get(name)
        if column is not None and len(column):
            if column.dtype.kind == "O":
                return {"dtype": "string", "shape": [1], "names": None}
            return {"dtype": str(column.dtype), "shape": list(column.shape[1:]) or [1], "names": None}
    return None


def _cameras(result: Audit, plan: RepairPlan, features: dict[str, Any], kept: list[int]) -> None:
    """Size, codec, pixel format and rate as the containers of the kept episodes have them."""
    for key, camera in result.recording.video_cameras.items():
        clips = [clip for clip in result.footage.of(key) if clip.episode in kept and len(clip.scan.times)]
        if not clips:
            continue
        scan = clips[0].scan
        entry = features.setdefault(key, {"dtype": "video"})
        if camera.size is None:
            entry |= {"shape": [scan.height, scan.width, 3], "names": ["height", "width", "channels"]}
        details = entry.get("info") if isinstance(entry.get("info"), dict) else entry.get("video_info")
        details = dict(details) if isinstance(details, dict) else {}
        found = {"video.codec": scan.codec, "video.pix_fmt": scan.pix_fmt, "video.fps": plan.info.get("fps", plan.fps)}
        changed = [
            f"{name.removeprefix('video.')} {details[name]} becomes {value}"
            for name, value in found.items()
            if name in details and details[name] != value and _differs(name, details[name], value)
        ]
        details |= {
            name: value for name, value in found.items() if name not in details or _differs(name, details[name], value)
        }
        entry["info"] = details
        entry.pop("video_info", None)
        if changed:
            plan.actions.append(f"meta/info.json: camera '{camera.name}': {', '.join(changed)}.")


def _differs(name: str, stated: Any, found: Any) -> bool:
    if name == "video.codec":
        from smolpilot.datasets.audit.check_video import plain_codec

        return plain_codec(str(stated)) != plain_codec(str(found))
    return bool(stated != found)


def common_types(recording: Recording, kept: list[int]) -> tuple[dict[str, pa.DataType], list[str]]:
    """For each column the widest type that any kept table has, and the names of those that differ."""
    types: dict[str, set[pa.DataType]] = {}
    for path in dict.fromkeys(recording.rows[episode].path for episode in kept):
        for field in recording.schemas[path]:
            types.setdefault(field.name, set()).add(field.type)
    widest: dict[str, pa.DataType] = {}
    mixed = []
    for name, kinds in types.items():
        if len(kinds) == 1:
            widest[name] = next(iter(kinds))
            continue
        leaves = {str(_leaf(kind)) for kind in kinds}
        if len(leaves) > 1:
            mixed.append(name)
        try:
            common = (
                pa.unify_schemas([pa.schema([("x", _leaf(kind))]) for kind in kinds], promote_options="permissive")
                .field("x")
                .type
            )
        except (pa.ArrowException, ValueError):
            continue
        widest[name] = _with_leaf(min(kinds, key=str), common)
    return widest, mixed


def dtype_name(kind: pa.DataType) -> str | None:
    """LeRobot's word for the numbers of a column, None when it holds something else."""
    leaf = _leaf(kind)
    if pa.types.is_floating(leaf):
        return {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}[leaf]
    return str(leaf) if pa.types.is_integer(leaf) or pa.types.is_boolean(leaf) else None


def _leaf(kind: pa.DataType) -> pa.DataType:
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind


def _with_leaf(kind: pa.DataType, leaf: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_with_leaf(kind.value_type, leaf), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_with_leaf(kind.value_type, leaf))
    return leaf
