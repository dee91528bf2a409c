"""A made-up frame that fits a policy: for warm-up and for timing, never for a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smolpilot.keys import STATE, TASK, image_key

if TYPE_CHECKING:
    from smolpilot.policy.transforms import Recipe


def made_up_frame(recipe: Recipe, seed: int = 0) -> dict[str, Any]:
    """Noise in every camera, at the size of the policy's slot; the mean state; the first trained instruction.

    recipe: what the policy's transforms are built from, `policy.recipe` or `engine.transforms.recipe`.
    """
    rng = np.random.default_rng(seed)
    config = recipe.config
    frame: dict[str, Any] = {}
    for camera, slot in recipe.camera_map.items():
        if slot is not None:
            _, height, width = config.image_shapes[slot]
            frame[image_key(camera)] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mean = recipe.statistics.get(STATE, {}).get("mean", np.zeros(config.state_dim))
    frame[STATE] = np.asarray(mean, dtype=np.float32)
    frame[TASK] = recipe.instructions[0] if recipe.instructions else "pick up the cube"
    return frame
