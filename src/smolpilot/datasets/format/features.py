"""What a dataset holds per frame: features, their names, and which of them are cameras."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.errors import DatasetError
from smolpilot.common.keys import ACTION, IMAGES, STATE, camera_name
from smolpilot.common.safe_paths import why_no_name
from smolpilot.common.text import plain

from .files import repair_advice
from .problems import REFUSE, Problems

INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
MOST_NUMBERS = 1 << 28
"""Of a feature, in a frame: more than any camera has."""
_MOST_DIMENSIONS = 16
MOST_NAMES = 1 << 16
"""Dimensions that get a name each."""
NEEDED = (STATE, ACTION, *INDEX_COLUMNS)

CAMERA_TYPES = ("video", "image")
_CHANNEL_NAMES = ("channel", "channels", "c")
_WORDS = {STATE: "state", ACTION: "action"}
# The last part of a feature's name, the plainest words first: openpi, GR00T, ALOHA and robomimic use these.
_MEANINGS = {
    STATE: [
        {"state", "states"},
        {"proprio", "proprioception", "qpos", "joint_state", "joint_states", "robot_state", "robot_states"},
        {"joint_position", "joint_positions", "joint_pos"},
    ],
    ACTION: [{"action", "actions"}, {"robot_action", "robot_actions", "action_joint", "joint_action", "joint_actions"}],
}


@dataclass(frozen=True)
class Feature:
    """One column of a dataset: its type as LeRobot names it, shape per frame, and flattened dimension names."""

    dtype: str
    shape: tuple[int, ...]
    names: list[str] | None

    def name(self, i: int) -> str:
        """The name of a dimension; made up where the dataset does not name it."""
        return self.names[i] if self.names and i < len(self.names) else f"joint_{i}"


@dataclass(frozen=True)
class CameraInfo:
    """One camera: its feature key, image size in pixels, and how its images are stored.

    `codec` is `h264`, `hevc`, `av1`, … for video, `image` for images inside the tables.
    """

    key: str
    width: int
    height: int
    codec: str
    pix_fmt: str
    fps: float

    @property
    def is_video(self) -> bool:
        """Whether the frames come from video files."""
        return self.codec != "image"


def parse_features(
    info: dict[str, Any], path: Path, problems: Problems = REFUSE, *, left_out: dict[str, str] | None = None
) -> dict[str, Feature]:
    """The features of `info.json`; a report for one that is needed and is not described as LeRobot does it.

    Others that are not described go into `left_out`, with the reason.
    """
    raw, name, root = info.get("features"), problems.named(path), path.parent.parent
    if not isinstance(raw, dict) or not raw:
        expected, advice = "an object 'features' with state, action, cameras", "finds them in the files"
        message = f"{name} names no features."
        problems.report("features-damaged", message, expected=expected, advice=repair_advice(root, advice))
        return {}
    features, noted = {}, {} if left_out is None else left_out
    for key, entry in raw.items():
        described = entry if isinstance(entry, dict) else {}
        dtype, shape = described.get("dtype"), described.get("shape")
        if why := why_no_key(key, dtype):
            _report_key(key, dtype, why, path, problems)
            if why_no_key(key, None):
                noted[key] = f"a name that none can have: {why}"
                continue
        if not isinstance(dtype, str) or not isinstance(shape, list) or not usable_shape(key, shape):
            noted[key] = "meta/info.json gives it no dtype, or no fixed shape of a size that can be meant"
            message = f"The feature '{key}' in {name} is incomplete: it lacks its dtype or shape."
            if key in NEEDED or dtype in CAMERA_TYPES:
                expected = f"a dtype, and a list of numbers as shape, with at most {MOST_NUMBERS:,} numbers a frame"
                advice = repair_advice(root, "describes it by what the files hold")
                problems.report("features-damaged", message, expected=expected, advice=advice)
            else:
                problems.remark("features-damaged", message)
            continue
        features[key] = Feature(dtype, tuple(shape), flatten_names(described.get("names"), shape))
    return features


def _report_key(key: str, dtype: Any, why: str, path: Path, problems: Problems) -> None:
    """Videos lie in a folder of that name; nobody needs another feature that cannot be called that."""
    error = unusable_key(key, why, path, name=problems.named(path))
    if dtype == "video":
        problems.report_error("features-damaged", error, key=key)
    else:
        problems.remark("features-damaged", error.found, key=key)


def why_no_key(name: str, dtype: Any) -> str:
    """Why a text cannot be the key of a feature; empty where it can.

    The videos of a camera lie in a folder of its key. Other features are columns, and some recorders group them, as in
    `observation/state`: each part then has to be a name.
    """
    parts = [name] if dtype == "video" else name.split("/")
    return next((reason for part in parts if (reason := why_no_name(part))), "")


def unusable_key(key: str, reason: str, path: Path, *, verb: str = "convert", name: str = "") -> DatasetError:
    """The error for a feature in `info.json` whose key cannot be a name; `verb` is the one that can leave it out."""
    root = shlex.quote(str(path.parent.parent))
    if not why_no_key(key, None):
        fix = repair_advice(path.parent.parent, "gives the camera LeRobot's name")
    elif key and key.isprintable():
        without = f"DST --without {shlex.quote(key)}` makes a copy without it."
        fix = f"`smolpilot dataset {verb} {root} {without}"
    else:
        fix = "Give it another name in the meta folder of a copy."
    return DatasetError(
        f"The feature '{plain(key, 200)}' of {name or path} cannot be called that: {reason}.",
        expected="a name such as observation.images.top: a camera's becomes the name of a folder",
        fix=fix,
    )


def flatten_names(names: Any, shape: list[int]) -> list[str] | None:
    """Flatten names as found in the wild: a list, nested lists, a dict of lists, a dict name -> index, or null.

    None when there is not exactly one name per dimension (`["motors"]` for 14 joints says nothing).
    """
    flat = _leaves(names)
    size = shape[0] if len(shape) == 1 else len(shape)
    return flat if len(flat) == size else None


def parse_cameras(
    info: dict[str, Any],
    features: dict[str, Feature],
    *,
    trainable: bool = True,
    left_out: dict[str, str] | None = None,
) -> dict[str, CameraInfo]:
    """The cameras by name (feature key without `observation.images.`).

    Depth cameras and others that are not three colors of 8 bits go into `left_out`, with the reason: `trainable`
    leaves them out of the result, too.
    """
    cameras: dict[str, CameraInfo] = {}
    noted = {} if left_out is None else left_out
    for key, feature in features.items():
        if feature.dtype not in CAMERA_TYPES:
            if key.startswith(f"{IMAGES}."):
                noted[key] = f"images as {feature.dtype} numbers: a policy sees 8-bit colors (dtype video or image)"
            continue
        entry = info["features"][key]
        details = video_details(entry)
        reason = _why_unusable(entry, feature)
        if reason:
            noted[key] = reason
            if trainable:
                continue
        height, width = image_size(feature)
        rate = info["fps"] if reason else details.get("video.fps") or info["fps"]
        cameras[short_name(key)] = CameraInfo(
            key=key,
            width=width,
            height=height,
            codec=str(details.get("video.codec", "unknown")) if feature.dtype == "video" else "image",
            pix_fmt=str(details.get("video.pix_fmt", "unknown")) if feature.dtype == "video" else "rgb24",
            fps=float(rate),
        )
    return cameras


def motion_keys(features: dict[str, Feature]) -> dict[str, str]:
    """The features that hold state and action: LeRobot's own names, or the only others that plainly mean the same.

    Other recorders say `state` and `actions`; a word without a plain feature is left out of the result.
    """
    found = {}
    for key in (STATE, ACTION):
        candidates = [key] if key in features else _candidates(features, key)
        if len(candidates) == 1:
            found[key] = candidates[0]
    return found


def dimension_names(feature: Feature) -> list[str]:
    """The names of a vector's dimensions; `joint_0`, `joint_1`, … when the dataset does not name them."""
    return list(feature.names) if feature.names else [f"joint_{i}" for i in range(math.prod(feature.shape))]


