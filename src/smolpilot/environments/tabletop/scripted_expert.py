"""The scripted demonstrator of the tabletop: looks at the true scene, answers with joint targets."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from . import arm
from .env import TabletopEnv
from .scene import BLOCK_HEIGHT

_STRIDE = 0.07  # m that the tip is asked to go ahead in one frame
_GAIN = 1.0  # of the remaining way, near the goal
_TRAVEL_HEIGHT = 0.17  # m: clear of every block
_FUNNEL = (0.015, 0.08)  # m beside the block's center where the descent ends and begins


class ScriptedExpert:
    """Travels above the blocks, then comes down on its target through a funnel.

    The action depends on the present pose only, not on time, so it also shows how to recover after a push.
    """

    def __init__(self, target: str | None = None) -> None:
        """`target`: the color to touch; None for the block that the environment's instruction names."""
        self._target = target

    def action(self, env: TabletopEnv) -> npt.NDArray[np.float32]:
        """Joint targets `[3]` in rad for the environment's present state."""
        block, tip = env.block(self._target or env.target), env.tip
        away = math.hypot(block.x - tip[0], block.y - tip[1])
        low, high = _FUNNEL
        rise = min(1.0, max(0.0, (away - low) / (high - low)))
        height = BLOCK_HEIGHT / 2 + (_TRAVEL_HEIGHT - BLOCK_HEIGHT / 2) * rise * rise * (3 - 2 * rise)
        stride = min(_STRIDE, _GAIN * away) / max(away, 1e-9)
        climb = min(_STRIDE, max(-_STRIDE, _GAIN * (height - tip[2])))
        goal = [tip[0] + stride * (block.x - tip[0]), tip[1] + stride * (block.y - tip[1]), tip[2] + climb]
        return arm.inverse(goal).astype(np.float32)
