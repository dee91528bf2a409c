"""The transform of pictures: each robot camera into its slot, letterboxed; only declared slots may stay empty."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smolpilot.common.errors import TransformError, did_you_mean
from smolpilot.common.keys import PADDING_MASK, camera_name, image_key, is_image_key, plain_camera
from smolpilot.smolvla.config import PolicyConfig

from .camera_slots import TYPED, CameraMap, Pairing, camera_text, resolve_camera_map, typed_camera_map
from .images import letterbox, to_network_range, to_unit_range
from .transform import Size, Transform

if TYPE_CHECKING:
    from smolpilot.smolvla.policy import Policy

__all__ = [
    "TYPED",
    "CameraMap",
    "CamerasTransform",
    "Pairing",
    "camera_text",
    "check_camera_map",
    "pair_cameras",
    "resolve_camera_map",
    "typed_camera_map",
]


class CamerasTransform(Transform):
    """Pictures [B, C, 3, h, w] in [-1, 1] in the order of the slots; the empty slots come last, at -1 and masked."""

    name = "cameras"

    def __init__(self, config: PolicyConfig, camera_map: Mapping[str, str | None]) -> None:
        check_camera_map(camera_map, config)
        self.camera_map = dict(camera_map)
        by_slot = {slot: camera for camera, slot in camera_map.items() if slot is not None}
        self.filled = {slot: by_slot[slot] for slot in config.real_cameras}
        self.slots = config.cameras
        # LeRobot fills at most `empty_cameras` of the slots that are absent from a frame.
        self.empty = min(len(config.cameras) - len(config.real_cameras), config.empty_cameras)
        self.size: Size | None = config.resize_imgs_with_padding

    def describe(self) -> str:
        size = f"letterbox to {self.size[0]}x{self.size[1]}" if self.size else "not resized"
        return f"{camera_text(self.camera_map)}; {self.empty} empty; {size}"

    def spec(self) -> dict[str, Any]:
        return {"slots": [self.filled.get(slot) for slot in self.slots], "image_size": self.size and self.size[0]}

    def pictures(self, images: Tensor, slot: str) -> Tensor:
        """[0, 1] -> letterboxed, in [-1, 1]."""
        return to_network_range(letterbox(images, *self.size) if self.size is not None else images)

    def encoded_size(self, size: Size) -> Size:
        return self.size or size

    def read(
        self, frames: Sequence[Mapping[str, Any]], unseen: Collection[str] = ()
    ) -> tuple[dict[str, list[Tensor]], Tensor]:
        """The pictures of each slot in [0, 1], one [3, h, w] for a frame, and bool [B, filled]: whether it is one.

        Slots in `unseen` hold no picture, whatever the frames say; the frames need not have their cameras.
        """
        wanted = {slot: camera for slot, camera in self.filled.items() if slot not in unseen}
        for frame in frames:
            self._check_names(frame, list(wanted.values()))
        pictures = {slot: [to_unit_range(frame[_key(frame, camera)], camera) for frame in frames]
                    for slot, camera in wanted.items()}  # fmt: skip
        seen = [[slot in wanted and _mask(frame, camera) for slot, camera in self.filled.items()] for frame in frames]
        return pictures, torch.tensor(seen, dtype=torch.bool)

    def together(self, pictures: Mapping[str, Tensor], seen: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, 3, h, w] and bool [B, C] of the slots' pictures [B, 3, h, w] and `seen` bool [B, filled].

        Slots without pictures are all -1, the empty ones last and masked. Without any picture (something else stands in
        for them) the images are [B, C, 0].
        """
        masks = torch.nn.functional.pad(seen, (0, self.empty), value=False)
        if not pictures:
            return torch.empty(*masks.shape, 0, device=masks.device), masks
        sizes = {tuple(picture.shape[1:]) for picture in pictures.values()}
        if len(sizes) > 1:
            raise TransformError(
                f"The cameras have pictures of different sizes: {sorted(sizes)}.",
                expected="one size, since this policy does not resize (resize_imgs_with_padding is null)",
            )
        if len(pictures) == masks.shape[1]:
            return torch.stack([pictures[slot] for slot in self.filled], dim=1), masks
        nothing = torch.full_like(next(iter(pictures.values())), -1.0)
        images = [pictures.get(slot, nothing) for slot in self.filled] + [nothing] * self.empty
        return torch.stack(images, dim=1), masks

    def _check_names(self, frame: Mapping[str, Any], wanted: list[str]) -> None:
        found = {camera_name(key) for key in frame if is_image_key(key)}
        missing = [camera for camera in wanted if _key(frame, camera) not in frame]
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
            expected=f"cameras {_quoted(wanted)}; the frame has {_quoted(sorted(found)) or 'none'}",
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


def _key(frame: Mapping[str, Any], camera: str) -> str:
    """The key of a camera's picture in a frame: `image` may come as `observation.image`, and the other way round."""
    key = image_key(camera)
    if key not in frame:
        plain = plain_camera(camera)
        for other in (f"observation.{plain}", image_key(plain)):
            if other in frame and is_image_key(other):
                return other
    return key


def _mask(frame: Mapping[str, Any], camera: str) -> bool:
    value = frame.get(f"{_key(frame, camera)}{PADDING_MASK}", True)
    if isinstance(value, Tensor) and value.numel() != 1:
        raise TransformError(
            f"'{camera}{PADDING_MASK}' has shape {list(value.shape)}.", expected="one truth value per frame"
        )
    return bool(value)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
