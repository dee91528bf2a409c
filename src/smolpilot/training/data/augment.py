"""Image augmentation: every image is changed by itself, the same way whenever the run comes to that sample.

It keeps a policy from memorizing the images of a few dozen demonstrations. Kinds, each with its own probability per
image: `color` (brightness, contrast, saturation within 20 %), `crop` (a window of 85 to 100 % of the image,
anywhere, scaled back), `blur` (3 x 3), `erase` (a gray rectangle of 2 to 10 % of the area).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from smolpilot.smolvla import PolicyInputs

from .sample_rng import AUGMENT, SampleIds, SampleRng

_GRAY = (0.299, 0.587, 0.114)  # luminance of red, green, blue (ITU-R BT.601)


class Augmentation:
    """Changes the images of samples; `kinds` maps color, crop, blur, erase to probabilities."""

    def __init__(self, kinds: Mapping[str, float], rng: SampleRng) -> None:
        self._kinds = {kind: p for kind, p in kinds.items() if p > 0}
        self.rng = rng

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def describe(self) -> str:
        """All that the changes depend on besides the sample; caches are named by it, so `color` keeps its spelling."""
        kinds = {"colour" if kind == "color" else kind: share for kind, share in self._kinds.items()}
        return f"{sorted(kinds.items())} seed {self.rng.seed}"

    def __call__(self, inputs: PolicyInputs, sample_ids: SampleIds) -> PolicyInputs:
        """The inputs with changed images [B, C, 3, h, w] in [-1, 1]; empty camera slots stay as they are.

        `sample_ids` [B] or [B, m]: what the random numbers of each sample follow from, see `SampleRng`.
        """
        if not self._kinds:
            return inputs
        shape = inputs.images.shape
        there = inputs.image_masks.flatten()
        images = inputs.images.flatten(0, 1)[there]  # [N, 3, h, w]
        # Each kind has its own numbers whether it is on or not, so that switching one leaves the others.
        drawn = self.rng.uniform(AUGMENT, sample_ids, (shape[1], len(_CHANGES), 5)).flatten(0, 1)[there.cpu()]
        for number, (kind, change) in enumerate(_CHANGES.items()):
            chosen, numbers = drawn[:, number, 0] < self._kinds.get(kind, 0.0), drawn[:, number, 1:]
            if chosen.any():
                mask = chosen.to(images.device)[:, None, None, None]
                images = torch.where(mask, change(images, numbers.to(images.device)), images)
        changed = inputs.images.flatten(0, 1).clone()
        changed[there] = images.to(changed.dtype)
        return dataclasses.replace(inputs, images=changed.reshape(shape))


def _crop(images: Tensor, numbers: Tensor) -> Tensor:
    """A window of 85 to 100 % of each side, scaled back to the image's size."""
    scale = 1 - 0.15 * numbers[:, 0]
    room = 1 - scale  # in units of half an image
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, 0, 2] = room * (2 * numbers[:, 1] - 1)
    theta[:, 1, 2] = room * (2 * numbers[:, 2] - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def _color(images: Tensor, numbers: Tensor) -> Tensor:
    """Brightness, contrast and saturation times 0.8 to 1.2 each."""
    factors = 0.8 + 0.4 * numbers[:, :, None, None, None]
    brightness, contrast, saturation = factors[:, 0], factors[:, 1], factors[:, 2]
    light = (images + 1) / 2 * brightness
    weights = torch.tensor(_GRAY, device=images.device, dtype=images.dtype)[:, None, None]
    mean = (light * weights).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    light = (light - mean) * contrast + mean
    gray = (light * weights).sum(dim=1, keepdim=True)
    return ((light - gray) * saturation + gray).clamp(0, 1) * 2 - 1


def _blur(images: Tensor, numbers: Tensor) -> Tensor:
    """Mixed with its own 3 x 3 average, more or less."""
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return images + numbers[:, 0, None, None, None] * (soft - images)


def _erase(images: Tensor, numbers: Tensor) -> Tensor:
    """A gray rectangle of 2 to 10 % of the area, between half and twice as high as wide."""
    height, width = images.shape[2:]
    area, ratio = 0.02 + 0.08 * numbers[:, 0], 2 ** (2 * numbers[:, 1] - 1)
    tall, wide = (area * ratio).sqrt() * height, (area / ratio).sqrt() * width
    top, left = numbers[:, 2] * (height - tall), numbers[:, 3] * (width - wide)
    rows = torch.arange(height, device=images.device)[None, :]
    columns = torch.arange(width, device=images.device)[None, :]
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return images.masked_fill(inside, 0.0)


_CHANGES = {"crop": _crop, "color": _color, "blur": _blur, "erase": _erase}  # in the order in which they are applied