def short_name(key: str) -> str:
    # PushT and other old datasets have a single `observation.image`: that camera is called `image`.
    return camera_name(key).removeprefix("observation.")


def _leaves(names: Any) -> list[str]:
    if names is None:
        return []
    if isinstance(names, dict):
        if names and all(isinstance(index, int) for index in names.values()):
            return [str(name) for name in sorted(names, key=lambda name: int(names[name]))]
        return [leaf for value in names.values() for leaf in _leaves(value)]
    if isinstance(names, list | tuple):
        return [leaf for value in names for leaf in _leaves(value)]
    return [str(names)]


def require_vectors(features: dict[str, Feature], path: Path) -> None:
    """DatasetError for a dataset without a state or an action, each one vector per frame."""
    absent = [key for key in (STATE, ACTION) if key not in features]
    if absent:
        words = " and ".join(_WORDS[key] for key in absent)
        raise DatasetError(
            f"{path} has no feature {' and no feature '.join(repr(key) for key in absent)}.",
            expected=f"{words} per frame: a policy is trained on states and actions",
            fix=_rename_advice(features, absent, path.parent.parent),
        )
    for key in (STATE, ACTION):
        if len(features[key].shape) != 1 or features[key].shape[0] < 1:
            raise DatasetError(
                f"The feature '{key}' in {path} has shape {list(features[key].shape)}.", expected="one vector per frame"
            )


