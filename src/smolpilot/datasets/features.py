"""What a dataset holds per frame: features, their names, and which of them are cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.errors import DatasetError
from smolpilot.keys import ACTION, IMAGES, STATE, camera_name

_CAMERA_TYPES = ("video", "image")
_CHANNEL_NAMES = ("channel", "channels", "c")


@dataclass(frozen=True)
class Feature:
    """One column of a dataset: its type as LeRobot names it, shape per frame, and flattened dimension names."""

    dtype: str
    shape: tuple[int, ...]
    names: list[str] | None


@dataclass(frozen=True)
class CameraInfo:
    """One camera: its feature key, image size in pixels, and how its images are stored.

    `codec` is `h264`, `hevc`, `av1`, … for video, `image` for pictures inside the tables.
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


def parse_features(info: dict[str, Any], path: Path, *, trainable: bool = True) -> dict[str, Feature]:
    """The features of `info.json`; raises DatasetError when one is not described as LeRobot does it.

    `trainable` demands a state and an action.
    """
    raw = info.get("features")
    if not isinstance(raw, dict) or not raw:
        raise DatasetError(f"{path} names no features.", expected="an object 'features' with state, action, cameras")
    features = {}
    for name, entry in raw.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or "dtype" not in entry or not all(isinstance(n, int) for n in shape):
            raise DatasetError(f"The feature '{name}' in {path} is incomplete.", expected="a dtype and a list as shape")
        features[name] = Feature(str(entry["dtype"]), tuple(shape), flatten_names(entry.get("names"), shape))
    if trainable:
        _require_vectors(features, path)
    return features


def flatten_names(names: Any, shape: list[int]) -> list[str] | None:
    """Flatten names as found in the wild: a list, nested lists, a dict of lists, a dict name -> index, or null.

    None when there is not exactly one name per dimension (`["motors"]` for 14 joints says nothing).
    """
    flat = _leaves(names)
    size = shape[0] if len(shape) == 1 else len(shape)
    return flat if len(flat) == size else None


def parse_cameras(
    info: dict[str, Any], features: dict[str, Feature], path: Path, *, trainable: bool = True
) -> dict[str, CameraInfo]:
    """The cameras by name (feature key without `observation.images.`); `trainable` refuses depth and float images."""
    cameras: dict[str, CameraInfo] = {}
    for key, feature in features.items():
        if feature.dtype not in _CAMERA_TYPES:
            if trainable and key.startswith(f"{IMAGES}."):
                raise DatasetError(
                    f"The camera '{camera_name(key)}' in {path} has dtype {feature.dtype}.",
                    expected="8-bit colour pictures, dtype 'video' or 'image'; float images are not supported",
                    fix="Record the camera as video, or remove the feature from the dataset.",
                )
            continue
        entry = info["features"][key]
        details = {**(entry.get("video_info") or {}), **(entry.get("info") or {})}
        if trainable and is_depth(entry, feature):
            raise DatasetError(
                f"The camera '{camera_name(key)}' in {path} is a depth camera.",
                expected="colour cameras: SmolVLA sees RGB pictures",
                fix="Remove the depth feature from a copy of the dataset.",
            )
        height, width = _image_size(feature, path, key, any_channels=not trainable)
        cameras[_camera_name(key)] = CameraInfo(
            key=key,
            width=width,
            height=height,
            codec=str(details.get("video.codec", "unknown")) if feature.dtype == "video" else "image",
            pix_fmt=str(details.get("video.pix_fmt", "unknown")) if feature.dtype == "video" else "rgb24",
            fps=_camera_rate(details.get("video.fps") or info["fps"], path, key),
        )
    return cameras


def dimension_names(feature: Feature) -> list[str]:
    """The names of a vector's dimensions; `joint_0`, `joint_1`, … when the dataset does not name them."""
    return list(feature.names) if feature.names else [f"joint_{i}" for i in range(feature.shape[0])]


def _camera_name(key: str) -> str:
    # PushT and other old recordings have a single `observation.image`: that camera is called `image`.
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


def _require_vectors(features: dict[str, Feature], path: Path) -> None:
    for key, word in ((STATE, "state"), (ACTION, "action")):
        if key not in features:
            raise DatasetError(
                f"{path} has no feature '{key}'.",
                expected=f"a {word} per frame: a policy is trained on states and actions",
                fix=f"Record the {word}, or rename the feature that holds it to '{key}'.",
            )
        if len(features[key].shape) != 1 or features[key].shape[0] < 1:
            raise DatasetError(
                f"The feature '{key}' in {path} has shape {list(features[key].shape)}.", expected="one vector per frame"
            )


def _camera_rate(rate: Any, path: Path, key: str) -> float:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0:
        raise DatasetError(f"The camera '{key}' in {path} has fps {rate!r}.", expected="frames per second, above 0")
    return float(rate)


def is_depth(entry: dict[str, Any], feature: Feature) -> bool:
    """Whether a camera's entry in `info.json` describes distances, not colours."""
    details = {**(entry.get("video_info") or {}), **(entry.get("info") or {})}
    flagged = details.get("is_depth_map") or details.get("video.is_depth_map")
    single = feature.names is not None and any(
        name in _CHANNEL_NAMES and size == 1 for name, size in zip(feature.names, feature.shape, strict=True)
    )
    return bool(flagged) or single


def _image_size(feature: Feature, path: Path, key: str, *, any_channels: bool) -> tuple[int, int]:
    """(height, width), whichever way round the shape is stored."""
    shape = feature.shape
    if len(shape) != 3:
        raise DatasetError(
            f"The camera '{key}' in {path} has shape {list(shape)}.", expected="three numbers: height, width, channels"
        )
    names = [name.lower() for name in feature.names] if feature.names else []
    channel_first = names[0] in _CHANNEL_NAMES if names else shape[0] == 3 and shape[2] != 3
    height, width, channels = (shape[1], shape[2], shape[0]) if channel_first else shape
    if channels != 3 and not any_channels:
        raise DatasetError(f"The camera '{key}' in {path} has {channels} channels.", expected="3 (red, green, blue)")
    return height, width
