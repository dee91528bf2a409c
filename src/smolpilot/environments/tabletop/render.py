"""A small software renderer: perspective cameras, convex faces and tapered limbs, anti-aliased, numpy only.

Coverage of a pixel is the signed distance of its center to the shape's outline, clipped to one pixel, so motion of
a fraction of a pixel shows. Shapes are drawn from far to near (painter's algorithm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Color = tuple[float, float, float]
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@dataclass(frozen=True)
class View:
    """A pinhole camera in the world: where it stands, what it looks at; lengths in m.

    `up` is the world direction that points up in the image, `extent` the width seen at the distance of `target`.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    extent: float

    def project(self, points: npt.ArrayLike, size: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Pixel coordinates `[N, 2]` (x right, y down) and pixels per meter `[N]` of world points `[N, 3]`."""
        axes, distance = _axes(self)
        local = (np.atleast_2d(np.asarray(points, dtype=np.float64)) - self.position) @ axes.T
        scale = size * distance / (self.extent * local[:, 2])
        return local[:, :2] * scale[:, None] + size / 2, scale


@lru_cache(maxsize=16)
def _axes(view: View) -> tuple[npt.NDArray[np.float64], float]:
    """Rows right, down, forward of the camera, and its distance to the target."""
    forward = np.subtract(view.target, view.position)
    distance = float(np.linalg.norm(forward))
    forward = forward / distance
    right = np.cross(forward, view.up)
    right = right / np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward]), distance


@lru_cache(maxsize=16)
def _pixel_grid(size: int) -> npt.NDArray[np.float32]:
    return np.arange(size, dtype=np.float32) + np.float32(0.5)


@lru_cache(maxsize=64)
def _as_array(color: Color) -> Image:
    return np.asarray(color, dtype=np.float32)


class Sprite:
    """One shape, drawn once: its coverage `[h, w, 1]` and color in a window of the image."""

    def __init__(self, window: tuple[slice, slice], coverage: Image, color: Image) -> None:
        self.window, self.coverage, self.color = window, coverage, color

    def draw(self, image: Image, strength: float = 1.0) -> None:
        """Blend the shape over `image` `[size, size, 3]`, in place."""
        part = image[self.window]
        change = self.color - part
        change *= self.coverage
        if strength != 1.0:
            change *= np.float32(strength)
        part += change


def face(corners: npt.NDArray[np.float64], color: Color, size: int) -> Sprite | None:
    """A convex polygon from pixel corners `[N, 2]`; None outside the image."""
    window = _window(corners[:, 0].tolist(), corners[:, 1].tolist(), 1.0, size)
    if window is None:
        return None
    edges = np.roll(corners, -1, axis=0) - corners
    area = float(np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - np.roll(corners[:, 0], -1) * corners[:, 1]))
    lengths = np.maximum(np.hypot(edges[:, 0], edges[:, 1]), 1e-9)
    inward = np.stack([-edges[:, 1], edges[:, 0]], axis=1) / lengths[:, None] * (1.0 if area > 0 else -1.0)
    offset = -np.sum(inward * corners, axis=1)
    y, x = (_pixel_grid(size)[part] for part in window)
    normal = inward.astype(np.float32)
    inside = (
        normal[:, 0, None, None] * x + normal[:, 1, None, None] * y[:, None] + offset.astype(np.float32)[:, None, None]
    )
    coverage = np.clip(inside.min(axis=0) + np.float32(0.5), 0.0, 1.0)
    return Sprite(window, coverage[..., None], _as_array(color))


def limb(
    start: tuple[float, float],
    end: tuple[float, float],
    radii: tuple[float, float],
    color: Color,
    size: int,
) -> Sprite | None:
    """A limb with round ends between two pixel positions, with a radius in pixels at each end."""
    (x0, y0), (x1, y1) = start, end
    window = _window((x0, x1), (y0, y1), 1.0 + max(radii), size)
    if window is None:
        return None
    y, x = (_pixel_grid(size)[part] for part in window)
    x, y = x - np.float32(x0), (y - np.float32(y0))[:, None]
    dx, dy = x1 - x0, y1 - y0
    squared = max(dx * dx + dy * dy, 1e-9)
    along: Image = x * np.float32(dx / squared) + y * np.float32(dy / squared)
    np.maximum(along, _ZERO, out=along)
    np.minimum(along, _ONE, out=along)
    across = x - along * np.float32(dx)
    beside = y - along * np.float32(dy)
    across *= across
    beside *= beside
    across += beside
    np.sqrt(across, out=across)
    along *= np.float32(radii[1] - radii[0])
    along += np.float32(radii[0] + 0.5)
    along -= across
    np.maximum(along, _ZERO, out=along)
    np.minimum(along, _ONE, out=along)
    return Sprite(window, along[..., None], _as_array(color))


def join(sprites: list[Sprite]) -> Sprite:
    """Neighboring faces of one body as one sprite; their coverage adds up, so that no seam shows."""
    rows = [sprite.window[0] for sprite in sprites]
    columns = [sprite.window[1] for sprite in sprites]
    top, left = min(part.start for part in rows), min(part.start for part in columns)
    bottom, right = max(part.stop for part in rows), max(part.stop for part in columns)
    color = np.zeros((bottom - top, right - left, 3), dtype=np.float32)
    coverage = np.zeros((bottom - top, right - left, 1), dtype=np.float32)
    for sprite in sprites:
        y, x = sprite.window
        inner = (slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left))
        color[inner] += sprite.color * sprite.coverage
        coverage[inner] += sprite.coverage
    color = np.divide(color, coverage, out=np.zeros_like(color), where=coverage > 0)
    return Sprite((slice(top, bottom), slice(left, right)), np.minimum(coverage, np.float32(1.0)), color)


def to_uint8(image: Image) -> npt.NDArray[np.uint8]:
    """The image in [0, 1] as 8-bit values, rounded."""
    return (image * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _window(x: Sequence[float], y: Sequence[float], margin: float, size: int) -> tuple[slice, slice] | None:
    """Rows and columns of the image that hold these pixel coordinates; None when all lie outside."""
    left, right = max(0, math.floor(min(x) - margin)), min(size, math.ceil(max(x) + margin))
    top, bottom = max(0, math.floor(min(y) - margin)), min(size, math.ceil(max(y) + margin))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None