def _rename_advice(features: dict[str, Feature], absent: list[str], root: Path) -> str:
    """The command that gives the features their names; with the names of this dataset where they are plain."""
    plain = motion_keys(features)
    vectors = [name for name, feature in features.items() if _is_vector(name, feature)]
    if not vectors:
        return "Record them: no feature of this dataset is a vector of numbers."
    pairs = [f"{shlex.quote(plain[key]) if key in plain else f'NAME_OF_{_WORDS[key].upper()}'}={key}" for key in absent]
    command = f"`smolpilot dataset rename {shlex.quote(str(root))} DST --feature {' '.join(pairs)}`"
    if all(key in plain for key in absent):
        return f"{command} gives the features these names in a copy."
    return f"{command}, where the features with numbers are: {', '.join(vectors)}."


def _candidates(features: dict[str, Feature], key: str) -> list[str]:
    """The vectors whose name means state (or action), best ones first: those of the plainest word only."""
    vectors = [name for name, feature in features.items() if _is_vector(name, feature)]
    for words in _MEANINGS[key]:
        found = [name for name in vectors if name.replace("/", ".").split(".")[-1].lower() in words]
        if found:
            return found
    return []


def _is_vector(name: str, feature: Feature) -> bool:
    numeric = feature.dtype.startswith(("float", "int", "uint"))
    return numeric and len(feature.shape) == 1 and 0 < feature.shape[0] <= MOST_NAMES and name not in NEEDED


def usable_shape(name: str, shape: list[Any]) -> bool:
    """Whether a shape of info.json is a list of sizes with no more numbers than an image has; a vector that a policy
    reads, and a column of running numbers, has fewer.
    """
    if len(shape) > _MOST_DIMENSIONS:
        return False
    least, most = int(name in (STATE, ACTION)), MOST_NAMES if name in NEEDED else MOST_NUMBERS
    sizes = all(isinstance(n, int) and not isinstance(n, bool) and least <= n <= most for n in shape)
    return sizes and math.prod(shape) <= most


def is_depth(entry: dict[str, Any], feature: Feature) -> bool:
    """Whether a camera's entry in `info.json` describes distances, not colors."""
    details = video_details(entry)
    flagged = details.get("is_depth_map") or details.get("video.is_depth_map")
    single = feature.names is not None and any(
        name in _CHANNEL_NAMES and size == 1 for name, size in zip(feature.names, feature.shape, strict=False)
    )
    return bool(flagged) or single


def video_details(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry says of its video, under either name."""
    parts = [entry.get(name) for name in ("video_info", "info")]
    return {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}


def _why_unusable(entry: dict[str, Any], feature: Feature) -> str:
    """Why no policy can see this camera; empty for three colors."""
    if is_depth(entry, feature):
        return "a depth camera: a policy sees red, green and blue"
    if len(feature.shape) != 3:
        return f"a camera of shape {list(feature.shape)}, not height, width and channels"
    channels = feature.shape[0] if _channel_first(feature) else feature.shape[2]
    return "" if channels == 3 else f"a camera with channels = {channels}: a policy sees red, green and blue"


def image_size(feature: Feature) -> tuple[int, int]:
    """(height, width), whichever way round the shape is stored; zeros where it has none."""
    shape = feature.shape
    if len(shape) != 3:
        return (shape[0], shape[1]) if len(shape) == 2 else (0, 0)
    return (shape[1], shape[2]) if _channel_first(feature) else (shape[0], shape[1])


def _channel_first(feature: Feature) -> bool:
    names = [name.lower() for name in feature.names] if feature.names else []
    if names:
        return names[0] in _CHANNEL_NAMES
    first, last = feature.shape[0], feature.shape[2]
    return (first == 3 and last != 3) or (first == 1 and last not in (1, 3))
