"""What `info.json` declares of features and cameras, read as far as it makes sense."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.keys import ACTION, IMAGES, STATE, camera_name
from smolpilot.common.text import plain
from smolpilot.datasets.format.features import flatten_names, usable_shape, why_no_key
from smolpilot.datasets.format.files import absurd_content
from smolpilot.datasets.format.parquet_files import parquet_file

from .found_dataset import Camera, Recording, Vector
from .paths import Locator
from .rules import RENAME_FEATURE, REPAIR

INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_ALSO_CALLED = {
    STATE: ("state", "states", "qpos", "jointpositions", "jointposition", "proprio", "robotstate", "agentpos"),
    ACTION: ("actions", "action", "observationaction"),
}
_LEAVE_OUT = f"Leave it out of a copy: {REPAIR} --without {{key}}"
_FLOATS = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}


def read_features(recording: Recording, locator: Locator) -> None:
    """Fill `vectors` and `cameras`; without declared features, from the tables' and videos' own words."""
    raw = recording.info.get("features")
    if not isinstance(raw, dict) or not raw:
        if recording.info:
            recording.report("features-damaged", "meta/info.json names no features.")
        raw = {}
    for key, entry in raw.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if reason := why_no_key(key, dtype):
            message = f"The feature '{plain(key, 200)}' of meta/info.json cannot be called that: {reason}."
            unsafe = bool(why_no_key(key, None))
            recording.report("features-damaged", message, fix=_LEAVE_OUT if unsafe else None, key=key)
            if unsafe:
                continue
        sized = isinstance(shape, list) and usable_shape(key, shape) and all(n > 0 for n in shape)
        if not isinstance(dtype, str) or not sized:
            recording.report("features-damaged", f"The feature '{key}' of meta/info.json lacks its dtype or shape.")
        if isinstance(entry, dict) and (dtype in ("video", "image") or key.startswith(f"{IMAGES}.")):
            recording.cameras[key] = _camera(recording, key, entry, shape if sized and isinstance(shape, list) else [])
        elif isinstance(dtype, str) and sized and shape:
            names = flatten_names(entry.get("names"), shape)
            recording.vectors[key] = Vector(key, dtype, tuple(shape), names)
            _check_names(recording, key, entry.get("names"), names)
    if not recording.cameras and not raw:
        for key in locator.camera_keys():
            recording.cameras[key] = Camera(key, _short_name(key), True, None, {})
        for key in _picture_columns(locator):
            recording.cameras.setdefault(key, Camera(key, _short_name(key), False, None, {}))
    _from_tables(recording, locator)
    _missing(recording)


def _missing(recording: Recording) -> None:
    """No state or no action. Others call it `state`, `qpos`, `actions`: then it has to be renamed."""
    features = recording.info.get("features")
    declared = features if isinstance(features, dict) else {}
    named = [name for name in recording.vectors if name in declared and name not in (STATE, ACTION, *INDEX_COLUMNS)]
    plain = {name: re.sub(r"[^a-z]", "", name.lower().removeprefix("observation.")) for name in named}
    wanted = {STATE: "state", ACTION: "action"}
    candidates = {
        key: [name for name in named if plain[name] in _ALSO_CALLED[key]]
        for key in wanted
        if key not in recording.vectors
    }
    renames = [f"{names[0]}={key}" for key, names in candidates.items() if names]
    for key, names in candidates.items():
        text = f"There is no feature '{key}': a policy is trained on {wanted[key]}s."
        if names:
            which = " or ".join(f"'{name}'" for name in names)
            fix = RENAME_FEATURE.replace("{key}={new}", " ".join(shlex.quote(rename) for rename in renames))
            recording.report("feature-missing", f"{text} {which} may hold them.", fix=fix)
            continue
        rename = RENAME_FEATURE.replace("{new}", key)
        fix = f"Record the {wanted[key]}s" + (f", or rename the feature that holds them: {rename}" if named else ".")
        recording.report("feature-missing", text, fix=fix, key=named[0] if named else None)


def _camera(recording: Recording, key: str, entry: dict[str, Any], shape: list[int]) -> Camera:
    details: dict[str, Any] = {}
    for part in ("video_info", "info"):
        if isinstance(entry.get(part), dict):
            details |= entry[part]
    size, depth = _size(shape), bool(details.get("video.is_depth_map") or details.get("is_depth_map"))
    dtype = str(entry.get("dtype"))
    if depth or dtype not in ("video", "image") or (len(shape) == 3 and size is None):
        what = "is a depth camera" if depth else f"has dtype {dtype} and shape {shape}"
        message = f"The camera '{_short_name(key)}' {what}: samples leave it out."
        recording.report("camera-unusable", message, camera=_short_name(key), key=key)
    return Camera(key, _short_name(key), dtype != "image", size, details, depth or (len(shape) == 3 and size is None))


def _size(shape: list[int]) -> tuple[int, int] | None:
    """(height, width) of a shape stored either way round; None when it has not three channels."""
    if len(shape) != 3:
        return None
    if shape[2] == 3:
        return shape[0], shape[1]
    return (shape[1], shape[2]) if shape[0] == 3 else None


def _short_name(key: str) -> str:
    return camera_name(key).removeprefix("observation.")


def _check_names(recording: Recording, key: str, raw: Any, names: list[str] | None) -> None:
    if key not in (STATE, ACTION):
        return
    if names is None:
        code, what = (
            ("names-missing", "has no joint names") if not raw else ("names-wrong", "has not one name per joint")
        )
        recording.report(code, f"The feature '{key}' {what}.")
        return
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        recording.report("names-wrong", f"The joint name '{twice[0]}' of '{key}' stands twice.", joint=twice[0])
    if raw != names:
        recording.report("names-nested", f"The joint names of '{key}' are nested; they read {', '.join(names[:3])}, …")


def _from_tables(recording: Recording, locator: Locator) -> None:
    """Vectors that the tables hold and the features do not name; needed to go on without features."""
    if STATE in recording.vectors and ACTION in recording.vectors:
        return
    for path in locator.tables:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError, ValueError):
            continue
        for field in schema:
            size = getattr(field.type, "list_size", None)
            listed = pa.types.is_list(field.type) or size is not None
            if field.name in recording.vectors or field.name in recording.cameras or not listed:
                continue
            if size is None:
                size = _first_length(path, field.name)
            if size and pa.types.is_floating(field.type.value_type):
                word = _FLOATS.get(field.type.value_type, "float32")
                recording.vectors[field.name] = Vector(field.name, word, (size,), None)
        return


def _picture_columns(locator: Locator) -> list[str]:
    """Columns that hold pictures as LeRobot stores them, `{bytes, path}`, of the first table that can be read."""
    for path in locator.tables:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError, ValueError):
            continue
        return [
            field.name
            for field in schema
            if pa.types.is_struct(field.type) and {one.name for one in field.type} == {"bytes", "path"}
        ]
    return []


def _first_length(path: Any, name: str) -> int:
    try:
        file = parquet_file(path)
        if absurd_content(path, file, [name]):
            return 0
        rows = file.read_row_group(0, columns=[name])[name]
        value = rows[0].as_py() if len(rows) else None
    except (pa.ArrowException, OSError, ValueError, IndexError):
        return 0
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], list) else 0
