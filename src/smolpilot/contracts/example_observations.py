"""An example observation that fits a policy: for warm-up and timing, never for a verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from smolpilot.common.keys import STATE

from .observation import HISTORY, make_observation
from .policy import PolicySpec

_SIZE = (480, 640)  # of a camera whose images nobody knows
_INSTRUCTION = "pick up the cube"


def example_observation(spec: PolicySpec, seed: int = 0) -> dict[str, Any]:
    """Noise in every camera, at the size that the policy was trained with; the mean state; its first instruction."""
    rng = np.random.default_rng(seed)
    own = {one.name: (one.height, one.width) for one in spec.profile.cameras} if spec.profile is not None else {}
    images = {}
    for camera in spec.cameras:
        height, width = spec.image_sizes.get(camera, own.get(camera, _SIZE))
        images[camera] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    state = spec.statistics.get(STATE, {}).get("mean", np.zeros(spec.state_dim))
    made = make_observation(state, images, spec.instructions[0] if spec.instructions else _INSTRUCTION)
    return made if spec.n_obs_steps == 1 else {**made, HISTORY: ()}
