"""`info.json` of the result: the stored one, corrected by what is in the files."""

from __future__ import annotations

import copy
import json
import re
from bisect import bisect_left
from collections import Counter
from typing import Any

from smolpilot.common.text import LIMIT, plain
from smolpilot.datasets.check import CheckResult
from smolpilot.datasets.check.scan.scanning import RATE_TOLERANCE
from smolpilot.datasets.format.arrow import LANGUAGE, is_list, leaf_of, word_of
from smolpilot.datasets.format.features import CAMERA_TYPES, INDEX_COLUMNS, flatten_names
from smolpilot.datasets.format.writing import INDEX_TYPES, index_feature
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

from .repair_plan import RepairPlan
from .repaired_columns import described


def repair_info(result: CheckResult, plan: RepairPlan, kept: list[int]) -> None:
    """Fill `plan.info`: rate, features, names, camera details; totals, patterns and version are written anew anyway."""
    dataset = result.dataset
    info = copy.deepcopy(dataset.info)
    if not info:
        pointer = any(one.code == "lfs-pointer" and "meta/info.json" in one.message for one in result.findings)
        why = " (it is a Git-LFS pointer: with `git lfs pull` before the repair nothing is lost)" if pointer else ""
        plan.actions.append(f"meta/info.json made anew from the files: robot_type is not known{why}.")
    stated = dataset.fps
    if stated is None or abs(stated / plan.fps - 1) > RATE_TOLERANCE:
        plan.actions.append(f"meta/info.json: fps {_stated(info, stated)} becomes {plan.fps:g}.")
        info["fps"] = int(plan.fps) if float(plan.fps).is_integer() else plan.fps
    plan.info = info
    raw = info.get("features")
    features: dict[str, Any] = raw if isinstance(raw, dict) else {}
    info["features"] = _features(dataset, plan, features)
    _cameras(result, plan, info["features"], kept)
    info["splits"] = _splits(dataset, plan, kept)
    # The engine keeps splits of a description that speaks of as many episodes.
    info["total_episodes"] = len(kept)
    codes = {found.code for found in result.findings}
    for code, text in _SAID.items():
        if code in codes:
            plan.actions.append(text)
    for found in result.findings:
        match = re.search(r"(meta/\S+) (begins with a byte order mark|is UTF-16|is not UTF-8): LeRobot", found.message)
        if match is not None:
            what = "byte order mark removed" if "mark" in match.group(2) else f"written as UTF-8 (it {match.group(2)})"
            plan.actions.append(f"{match.group(1)}: {what}, the content kept.")


def _splits(dataset: FoundDataset, plan: RepairPlan, kept: list[int]) -> dict[str, str]:
    """The stored ranges in the new numbers, without episodes that are not there; else all episodes for training."""
    stated = dataset.info.get("splits")
    whole = {"train": f"0:{len(kept)}"}
    if not isinstance(stated, dict) or not stated:
        return whole
    found: dict[str, str] = {}
    for name, value in stated.items():
        ends = [part.strip() for part in str(value).split(":")]
        if len(ends) != 2 or not all(end.isdecimal() for end in ends):
            found = {}
            break
        first, last = (bisect_left(kept, int(end)) for end in ends)
        if first < last:
            found[name] = f"{first}:{last}"
    found = found or whole
    if found != stated:
        was = ", ".join(f"{name} {plain(value, LIMIT)}" for name, value in stated.items())
        now = ", ".join(f"{name} {value}" for name, value in found.items())
        plan.actions.append(f"meta/info.json: splits are {now}; they were {was}.")
    return found


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
    "episode-length": "Episode list: lengths counted anew.",
    "episode-span": "Episode table: ranges of rows written anew.",
    "episode-duplicate": "Episode list: each episode once.",
    "episode-unlisted": "Episode list: episodes added that only had data.",
}


