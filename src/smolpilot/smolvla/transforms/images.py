"""Camera images: from what a camera or a dataset gives to what the vision tower sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from smolpilot.common.errors import TransformError

_EXPECTED = "float [3, h, w] in [0, 1], or uint8 [h, w, 3] in 0..255 (numpy or torch)"


def to_unit_range(image: Any, camera: str) -> Tensor:
    """One image as float32 [3, h, w] in [0, 1]; raises TransformError for any other shape, dtype or range."""
    image = torch.from_numpy(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image
    if not isinstance(image, Tensor):
        raise TransformError(f"The image of camera '{camera}' is a {type(image).__name__}.", expected=_EXPECTED)
    what = f"The image of camera '{camera}' is {str(image.dtype).removeprefix('torch.')} {list(image.shape)}"
    if image.dtype == torch.uint8:
        if image.ndim != 3 or image.shape[-1] != 3:
            raise TransformError(
                f"{what}.", expected=_EXPECTED, fix="transpose it to [h, w, 3], or divide by 255 as float [3, h, w]"
            )
        return image.permute(2, 0, 1).to(torch.float32) / 255
    if not image.is_floating_point():
        raise TransformError(f"{what}.", expected=_EXPECTED)
    if image.ndim != 3 or image.shape[0] != 3:
        fix = "transpose it: image.permute(2, 0, 1)" if image.ndim == 3 and image.shape[-1] == 3 else ""
        raise TransformError(f"{what}.", expected=_EXPECTED, fix=fix)
    low, high = (float(bound) for bound in torch.aminmax(image))
    # Written so that NaN fails too.
    if not (low >= 0.0 and high <= 1.0):
        if high > 1.0 and low >= 0.0:
            fix = "divide it by 255, or hand it over as uint8 [h, w, 3]"
        else:
            fix = "undo earlier normalization; smolpilot does it by itself" if low < 0 else "check the camera"
        raise TransformError(f"{what} with values from {low:g} to {high:g}.", expected=_EXPECTED, fix=fix)
    return image.to(torch.float32)


def bytes_to_unit_range(images: Tensor) -> Tensor:
    """Images of one size, uint8 [n, h, w, 3] -> float32 [n, 3, h, w] in [0, 1]."""
    return images.permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255


def letterbox(images: Tensor, width: int, height: int) -> Tensor:
    """Resize without distortion, then pad with 0 on the TOP and LEFT. [B, 3, h, w] -> [B, 3, height, width].

    Bilinear, corners not aligned, not antialiased; at the target size nothing is done.
    Source: lerobot/policies/common/vla_utils.py, resize_with_pad.
    """
    rows, columns = images.shape[-2:]
    if (rows, columns) == (height, width):
        return images
    ratio = max(columns / width, rows / height)
    # Truncation can lose the last pixel of the longer side; LeRobot trained with it, so it stays. A image thinner
    # than one target pixel would vanish (and fails in LeRobot): it keeps one.
    size = (max(int(rows / ratio), 1), max(int(columns / ratio), 1))
    resized = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    return F.pad(resized, (width - size[1], 0, height - size[0], 0), value=0.0)


def to_network_range(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], as the SigLIP vision tower was trained."""
    return images * 2.0 - 1.0
