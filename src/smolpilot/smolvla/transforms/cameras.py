"""The transform of images: each robot camera into its slot, letterboxed; only declared slots may stay empty."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from smolpilot.common.errors import TransformError
from smolpilot.smolvla.config import PolicyConfig

from .camera_slots import camera_text, check_camera_map
from .frame_cameras import camera_key, check_cameras, has_image
from .images import letterbox, to_network_range, to_unit_range
from .transform import Size, Transform


class CamerasTransform(Transform):
    """Images [B, C, 3, h, w] in [-1, 1] in the order of the slots; the empty slots come last, at -1 and masked."""

    name = "cameras"

    def __init__(self, config: PolicyConfig, camera_map: Mapping[str, str | None]) -> None:
        check_camera_map(camera_map, config.real_cameras)
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

    def images(self, images: Tensor, slot: str) -> Tensor:
        """[0, 1] -> letterboxed, in [-1, 1]."""
        return to_network_range(letterbox(images, *self.size) if self.size is not None else images)

    def image_size(self, size: Size) -> Size:
        return self.size or size

    def read(
        self, frames: Sequence[Mapping[str, Any]], unseen: Collection[str] = ()
    ) -> tuple[dict[str, list[Tensor]], Tensor]:
        """The images of each slot in [0, 1], one [3, h, w] for a frame, and bool [B, filled]: whether it is one.

        Slots in `unseen` hold no image, whatever the frames say; the frames need not have their cameras.
        """
        wanted = {slot: camera for slot, camera in self.filled.items() if slot not in unseen}
        images: dict[str, list[Tensor]] = {slot: [] for slot in wanted}
        present = []
        for frame in frames:
            check_cameras(frame, self.camera_map, unseen)
            for slot, camera in wanted.items():
                images[slot].append(to_unit_range(frame[camera_key(frame, camera)], camera))
            present.append([slot in wanted and has_image(frame, camera) for slot, camera in self.filled.items()])
        return images, torch.tensor(present, dtype=torch.bool)

    def stack_images(self, images: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, 3, h, w] and bool [B, C] of the slots' images [B, 3, h, w] and `present` bool [B, filled].

        Slots without images are all -1, the empty ones last and masked. Without any image (something else stands in
        for them) the images are [B, C, 0].
        """
        masks = torch.nn.functional.pad(present, (0, self.empty), value=False)
        if not images:
            return torch.empty(*masks.shape, 0, device=masks.device), masks
        sizes = {tuple(image.shape[1:]) for image in images.values()}
        if len(sizes) > 1:
            raise TransformError(
                f"The cameras have images of different sizes: {sorted(sizes)}.",
                expected="one size, since this policy does not resize (resize_imgs_with_padding is null)",
            )
        if len(images) == masks.shape[1]:
            return torch.stack([images[slot] for slot in self.filled], dim=1), masks
        nothing = torch.full_like(next(iter(images.values())), -1.0)
        filled = [images.get(slot, nothing) for slot in self.filled]
        return torch.stack([*filled, *[nothing] * self.empty], dim=1), masks