def _features(dataset: FoundDataset, plan: RepairPlan, raw: dict[str, Any]) -> dict[str, Any]:
    features: dict[str, Any] = {}
    for key, entry in raw.items():
        if key in plan.left_out:
            continue
        if not isinstance(entry, dict) or not (key in dataset.cameras or key in plan.columns or key in INDEX_COLUMNS):
            plan.actions.append(f"meta/info.json: feature '{key}' removed, no table has it.")
            continue
        features[key] = dict(entry)
    for key, column in plan.columns.items():
        if key in features or key in INDEX_COLUMNS:
            continue
        entry = described(key, column, plan.widths.get(key))
        if entry is not None:
            vector = dataset.vectors.get(key)
            features[key] = {**entry, "names": vector.names if vector is not None else None}
            if raw:
                plan.actions.append(f"meta/info.json: feature '{key}' added, the tables have it.")
    for name in INDEX_COLUMNS:
        features.setdefault(name, index_feature(name))
    for key, entry in features.items():
        if key not in dataset.cameras and key not in LANGUAGE:
            _correct(plan, key, entry)
    return features


def _correct(plan: RepairPlan, key: str, entry: dict[str, Any]) -> None:
    """Type and shape as the copy's tables have them, one name per dimension."""
    column = plan.columns.get(key)
    word = INDEX_TYPES.get(key) or (word_of(leaf_of(column.kind)) if column is not None else None)
    if word is not None and entry.get("dtype") != word:
        why = "as the format wants" if key in INDEX_COLUMNS else "as it is stored"
        plan.actions.append(f"meta/info.json: '{key}' is declared {word}, {why}.")
        entry["dtype"] = word
    nested = column is not None and is_list(column.kind) and is_list(column.kind.value_type)
    if not nested:
        width = plan.widths.get(key) if column is not None and is_list(column.kind) else 1
        if entry.get("shape") != [width]:
            if isinstance(entry.get("shape"), list):
                plan.actions.append(f"meta/info.json: '{key}' is declared with shape [{width}], as it is stored.")
            entry["shape"] = [width]
    shape = entry["shape"]
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


def _cameras(result: CheckResult, plan: RepairPlan, features: dict[str, Any], kept: list[int]) -> None:
    """Size, codec, pixel format and rate as the containers of the kept episodes have them; undeclared images."""
    chosen = set(kept)
    for key, camera in result.dataset.cameras.items():
        shown = [clip for clip in result.video_scans.of(key) if clip.episode in chosen and clip.frames]
        if not camera.is_video and key not in features and shown:
            shape = shown[0].scan.shapes[shown[0].first].tolist()
            features[key] = {"dtype": "image", "shape": shape, "names": ["height", "width", "channels"]}
    for key, camera in result.dataset.video_cameras.items():
        clips = [clip for clip in result.video_scans.of(key) if clip.episode in chosen and len(clip.scan.times)]
        if not clips:
            continue
        scan = clips[0].scan
        entry = features.setdefault(key, {"dtype": "video"})
        if entry.get("dtype") not in CAMERA_TYPES:
            plan.actions.append(f"meta/info.json: camera '{camera.name}' is declared video, as it is stored.")
            entry["dtype"] = "video"
        if camera.size is None and not (camera.depth and "shape" in entry):
            # A depth map stays one: as a color camera it would look black.
            channels = 1 if camera.depth else 3
            entry |= {"shape": [scan.height, scan.width, channels], "names": ["height", "width", "channels"]}
        details = entry.get("info") if isinstance(entry.get("info"), dict) else entry.get("video_info")
        details = dict(details) if isinstance(details, dict) else {}
        found = {"video.codec": scan.codec, "video.pix_fmt": scan.pix_fmt, "video.fps": plan.info.get("fps", plan.fps)}
        other = {
            name: value for name, value in found.items() if name not in details or _differs(name, details[name], value)
        }
        changed = [
            f"{name.removeprefix('video.')} {details[name]} becomes {other[name]}" for name in other if name in details
        ]
        entry["info"] = {**details, **other}
        entry.pop("video_info", None)
        if changed:
            plan.actions.append(f"meta/info.json: camera '{camera.name}': {', '.join(changed)}.")


def _differs(name: str, stated: Any, found: Any) -> bool:
    if name == "video.codec":
        from smolpilot.datasets.check.checks.check_video import plain_codec

        return plain_codec(str(stated)) != plain_codec(str(found))
    return bool(stated != found)
