"""Small policies, frames and statistics for the tests of the transform list."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from smolpilot.common.statistics import Statistics
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_tokenizer
from smolpilot.smolvla.transforms.transform_list import Transforms, TransformsConfig

CAMERAS = ("front", "wrist")


def tiny_config(state: int = 3, action: int = 3, cameras: tuple[str, ...] = CAMERAS, **overrides: Any) -> PolicyConfig:
    shapes = dict.fromkeys(cameras, (3, 48, 64))
    return preset("tiny", state_dim=state, action_dim=action, image_shapes=shapes, **overrides)


def statistics(state: int = 3, action: int = 3, seed: int = 0) -> Statistics:
    rng = np.random.default_rng(seed)

    def feature(dim: int) -> dict[str, npt.NDArray[Any]]:
        mean, std = rng.normal(size=dim), rng.uniform(0.1, 2, dim)
        return {"mean": mean, "std": std, "min": mean - 3 * std, "max": mean + 3 * std, "count": np.array([100.0])}

    return {"observation.state": feature(state), "action": feature(action)}


def frame(state: int = 3, cameras: tuple[str, ...] = CAMERAS, seed: int = 0, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    images = {
        f"observation.images.{name}": torch.from_numpy(rng.random((3, 48, 64), dtype=np.float32)) for name in cameras
    }
    return {"observation.state": rng.normal(size=state).astype(np.float32), **images, "task": "touch it", **more}


def transforms(config: PolicyConfig | None = None, stats: Statistics | None = None, **more: Any) -> Transforms:
    config = config or tiny_config()
    stats = statistics(config.state_dim, config.action_dim) if stats is None else stats
    camera_map = more.pop("camera_map", {slot: slot for slot in config.real_cameras})
    return Transforms(TransformsConfig(config, stats, byte_level_tokenizer(config.vlm), camera_map, **more))
