"""Names of the entries of a frame, as LeRobot spells them."""

from __future__ import annotations

STATE = "observation.state"
ACTION = "action"
ACTION_IS_PAD = "action_is_pad"
IMAGES = "observation.images"
TASK = "task"
PADDING_MASK = "_padding_mask"  # behind an image's key: whether there is an image (False: the camera delivers none)
_BESIDE_IMAGES = (PADDING_MASK, "_is_pad")


def image_key(camera: str) -> str:
    """The frame key of a camera: `front` -> `observation.images.front`; a whole key stays what it is.

    Whole keys occur: datasets with one nameless camera call it `observation.image`.
    """
    return camera if camera.startswith("observation.") else f"{IMAGES}.{camera}"


def camera_name(key: str) -> str:
    """The camera of a frame key: `observation.images.front` -> `front`."""
    return key.removeprefix(f"{IMAGES}.")


def is_image_key(key: object) -> bool:
    """Whether a frame holds an image under this key, and not what stands beside one."""
    return isinstance(key, str) and key.startswith("observation.image") and not key.endswith(_BESIDE_IMAGES)


def plain_camera(name: str) -> str:
    """A camera without any prefix: `image`, `observation.image` and `observation.images.image` are one camera."""
    return camera_name(name).removeprefix("observation.")
