"""What `info.json` declares of features and cameras, read as far as it makes sense."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.keys import ACTION, IMAGES, STATE
from smolpilot.datasets.format.arrow import word_of
from smolpilot.datasets.format.features import (
    CAMERA_TYPES,
    INDEX_COLUMNS,
    Feature,
    parse_features,
    short_name,
    video_details,
    why_no_key,
)
from smolpilot.datasets.format.files import absurd_content
from smolpilot.datasets.format.parquet_files import parquet_file

from .found_dataset import Camera, Recording, Vector
from .paths import Locator
from .rules import RENAME_FEATURE

_ALSO_CALLED = {
    STATE: ("state", "states", "qpos", "jointpositions", "jointposition", "proprio", "robotstate", "agentpos"),
    ACTION: ("actions", "action", "observationaction"),
}


def read_features(recording: Recording, locator: Locator) -> None:
    """Fill `vectors` and `cameras`; without declared features, from the tables' and videos' own words."""
    raw = recording.info.get("features")
    raw = raw if isinstance(raw, dict) else {}
    features = (
        parse_features(recording.info, recording.root / "meta" / "info.json", recording) if recording.info else {}
    )
    for key, entry in raw.items():
        feature = features.get(key)
        if why_no_key(key, None) or not isinstance(entry, dict):
            continue
        sized = feature is not None and all(feature.shape)
        if feature is not None and not sized:
            recording.report("features-damaged", f"The feature '{key}' of meta/info.json has a shape of no size.")
        if entry.get("dtype") in CAMERA_TYPES or key.startswith(f"{IMAGES}."):
            recording.cameras[key] = _camera(recording, key, entry, feature if sized else None)
        elif feature is not None and sized and feature.shape:
            recording.vectors[key] = Vector(key, feature.dtype, feature.shape, feature.names)
            _check_names(recording, key, entry.get("names"), feature.names)
    if not recording.cameras and not raw:
        for key in locator.camera_keys():
            recording.cameras[key] = Camera(key, short_name(key), True, None, {})
        for key in _picture_columns(locator):
            recording.cameras.setdefault(key, Camera(key, short_name(key), False, None, {}))
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


def _camera(recording: Recording, key: str, entry: dict[str, Any], feature: Feature | None) -> Camera:
    details, dtype = video_details(entry), str(entry.get("dtype"))
    shape = list(feature.shape) if feature is not None else []
    colors = len(shape) == 3 and 3 in (shape[0], shape[2])
    size = (shape[0], shape[1]) if colors and shape[2] == 3 else (shape[1], shape[2]) if colors else None
    depth, odd = bool(details.get("video.is_depth_map") or details.get("is_depth_map")), len(shape) == 3 and not colors
    if depth or dtype not in CAMERA_TYPES or odd:
        what = "is a depth camera" if depth else f"has dtype {dtype} and shape {shape}"
        message = f"The camera '{short_name(key)}' {what}: samples leave it out."
        recording.report("camera-unusable", message, camera=short_name(key), key=key)
    return Camera(key, short_name(key), dtype != "image", size, details, depth or odd)


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
                word = word_of(field.type.value_type) or "float32"
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
