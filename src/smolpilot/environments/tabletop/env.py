"""The tabletop as a gymnasium.Env: an arm, colored blocks, "touch the red block".

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

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.environments.actions import checked_action

from . import arm
from .colors import COLORS, DEFAULT_COLORS
from .scene import VIEWS, Block, SceneImage

RATE = 10  # frames per second
IMAGE_SIZE = 64
RENDER_SIZE = 256
TIME_LIMIT = 50  # frames
CAMERAS = tuple(VIEWS)
BLOCKS_PER_SCENE = 2
_BLOCK_RADII = (0.18, 0.36)  # m from the base
_BLOCK_WIDTH = 0.20  # m to each side
_BLOCK_NEAREST = 0.17  # m from base in x: blocks further back would hide under the arm
_GAP = 0.145  # m between the centers of two blocks: their corners never meet
_START = ((0.16, 0.28), (-0.12, 0.12), (0.18, 0.27))  # where the tip starts: x, y, z in m
_TEMPLATE = "touch the {} block"

Frame = dict[str, Any]


def instruction_of(color: str) -> str:
    """The instruction that names the block of this color."""
    return _TEMPLATE.format(color)


class TabletopEnv(gymnasium.Env[Frame, npt.NDArray[np.float32]]):
    """Reach the block that the instruction names.

    A frame holds `observation.state` `[3]` float32 (rad), `observation.images.top` and `.side` `[64, 64, 3]` uint8 and
    `task`; an action is `[3]` absolute joint targets in rad, held for 0.1 s. `info`: `success`, `reached` (the color
    touched or None), `target`, `colors`, `instructions` of the scene, `distance` (m, tip to the named block).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE}  # noqa: RUF012 - the name gymnasium reads

    def __init__(
        self,
        *,
        colors: Sequence[str] = DEFAULT_COLORS,
        target: str | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        """`colors`: the set from which each scene draws its two blocks; `target`: the one that is always there and
        named, drawn anew for each scene by default."""
        self._palette = _checked_colors(colors)
        if target is not None and target not in self._palette:
            raise UsageError(f"The target '{target}' is not among the colors.", fix=did_you_mean(target, colors))
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
        self._images: dict[tuple[str, int], SceneImage] = {}

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Draw a new scene. `options`: `colors` of the blocks in the scene, `target` color; both drawn by default."""
        self.begin(seed, options)
        return self.frame(), self.info()

    def begin(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """What `reset` does before anything is drawn."""
        super().reset(seed=seed)
        settings = _checked_options(options or {})
        colors, target = settings.get("colors"), settings.get("target") or self._always
        if colors is None:
            colors = self._draw_colors(target)
        self.blocks = self._place(colors)
        self.target = target or str(self.np_random.choice(colors))
        if self.target not in colors:
            raise UsageError(
                f"The target '{self.target}' is not among the blocks of the scene ({', '.join(colors)}).",
                fix="name one of them as target",
            )
        self.joints = arm.inverse([self.np_random.uniform(low, high) for low, high in _START])
        self._steps, self._reached = 0, None
        self._images = {}

    def name(self, color: str) -> None:
        """Name another of the scene's blocks; all else stays as it is."""
        self.target = self.block(color).color

    def step(self, action: npt.ArrayLike) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Pull the joints towards `action` `[3]` rad for 0.1 s; targets beyond the limits stop at the limits."""
        ended = self.move(action)
        info = self.info()
        terminated = self._reached is not None
        return self.frame(), float(info["success"]), terminated, ended and not terminated, info

    def move(self, action: npt.ArrayLike) -> bool:
        """What `step` does before anything is drawn; whether the episode has ended with it."""
        goal = checked_action(action, len(arm.JOINT_NAMES))
        if not self.blocks:
            raise UsageError("The environment has no scene yet.", fix="call reset() before step()")
        if self._reached is None:
            for joints in arm.servo_path(self.joints, goal, 1 / RATE):
                self.joints = joints
                self._reached = self._touched()
                if self._reached is not None:
                    break
        self._steps += 1
        return self._reached is not None or self._steps >= TIME_LIMIT

    def render(self) -> npt.NDArray[np.uint8]:
        """The side view for people, `[256, 256, 3]`."""
        return self.image("side", RENDER_SIZE)

    def image(self, camera: str, size: int) -> npt.NDArray[np.uint8]:
        """What a camera sees, `[size, size, 3]`."""
        if camera not in VIEWS:
            raise UsageError(f"The tabletop has no camera '{camera}'.", fix=did_you_mean(camera, VIEWS))
        if (camera, size) not in self._images:
            self._images[camera, size] = SceneImage(VIEWS[camera], self.blocks, size)
        return self._images[camera, size].draw(self.joints)

    @property
    def tip(self) -> npt.NDArray[np.float64]:
        """The tip `[3]` in m."""
        return arm.tip_position(self.joints)

    def block(self, color: str) -> Block:
        """The block of this color in the scene."""
        for block in self.blocks:
            if block.color == color:
                return block
        raise UsageError(f"No {color} block in the scene.", fix=did_you_mean(color, [b.color for b in self.blocks]))

    def _touched(self) -> str | None:
        tip = self.tip
        near = min(self.blocks, key=lambda block: block.distance(tip))
        return near.color if near.distance(tip) <= arm.TIP_RADIUS else None

    def frame(self, *, images: bool = True) -> Frame:
        """What is seen now; `images`: whether they are drawn."""
        return {
            STATE: self.joints.astype(np.float32),
            **{image_key(camera): self.image(camera, IMAGE_SIZE) for camera in (CAMERAS if images else ())},
            TASK: instruction_of(self.target),
        }

    def info(self) -> dict[str, Any]:
        """How things stand; see the class."""
        colors = [block.color for block in self.blocks]
        return {
            "success": self._reached == self.target,
            "reached": self._reached,
            "target": self.target,
            "colors": colors,
            "instructions": [instruction_of(color) for color in colors],
            "distance": self.block(self.target).distance(self.tip),
        }

    def _draw_colors(self, target: str | None) -> list[str]:
        others = [color for color in self._palette if color != target]
        first = [target] if target else []
        drawn = self.np_random.choice(others, BLOCKS_PER_SCENE - len(first), replace=False)
        return [*first, *(str(color) for color in drawn)]

    def _place(self, colors: Sequence[str]) -> tuple[Block, ...]:
        """Blocks at random positions in reach, clear of each other."""
        while True:
            blocks = [self._random_block(color) for color in colors]
            pairs = ((a, b) for i, a in enumerate(blocks) for b in blocks[:i])
            if all(math.dist((a.x, a.y), (b.x, b.y)) >= _GAP for a, b in pairs):
                return tuple(blocks)

    def _random_block(self, color: str) -> Block:
        near, far = _BLOCK_RADII
        while True:
            x = float(self.np_random.uniform(_BLOCK_NEAREST, far))
            y = float(self.np_random.uniform(-_BLOCK_WIDTH, _BLOCK_WIDTH))
            if near <= math.hypot(x, y) <= far:
                return Block(color, x, y, float(self.np_random.uniform(-math.pi / 4, math.pi / 4)))


def _checked_colors(colors: Sequence[str]) -> list[str]:
    """Known, different colors, at least two and at most as many as fit on the table."""
    for color in colors:
        if color not in COLORS:
            raise UsageError(f"There is no {color} block.", fix=did_you_mean(str(color), COLORS))
    if len(set(colors)) != len(colors) or len(colors) < BLOCKS_PER_SCENE:
        raise UsageError(f"The colors are {list(colors)}.", expected="two to four different colors")
    return list(colors)


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    for key in options:
        if key not in ("target", "colors"):
            raise UsageError(f"Unknown reset option '{key}'.", fix=did_you_mean(key, ["target", "colors"]))
    checked = dict(options)
    if checked.get("colors") is not None:
        checked["colors"] = _checked_colors(checked["colors"])
    target = checked.get("target")
    if target is not None and target not in COLORS:
        raise UsageError(f"There is no {target} block.", fix=did_you_mean(str(target), COLORS))
    return checked
