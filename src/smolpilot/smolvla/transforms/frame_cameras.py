"""The cameras of an observation: its keys, checked against a camera map. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from smolpilot.common.errors import TransformError
from smolpilot.common.keys import PADDING_MASK, camera_name, image_key, is_image_key, plain_camera


def check_cameras(
    observation: Mapping[str, Any], camera_map: Mapping[str, str | None], not_needed: Collection[str] = ()
) -> None:
    """TransformError for a camera of the map (robot camera -> slot, None: not used) that is missing, or one beyond.

    not_needed: slots that the observation need not fill.
    """
    used = [camera for camera, slot in camera_map.items() if slot is not None and slot not in not_needed]
    found = [camera_name(key) for key in observation if is_image_key(key)]
    missing = [camera for camera in used if camera_key(observation, camera) not in observation]
    known = {plain_camera(camera) for camera in camera_map}
    unknown = [camera for camera in found if plain_camera(camera) not in known]
    if not missing and not unknown:
        return
    parts = []
    if missing:
        parts.append(f"The observation lacks camera {_quoted(missing)}.")
    if unknown:
        parts.append(f"The observation has camera {_quoted(unknown)}, which the policy does not know.")
    raise TransformError(
        " ".join(parts),
        expected=f"cameras {_quoted(used) or 'none'}; the observation has {_quoted(found) or 'none'}",
        fix="name the camera as the policy does, or pair them: --camera-map CAMERA=SLOT (camera_map= in Python)",
    )


def camera_key(observation: Mapping[str, Any], camera: str) -> str:
    """The key of a camera's image: `image` may come as `observation.image`, and the other way round."""
    key, plain = image_key(camera), plain_camera(camera)
    spellings = (key, f"observation.{plain}", image_key(plain))
    return next((one for one in spellings if one in observation and is_image_key(one)), key)


def has_image(observation: Mapping[str, Any], camera: str) -> bool:
    """False where the observation says that the camera delivers nothing (`..._padding_mask` is False)."""
    value = np.asarray(observation.get(f"{camera_key(observation, camera)}{PADDING_MASK}", True))
    if value.size != 1:
        raise TransformError(
            f"'{camera}{PADDING_MASK}' has shape {list(value.shape)}.", expected="one truth value per observation"
        )
    return bool(value.all())


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
