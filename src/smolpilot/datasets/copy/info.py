"""`meta/info.json` of the result: the source's, with what the other version needs and what was missing filled in."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.format.arrow import word_of
from smolpilot.datasets.format.episodes import NEVER_RECORDED
from smolpilot.datasets.format.features import INDEX_COLUMNS, MOST_NAMES, Feature, is_depth, usable_shape
from smolpilot.datasets.format.versions import FORMATS

from .copy_plan import PlacedEpisode
from .options import CopyOptions
from .video.packets import Clip


def result_info(
    base: Mapping[str, Any],
    placed: Sequence[PlacedEpisode],
    tasks: Mapping[int, str],
    options: CopyOptions,
    clips: Mapping[str, Clip],
    schema: pa.Schema,
    recoded: Collection[str] = (),
) -> dict[str, Any]:
    """The description; `clips` are one clip per camera key, `schema` that of the tables.

    Of the keys in `recoded` all videos are coded as that clip is, whatever the source says.
    """
    info = copy.deepcopy(dict(base))
    for key, reason in placed[0].plan.source.left_out.items():
        # A camera without videos: LeRobot would look for them.
        if reason == NEVER_RECORDED and isinstance(info.get("features"), dict):
            info["features"].pop(key, None)
    fps = info.get("fps", placed[0].plan.source.fps)
    form = options.format
    for other in FORMATS.values():
        for key in set(other.totals) - set(form.totals):
            info.pop(key, None)
    info |= {
        "codebase_version": options.version,
        "fps": plain_number(fps),
        "total_episodes": len(placed),
        "total_frames": sum(one.rows.length for one in placed),
        "total_tasks": len(tasks),
        "chunks_size": options.chunk_files,
        "data_path": form.data_path,
        "video_path": form.video_path if clips else None,
        "splits": _splits(info.get("splits"), placed),
    }
    info.setdefault("robot_type", None)
    if form.shared_files:
        info |= {"data_files_size_in_mb": options.data_file_mb, "video_files_size_in_mb": options.video_file_mb}
    else:
        chunks = {one.index // options.chunk_files for one in placed}
        info |= {"total_chunks": len(chunks), "total_videos": len(placed) * len(clips)}
    features = info.setdefault("features", {})
    for key in placed[0].plan.source.without:
        features.pop(key, None)
    _complete_features(features, schema)
    _plain_rates(features)
    for key, clip in clips.items():
        if key in features:
            _complete_video(features[key], clip, plain_number(fps))
            if key in recoded:
                features[key]["info"] |= {"video.codec": clip.coding.codec, "video.pix_fmt": clip.coding.pix_fmt}
    return info


def plain_number(value: Any) -> Any:
    """A whole number as one: LeRobot takes 10.0 for another rate than 10. Everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def split_note(before: Any, after: Mapping[str, str], renumbered: bool) -> list[str]:
    """A sentence where the source's splits were not those of its episodes, and have been written anew."""
    if renumbered or not isinstance(before, dict) or not before or before == after:
        return []
    old = ", ".join(f"{name} {part}" for name, part in before.items())
    return [f"The source's splits ({old}) are not of its episodes. Written anew: train {after['train']}."]


def _plain_rates(features: Mapping[str, Any]) -> None:
    """Rates and sizes of images that were written as 30.0 or 480.0."""
    for feature in features.values():
        for details in (feature, feature.get("info"), feature.get("video_info")):
            for key, value in details.items() if isinstance(details, dict) else ():
                if key.removeprefix("video.") in ("fps", "height", "width", "channels"):
                    details[key] = plain_number(value)


def _splits(splits: Any, placed: Sequence[PlacedEpisode]) -> dict[str, Any]:
    """The source's splits where it has the same episodes; otherwise everything is for training."""
    source = placed[0].plan.source
    whole = len(source.episodes) == len(placed) and all(one.plan.source is source for one in placed)
    if isinstance(splits, dict) and splits and whole and splits_fit(splits, len(placed)):
        return splits
    return {"train": f"0:{len(placed)}"}


def splits_fit(splits: Any, episodes: int) -> bool:
    """Whether splits end with the episodes; what is written in another way than `0:80` is not judged."""
    return not isinstance(splits, dict) or all(_inside(part, episodes) for part in splits.values())


def _inside(part: Any, episodes: int) -> bool:
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", part) if isinstance(part, str) else None
    return match is None or int(match[1]) <= int(match[2]) <= episodes


def _complete_features(features: dict[str, Any], schema: pa.Schema) -> None:
    for column in schema:
        if column.name not in features:
            described = _described(column.type)
            if described is not None:
                features[column.name] = described
    for name, feature in features.items():
        shape = feature.get("shape")
        if not isinstance(shape, list) or not usable_shape(name, shape):
            continue  # no reader takes it for a feature: it stays as it is
        if feature.get("names") is not None or name in INDEX_COLUMNS:
            continue
        if feature.get("dtype") in ("video", "image") and len(shape) == 3:
            last = shape[0] not in (1, 3) or shape[2] in (1, 3)
            feature["names"] = ["height", "width", "channels"] if last else ["channels", "height", "width"]
        elif len(shape) == 1 and shape[0] <= MOST_NAMES and (shape[0] > 1 or name in (STATE, ACTION)):
            feature["names"] = [f"joint_{i}" for i in range(shape[0])]


def _described(kind: pa.DataType) -> dict[str, Any] | None:
    """The feature of a column that info.json forgot: LeRobot cannot load a column that it does not know."""
    shape = []
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    dtype = word_of(kind)
    return None if dtype is None else {"dtype": dtype, "shape": shape or [1], "names": None}


def _complete_video(feature: dict[str, Any], clip: Clip, fps: float) -> None:
    """Codec and pixel format as they are in the files, where the source is silent."""
    described = Feature(str(feature.get("dtype")), tuple(feature.get("shape") or ()), None)
    depth = is_depth(feature, described) or 1 in described.shape[-1:]
    details = feature.setdefault("info", copy.deepcopy(feature.get("video_info") or {}))
    found = {
        "video.height": clip.coding.height,
        "video.width": clip.coding.width,
        "video.codec": clip.coding.codec,
        "video.pix_fmt": clip.coding.pix_fmt,
        "video.is_depth_map": depth,
        "video.fps": fps,
        "video.channels": math.prod(feature.get("shape", [3])[2:3]) or 3,
        "has_audio": False,
    }
    for key, value in found.items():
        details.setdefault(key, value)
