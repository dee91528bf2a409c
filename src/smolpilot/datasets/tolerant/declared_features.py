"""What `info.json` declares of features and cameras, read as far as it makes sense."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.keys import ACTION, IMAGES, STATE
from smolpilot.datasets.format.arrow import word_of
from smolpilot.datasets.format.features import (
    CAMERA_TYPES,
    NEEDED,
    Feature,
    parse_features,
    short_name,
    video_details,
    why_no_key,
)
from smolpilot.datasets.format.files import absurd_content
from smolpilot.datasets.format.parquet_files import parquet_file

from .found_dataset import Camera, FoundDataset
from .paths import Locator
from .rules import RENAME_FEATURE

_ALSO_CALLED = {
    STATE: ("state", "states", "qpos", "jointpositions", "jointposition", "proprio", "robotstate", "agentpos"),
    ACTION: ("actions", "action", "observationaction"),
}


def read_features(dataset: FoundDataset, locator: Locator) -> None:
    """Fill `vectors` and `cameras`; without declared features, from the tables' and videos' own words."""
    raw = dataset.info.get("features")
    raw = raw if isinstance(raw, dict) else {}
    features = parse_features(dataset.info, dataset.root / "meta" / "info.json", dataset) if dataset.info else {}
    for key, entry in raw.items():
        feature = features.get(key)
        if why_no_key(key, None) or not isinstance(entry, dict):
            continue
        sized = feature is not None and all(feature.shape)
        if feature is not None and not sized:
            dataset.report("features-damaged", f"The feature '{key}' of meta/info.json has a shape of no size.")
        if entry.get("dtype") in CAMERA_TYPES or key.startswith(f"{IMAGES}."):
            dataset.cameras[key] = _camera(dataset, key, entry, feature if sized else None)
        elif feature is not None and sized and feature.shape:
            dataset.vectors[key] = feature
            _check_names(dataset, key, entry.get("names"), feature.names)
    if not dataset.cameras and not raw:
        for key in locator.camera_keys():
            dataset.cameras[key] = Camera(key, short_name(key), True, None, {})
        for key in _image_columns(locator):
            dataset.cameras.setdefault(key, Camera(key, short_name(key), False, None, {}))
    _from_tables(dataset, locator)
    _missing(dataset, raw)


def _missing(dataset: FoundDataset, declared: dict[str, Any]) -> None:
    """No state or no action. Others call it `state`, `qpos`, `actions`: then it has to be renamed."""
    named = [name for name in dataset.vectors if name in declared and name not in NEEDED]
    plain = {name: re.sub(r"[^a-z]", "", name.lower().removeprefix("observation.")) for name in named}
    wanted = {STATE: "state", ACTION: "action"}
    candidates = {
        key: [name for name in named if plain[name] in _ALSO_CALLED[key]]
        for key in wanted
        if key not in dataset.vectors
    }
    renames = [f"{names[0]}={key}" for key, names in candidates.items() if names]
    for key, names in candidates.items():
        text = f"There is no feature '{key}': a policy is trained on {wanted[key]}s."
        if names:
            which = " or ".join(f"'{name}'" for name in names)
            fix = RENAME_FEATURE.replace("{key}={new}", " ".join(shlex.quote(rename) for rename in renames))
            dataset.report("feature-missing", f"{text} {which} may hold them.", fix=fix)
            continue
        rename = RENAME_FEATURE.replace("{new}", key)
        fix = f"Record the {wanted[key]}s" + (f", or rename the feature that holds them: {rename}" if named else ".")
        dataset.report("feature-missing", text, fix=fix, key=named[0] if named else None)


def _camera(dataset: FoundDataset, key: str, entry: dict[str, Any], feature: Feature | None) -> Camera:
    details, dtype = video_details(entry), str(entry.get("dtype"))
    shape = list(feature.shape) if feature is not None else []
    colors = len(shape) == 3 and 3 in (shape[0], shape[2])
    size = (shape[0], shape[1]) if colors and shape[2] == 3 else (shape[1], shape[2]) if colors else None
    depth, odd = bool(details.get("video.is_depth_map") or details.get("is_depth_map")), len(shape) == 3 and not colors
    if depth or dtype not in CAMERA_TYPES or odd:
        what = "is a depth camera" if depth else f"has dtype {dtype} and shape {shape}"
        message = f"The camera '{short_name(key)}' {what}: samples leave it out."
        dataset.report("camera-unusable", message, camera=short_name(key), key=key)
    return Camera(key, short_name(key), dtype != "image", size, details, depth or odd)


def _check_names(dataset: FoundDataset, key: str, raw: Any, names: list[str] | None) -> None:
    if key not in (STATE, ACTION):
        return
    if names is None:
        code, what = (
            ("names-missing", "has no joint names") if not raw else ("names-wrong", "has not one name per joint")
        )
        dataset.report(code, f"The feature '{key}' {what}.")
        return
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        dataset.report("names-wrong", f"The joint name '{twice[0]}' of '{key}' stands twice.", joint=twice[0])
    if raw != names:
        dataset.report("names-nested", f"The joint names of '{key}' are nested; they read {', '.join(names[:3])}, …")


def _from_tables(dataset: FoundDataset, locator: Locator) -> None:
    """Vectors that the tables hold and the features do not name; needed to go on without features."""
    if STATE in dataset.vectors and ACTION in dataset.vectors:
        return
    path, schema = _readable_table(locator)
    for field in schema:
        size = getattr(field.type, "list_size", None)
        listed = pa.types.is_list(field.type) or size is not None
        if field.name in dataset.vectors or field.name in dataset.cameras or not listed:
            continue
        if size is None:
            size = _first_length(path, field.name)
        if size and pa.types.is_floating(field.type.value_type):
            word = word_of(field.type.value_type) or "float32"
            dataset.vectors[field.name] = Feature(word, (size,), None)


def _image_columns(locator: Locator) -> list[str]:
    """Columns that hold images as LeRobot stores them, `{bytes, path}`."""
    return [
        field.name
        for field in _readable_table(locator)[1]
        if pa.types.is_struct(field.type) and {one.name for one in field.type} == {"bytes", "path"}
    ]


def _readable_table(locator: Locator) -> tuple[Path, pa.Schema]:
    """The first table whose columns can be read, and its columns; none of them without such a table."""
    for path in locator.tables:
        with suppress(pa.ArrowException, OSError, ValueError):
            return path, pq.read_schema(path)
    return locator.root, pa.schema([])


def _first_length(path: Path, name: str) -> int:
    try:
        file = parquet_file(path)
        if absurd_content(path, file, [name]):
            return 0
        rows = file.read_row_group(0, columns=[name])[name]
        value = rows[0].as_py() if len(rows) else None
    except (pa.ArrowException, OSError, ValueError, IndexError):
        return 0
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], list) else 0
