"""How the tabletop looks: its two cameras, the blocks and the arm as shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from .arm import skeleton
from .colors import COLORS
from .render import Color, Image, Sprite, View, face, join, limb, to_uint8

VIEWS = {
    "top": View(position=(0.22, 0.0, 1.1), target=(0.22, 0.0, 0.0), up=(1.0, 0.0, 0.0), extent=0.54),
    "side": View(position=(0.72, -0.42, 0.50), target=(0.20, 0.0, 0.10), up=(0.0, 0.0, 1.0), extent=0.68),
}
BLOCK_SIDE, BLOCK_HEIGHT = 0.075, 0.05
# Near mid-gray, the zero of a normalized image: what stands out to a small network is the blocks.
_TABLE: Color = (0.52, 0.52, 0.51)
_FLOOR: Color = (0.44, 0.45, 0.47)
_LINK: Color = (0.66, 0.67, 0.70)
_JOINT: Color = (0.40, 0.41, 0.44)
_TIP: Color = (0.05, 0.05, 0.05)
# The arm's points: 0 base, 1 shoulder, 2 elbow, 3 tip, 4 wrist, 5..7 shadows of 1..3. Limbs: from, to, radii in m.
_LIMBS = (
    (0, 1, 0.036, 0.030, _JOINT),
    (1, 2, 0.022, 0.018, _LINK),
    (2, 4, 0.020, 0.014, _LINK),
    (2, 2, 0.022, 0.022, _JOINT),
    (4, 3, 0.016, 0.012, _TIP),
)
_SHADOW_LIMBS = ((5, 0.020), (6, 0.016))
_TABLE_EDGES = ((-0.12, 0.50), (-0.34, 0.34))
_LIGHT = (0.25, 0.30)  # shift of a shadow in x and y per meter of height
_SHADOW = 0.22


@dataclass(frozen=True)
class Block:
    """A colored block on the table: center in m, turned by `yaw` rad."""

    color: str
    x: float
    y: float
    yaw: float

    def distance(self, point: npt.NDArray[np.float64]) -> float:
        """Distance in m of a point `[3]` to the block's surface; 0 inside."""
        dx, dy = float(point[0]) - self.x, float(point[1]) - self.y
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        along = max(abs(cos * dx + sin * dy) - BLOCK_SIDE / 2, 0.0)
        across = max(abs(cos * dy - sin * dx) - BLOCK_SIDE / 2, 0.0)
        return math.hypot(along, across, max(float(point[2]) - BLOCK_HEIGHT, 0.0))

    def footprint(self, height: float) -> npt.NDArray[np.float64]:
        """The four corners `[4, 3]` at `height`."""
        half = BLOCK_SIDE / 2
        local = np.array([[half, half], [-half, half], [-half, -half], [half, -half]])
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        turned = local @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y)
        return np.column_stack([turned, np.full(4, height)])


class SceneImage:
    """One camera's image of one scene: what stands still is drawn once, the arm at every call."""

    def __init__(self, view: View, blocks: Sequence[Block], size: int) -> None:
        self._view, self._size = view, size
        self._background = self._table(blocks)
        # Far to near: a block is drawn again after the limbs that lie behind it.
        self._blocks = sorted(
            ((_depth(view, np.array([b.x, b.y, BLOCK_HEIGHT / 2])), self._block(b)) for b in blocks), key=itemgetter(0)
        )

    def draw(self, joints: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """The image `[size, size, 3]` with the arm at the joint angles `[3]`."""
        image = self._background.copy()
        limbs = self._arm(skeleton(joints), image)
        for _, sprite in sorted([*limbs, *self._blocks], key=itemgetter(0), reverse=True):
            sprite.draw(image)
        return to_uint8(image)

    def _arm(self, points: npt.NDArray[np.float64], image: Image) -> list[tuple[float, Sprite]]:
        """Draw the arm's shadow; return its limbs with their distance from the camera."""
        wrist = points[2] + 0.8 * (points[3] - points[2])
        ground = points[1:].copy()
        ground[:, :2] += points[1:, 2:] * _LIGHT
        ground[:, 2] = 0.0
        world = np.concatenate([points, [wrist], ground])
        pixels, scales = (values.tolist() for values in self._view.project(world, self._size))
        for i, radius in _SHADOW_LIMBS:
            radii = (radius * scales[i], radius * scales[i + 1])
            shadow = limb(pixels[i], pixels[i + 1], radii, (0.0, 0.0, 0.0), self._size)
            if shadow is not None:
                shadow.draw(image, _SHADOW)
        limbs = []
        for i, j, first, last, color in _LIMBS:
            sprite = limb(pixels[i], pixels[j], (first * scales[i], last * scales[j]), color, self._size)
            if sprite is not None:
                limbs.append((_depth(self._view, (world[i] + world[j]) / 2), sprite))
        return limbs

    def _table(self, blocks: Sequence[Block]) -> Image:
        size = self._size
        image = np.empty((size, size, 3), dtype=np.float32)
        image[:] = _FLOOR
        (near, far), (right, left) = _TABLE_EDGES
        self._fill(image, [[near, right, 0], [far, right, 0], [far, left, 0], [near, left, 0]], _TABLE)
        for block in blocks:
            ground = block.footprint(0.0)
            ground[:, :2] += np.array(_LIGHT) * BLOCK_HEIGHT
            self._fill(image, ground, (0.0, 0.0, 0.0), strength=_SHADOW)
        return image

    def _fill(self, image: Image, corners: npt.ArrayLike, color: Color, strength: float = 1.0) -> None:
        sprite = face(self._view.project(corners, self._size)[0], color, self._size)
        if sprite is not None:
            sprite.draw(image, strength)

    def _block(self, block: Block) -> Sprite:
        """The side faces towards the camera and the top, as one sprite."""
        color, size = COLORS[block.color], self._size
        bottom, top = block.footprint(0.0), block.footprint(BLOCK_HEIGHT)
        sprites = []
        for i in range(4):
            j = (i + 1) % 4
            outward = (top[i] + top[j]) / 2 - (block.x, block.y, BLOCK_HEIGHT)
            if float(outward @ (np.array(self._view.position) - top[i])) <= 0:
                continue
            shade = 0.62 + 0.18 * float(outward[1] / np.linalg.norm(outward))
            corners = self._view.project([bottom[i], bottom[j], top[j], top[i]], size)[0]
            sprites.append(face(corners, _scaled(color, shade), size))
        sprites.append(face(self._view.project(top, size)[0], color, size))
        return join([sprite for sprite in sprites if sprite is not None])


def _depth(view: View, point: npt.NDArray[np.float64]) -> float:
    return math.dist(view.position, point.tolist())


def _scaled(color: Color, shade: float) -> Color:
    red, green, blue = color
    return red * shade, green * shade, blue * shade
