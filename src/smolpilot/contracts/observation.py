"""Observation: what a robot, an environment or a dataset frame gives a policy. A mapping with LeRobot's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.keys import STATE, TASK, image_key

# `observation.state` float32 [S] in the robot profile's order and units, `observation.images.NAME` uint8 [h, w, 3] for
# each camera, `task` the instruction. `captured_at` is optional: key -> when it was read, seconds on the monotonic
# clock (time.monotonic), for whoever has to know how old a value is. `history` is optional: the observations before
# this one in its episode, oldest first, one step (1 / rate seconds) apart; see History.
type Observation = Mapping[str, Any]

type Image = npt.NDArray[np.uint8]  # [h, w, 3], RGB
type Floats = npt.NDArray[np.float32]

CAPTURED_AT = "captured_at"
HISTORY = "history"


def make_observation(
    state: npt.ArrayLike,
    images: Mapping[str, Image],
    instruction: str | None = None,
    *,
    captured_at: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """An observation from its parts: state [S], camera name -> image [h, w, 3], the instruction.

    captured_at: `observation.state`, `observation.images.NAME` -> seconds on the monotonic clock.
    """
    made: dict[str, Any] = {STATE: np.asarray(state, dtype=np.float32)}
    made |= {image_key(camera): image for camera, image in images.items()}
    if instruction is not None:
        made[TASK] = instruction
    if captured_at is not None:
        made[CAPTURED_AT] = dict(captured_at)
    return made
