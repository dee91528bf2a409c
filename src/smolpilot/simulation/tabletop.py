"""A language-conditioned tabletop: an arm, coloured blocks, "touch the red block".

Two cameras of 64x64 px and the joint angles are all that a policy sees. The first block that the tip touches ends the
episode: the named one is a success, another one a failure, as is the time limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from smolpilot.errors import UsageError, did_you_mean
from smolpilot.keys import STATE, TASK, image_key

from . import arm
from .colours import COLOURS, DEFAULT_COLOURS
from .scene import VIEWS, Block, Picture

RATE = 10  # frames per second
IMAGE_SIZE = 64
RENDER_SIZE = 256
TIME_LIMIT = 50  # frames
CAMERAS = tuple(VIEWS)
BLOCKS_PER_SCENE = 2
_BLOCK_RADII = (0.18, 0.36)  # m from the base
_BLOCK_WIDTH = 0.20  # m to each side
_BLOCK_NEAREST = 0.17  # m from base in x: blocks further back would hide under the arm
_GAP = 0.145  # m between the centres of two blocks: their corners never meet
_START = ((0.16, 0.28), (-0.12, 0.12), (0.18, 0.27))  # where the tip starts: x, y, z in m
_TEMPLATE = "touch the {} block"

Frame = dict[str, Any]


def instruction(colour: str) -> str:
    """The instruction that names the block of this colour."""
    return _TEMPLATE.format(colour)


class TabletopEnv(gymnasium.Env[Frame, npt.NDArray[np.float32]]):
    """Reach the block that the instruction names.

    A frame holds `observation.state` `[3]` float32 (rad), `observation.images.top` and `.side` `[64, 64, 3]` uint8 and
    `task`; an action is `[3]` absolute joint targets in rad, held for 0.1 s. `info`: `success`, `reached` (the colour
    touched or None), `target`, `colours`, `instructions` of the scene, `distance` (m, tip to the named block).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE}  # noqa: RUF012 - the name gymnasium reads

    def __init__(
        self,
        *,
        colours: Sequence[str] = DEFAULT_COLOURS,
        target: str | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        """`colours`: the set from which each scene draws its two blocks; `target`: the one that is always there and
        named, drawn anew for each scene by default."""
        self._palette = _checked_colours(colours)
        if target is not None and target not in self._palette:
            raise UsageError(f"The target '{target}' is not among the colours.", fix=did_you_mean(target, colours))
        self._always = target
        self.render_mode = render_mode
        low, high = np.array(arm.POSITION_LIMITS, dtype=np.float32).T
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        image = gymnasium.spaces.Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        letters = frozenset("abcdefghijklmnopqrstuvwxyz ")
        self.observation_space = gymnasium.spaces.Dict(
            {
                # The servos end within float32 rounding of a limit.
                STATE: gymnasium.spaces.Box(low - 1e-4, high + 1e-4, dtype=np.float32),
                **{image_key(camera): image for camera in CAMERAS},
                TASK: gymnasium.spaces.Text(64, min_length=1, charset=letters),
            }
        )
        self.blocks: tuple[Block, ...] = ()
        self.target = ""
        self.joints: npt.NDArray[np.float64] = np.zeros(3)
        self._steps = 0
        self._reached: str | None = None
        self._pictures: dict[tuple[str, int], Picture] = {}

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Draw a new scene. `options`: `colours` of the blocks in the scene, `target` colour; both drawn by default."""
        super().reset(seed=seed)
        settings = _checked_options(options or {})
        colours, target = settings.get("colours"), settings.get("target") or self._always
        if colours is None:
            colours = self._draw_colours(target)
        self.blocks = self._place(colours)
        self.target = target or str(self.np_random.choice(colours))
        if self.target not in colours:
            raise UsageError(
                f"The target '{self.target}' is not among the blocks of the scene ({', '.join(colours)}).",
                fix="name one of them as target",
            )
        self.joints = arm.inverse([self.np_random.uniform(low, high) for low, high in _START])
        self._steps, self._reached = 0, None
        self._pictures = {}
        return self._frame(), self._info()

    def step(self, action: npt.ArrayLike) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Pull the joints towards `action` `[3]` rad for 0.1 s; targets beyond the limits stop at the limits."""
        goal = _checked_action(action)
        if not self.blocks:
            raise UsageError("The environment has no scene yet.", fix="call reset() before step()")
        if self._reached is None:
            for joints in arm.servo_path(self.joints, goal, 1 / RATE):
                self.joints = joints
                self._reached = self._touched()
                if self._reached is not None:
                    break
        self._steps += 1
        terminated = self._reached is not None
        truncated = not terminated and self._steps >= TIME_LIMIT
        info = self._info()
        return self._frame(), float(info["success"]), terminated, truncated, info

    def render(self) -> npt.NDArray[np.uint8]:
        """The side view for people, `[256, 256, 3]`."""
        return self.picture("side", RENDER_SIZE)

    def picture(self, camera: str, size: int) -> npt.NDArray[np.uint8]:
        """What a camera sees, `[size, size, 3]`."""
        if camera not in VIEWS:
            raise UsageError(f"The tabletop has no camera '{camera}'.", fix=did_you_mean(camera, VIEWS))
        if (camera, size) not in self._pictures:
            self._pictures[camera, size] = Picture(VIEWS[camera], self.blocks, size)
        return self._pictures[camera, size].draw(self.joints)

    @property
    def tip(self) -> npt.NDArray[np.float64]:
        """The tip `[3]` in m."""
        return arm.tip_position(self.joints)

    def block(self, colour: str) -> Block:
        """The block of this colour in the scene."""
        for block in self.blocks:
            if block.colour == colour:
                return block
        raise UsageError(f"No {colour} block in the scene.", fix=did_you_mean(colour, [b.colour for b in self.blocks]))

    def _touched(self) -> str | None:
        tip = self.tip
        near = min(self.blocks, key=lambda block: block.distance(tip))
        return near.colour if near.distance(tip) <= arm.TIP_RADIUS else None

    def _frame(self) -> Frame:
        return {
            STATE: self.joints.astype(np.float32),
            **{image_key(camera): self.picture(camera, IMAGE_SIZE) for camera in CAMERAS},
            TASK: instruction(self.target),
        }

    def _info(self) -> dict[str, Any]:
        colours = [block.colour for block in self.blocks]
        return {
            "success": self._reached == self.target,
            "reached": self._reached,
            "target": self.target,
            "colours": colours,
            "instructions": [instruction(colour) for colour in colours],
            "distance": self.block(self.target).distance(self.tip),
        }

    def _draw_colours(self, target: str | None) -> list[str]:
        others = [colour for colour in self._palette if colour != target]
        first = [target] if target else []
        drawn = self.np_random.choice(others, BLOCKS_PER_SCENE - len(first), replace=False)
        return [*first, *(str(colour) for colour in drawn)]

    def _place(self, colours: Sequence[str]) -> tuple[Block, ...]:
        """Blocks at random positions in reach, clear of each other."""
        while True:
            blocks = [self._random_block(colour) for colour in colours]
            pairs = ((a, b) for i, a in enumerate(blocks) for b in blocks[:i])
            if all(math.dist((a.x, a.y), (b.x, b.y)) >= _GAP for a, b in pairs):
                return tuple(blocks)

    def _random_block(self, colour: str) -> Block:
        near, far = _BLOCK_RADII
        while True:
            x = float(self.np_random.uniform(_BLOCK_NEAREST, far))
            y = float(self.np_random.uniform(-_BLOCK_WIDTH, _BLOCK_WIDTH))
            if near <= math.hypot(x, y) <= far:
                return Block(colour, x, y, float(self.np_random.uniform(-math.pi / 4, math.pi / 4)))


def _checked_colours(colours: Sequence[str]) -> list[str]:
    """Known, different colours, at least two and at most as many as fit on the table."""
    for colour in colours:
        if colour not in COLOURS:
            raise UsageError(f"There is no {colour} block.", fix=did_you_mean(str(colour), COLOURS))
    if len(set(colours)) != len(colours) or len(colours) < BLOCKS_PER_SCENE:
        raise UsageError(f"The colours are {list(colours)}.", expected="two to four different colours")
    return list(colours)


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    for key in options:
        if key not in ("target", "colours"):
            raise UsageError(f"Unknown reset option '{key}'.", fix=did_you_mean(key, ["target", "colours"]))
    checked = dict(options)
    if checked.get("colours") is not None:
        checked["colours"] = _checked_colours(checked["colours"])
    target = checked.get("target")
    if target is not None and target not in COLOURS:
        raise UsageError(f"There is no {target} block.", fix=did_you_mean(str(target), COLOURS))
    return checked


def _checked_action(action: npt.ArrayLike) -> npt.NDArray[np.float64]:
    goal = np.asarray(action, dtype=np.float64)
    if goal.shape != (len(arm.JOINT_NAMES),):
        raise UsageError(
            f"The action has shape {goal.shape}.", expected=f"({len(arm.JOINT_NAMES)},): one target per joint"
        )
    if not np.isfinite(goal).all():
        raise UsageError(f"The action {goal.tolist()} is not finite.", fix="check the policy's statistics and weights")
    return goal
