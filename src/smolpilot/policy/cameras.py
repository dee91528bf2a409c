"""Part 2: each robot camera into its slot, letterboxed; slots may stay empty only where the policy declares it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smolpilot.errors import TransformError, did_you_mean
from smolpilot.keys import camera_name, image_key, plain_camera

from .camera_pairing import TYPED, CameraMap, Pairing, camera_text, resolve_camera_map, typed_camera_map
from .config import PolicyConfig
from .images import letterbox, to_network_range, to_unit_range
from .parts import Batch

if TYPE_CHECKING:
    from .policy import Policy

__all__ = [
    "TYPED",
    "CameraMap",
    "CamerasPart",
    "Pairing",
    "camera_text",
    "check_camera_map",
    "pair_cameras",
    "resolve_camera_map",
    "typed_camera_map",
]
_MASK = "_padding_mask"
_NOT_PICTURES = (_MASK, "_is_pad")


class CamerasPart:
    """Pictures [B, C, 3, h, w] in [-1, 1] in the order of the slots; the empty slots come last, at -1 and masked."""

    name = "cameras"

    def __init__(self, config: PolicyConfig, camera_map: Mapping[str, str | None]) -> None:
        check_camera_map(camera_map, config)
        self.camera_map = dict(camera_map)
        by_slot = {slot: camera for camera, slot in camera_map.items() if slot is not None}
        self.order = [by_slot[slot] for slot in config.real_cameras]
        declared = len(config.cameras) - len(config.real_cameras)
        # LeRobot fills at most `empty_cameras` of the slots that are absent from a frame.
        self.empty = min(declared, config.empty_cameras)
        self.size = config.resize_imgs_with_padding

    def describe(self) -> str:
        size = f"letterbox to {self.size[0]}x{self.size[1]}" if self.size else "not resized"
        return f"{camera_text(self.camera_map)}; {self.empty} empty; {size}"

    def forward(self, batch: Batch) -> None:
        for frame in batch.frames:
            self._check_names(frame)
        pictures = [self._pictures([frame[_key(frame, camera)] for frame in batch.frames], camera)
                    for camera in self.order]  # fmt: skip
        masks = [torch.tensor([_mask(frame, camera) for frame in batch.frames]) for camera in self.order]
        sizes = {tuple(picture.shape[1:]) for picture in pictures}
        if len(sizes) > 1:
            raise TransformError(
                f"The cameras have pictures of different sizes: {sorted(sizes)}.",
                expected="one size, since this policy does not resize (resize_imgs_with_padding is null)",
            )
        for _ in range(self.empty):
            pictures.append(torch.full_like(pictures[0], -1.0))
            masks.append(torch.zeros_like(masks[0]))
        batch.images = torch.stack(pictures, dim=1)
        batch.image_masks = torch.stack(masks, dim=1).bool()

    def backward(self, actions: Tensor) -> Tensor:
        return actions

    def _pictures(self, raw: list[Any], camera: str) -> Tensor:
        """The pictures of one camera over the batch, [B, 3, h, w] in [-1, 1]."""
        images = [to_unit_range(picture, camera) for picture in raw]
        if self.size is not None:
            width, height = self.size
            if len({image.shape for image in images}) == 1:
                return to_network_range(letterbox(torch.stack(images), width, height))
            images = [letterbox(image[None], width, height)[0] for image in images]
        elif len({image.shape for image in images}) > 1:
            raise TransformError(f"Camera '{camera}' has pictures of different sizes in one batch.")
        return to_network_range(torch.stack(images))

    def _check_names(self, frame: Mapping[str, Any]) -> None:
        found = {camera_name(key) for key in frame if _is_picture(key)}
        missing = [camera for camera in self.order if _key(frame, camera) not in frame]
        known = {plain_camera(camera) for camera in self.camera_map}
        unknown = sorted(name for name in found if plain_camera(name) not in known)
        if not missing and not unknown:
            return
        parts = []
        if missing:
            parts.append(f"The frame lacks camera {_quoted(missing)}.")
        if unknown:
            parts.append(f"The frame has camera {_quoted(unknown)}, which the policy does not know.")
        raise TransformError(
            " ".join(parts),
            expected=f"cameras {_quoted(self.order)}; the frame has {_quoted(sorted(found)) or 'none'}",
            fix="name the camera as the policy does, or give a camera map (robot camera -> slot; null: not used)",
        )


def pair_cameras(
    policy: Policy,
    cameras: Sequence[str],
    given: Mapping[str, str | None] | None = None,
    *,
    owner: str = "the dataset",
) -> Pairing:
    """Make a loaded policy take the cameras of `owner`, by `resolve_camera_map`, and say how they were paired.

    Raises UsageError where no camera, or more than one, could fill a slot.
    """
    pairing = resolve_camera_map(
        cameras, policy.config.real_cameras, given=given, saved=policy.recipe.camera_map, owner=owner
    )
    policy.use_cameras(pairing)
    return pairing


def check_camera_map(camera_map: Mapping[str, str | None], config: PolicyConfig) -> None:
    """TransformError unless every camera lands in one slot and every slot that is not empty is filled once."""
    slots = config.real_cameras
    if not slots:
        raise TransformError("The policy has no camera.", expected="at least one image input")
    filled: dict[str, str] = {}
    for camera, slot in camera_map.items():
        if slot is None:
            continue
        if slot not in slots:
            raise TransformError(
                f"Camera '{camera}' is mapped to '{slot}', which is no camera slot of the policy.",
                expected=f"one of {_quoted(slots)}",
                fix=did_you_mean(slot, slots),
            )
        if slot in filled:
            raise TransformError(f"Cameras '{filled[slot]}' and '{camera}' are both mapped to slot '{slot}'.")
        filled[slot] = camera
    unfilled = [slot for slot in slots if slot not in filled]
    if unfilled:
        raise TransformError(
            f"No camera is mapped to slot {_quoted(unfilled)}; the map has {_quoted(list(camera_map)) or 'no camera'}.",
            expected=f"a camera for each of {_quoted(slots)}",
            fix="add it to the camera map (--camera-map CAMERA=SLOT; camera_map= in Python)",
        )


def _is_picture(key: str) -> bool:
    return isinstance(key, str) and key.startswith("observation.image") and not key.endswith(_NOT_PICTURES)


def _key(frame: Mapping[str, Any], camera: str) -> str:
    """The key of a camera's picture in a frame: `image` may come as `observation.image`, and the other way round."""
    key = image_key(camera)
    if key not in frame:
        plain = plain_camera(camera)
        for other in (f"observation.{plain}", image_key(plain)):
            if other in frame and _is_picture(other):
                return other
    return key


def _mask(frame: Mapping[str, Any], camera: str) -> bool:
    value = frame.get(f"{_key(frame, camera)}{_MASK}", True)
    if isinstance(value, Tensor) and value.numel() != 1:
        raise TransformError(f"'{camera}{_MASK}' has shape {list(value.shape)}.", expected="one truth value per frame")
    return bool(value)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
