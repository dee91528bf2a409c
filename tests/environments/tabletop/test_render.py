"""The software renderer: geometry, coverage, what hides what."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.environments.tabletop import TabletopEnv, arm
from smolpilot.environments.tabletop.colors import COLORS
from smolpilot.environments.tabletop.render import Sprite, View, face, join, limb
from smolpilot.environments.tabletop.scene import VIEWS, Block, SceneImage

WHITE = (1.0, 1.0, 1.0)


def drawn(sprite: Sprite | None, image: npt.NDArray[Any]) -> None:
    assert sprite is not None
    sprite.draw(image)


def _canvas(size: int = 32) -> npt.NDArray[Any]:
    return np.zeros((size, size, 3), dtype=np.float32)


def test_a_view_centers_its_target_and_keeps_its_extent() -> None:
    view = View(position=(0.2, 0.0, 1.0), target=(0.2, 0.0, 0.0), up=(1.0, 0.0, 0.0), extent=0.5)
    pixels, scale = view.project([[0.2, 0.0, 0.0], [0.45, 0.0, 0.0], [0.2, -0.25, 0.0]], 64)
    np.testing.assert_allclose(pixels, [[32, 32], [32, 0], [64, 32]], atol=1e-9)
    np.testing.assert_allclose(scale, 64 / 0.5)


def test_coverage_adds_up_to_the_area() -> None:
    for shift in (0.0, 0.3, 0.7):
        image = _canvas()
        corners = np.array([[8, 8], [20, 8], [20, 14], [8, 14]]) + shift
        drawn(face(corners, WHITE, 32), image)
        assert image[..., 0].sum() == pytest.approx(12 * 6, rel=0.02)
        dot = _canvas()
        drawn(limb((16 + shift, 16.0), (16 + shift, 16.0), (5.0, 5.0), WHITE, 32), dot)
        assert dot[..., 0].sum() == pytest.approx(np.pi * 25, rel=0.02)


def test_motion_of_a_tenth_of_a_pixel_shows() -> None:
    def image(x: float) -> float:
        image = _canvas()
        drawn(limb((x, 10.0), (x, 20.0), (3.0, 2.0), WHITE, 32), image)
        columns = image[..., 0].sum(axis=0)
        return float((columns * (np.arange(32) + 0.5)).sum() / columns.sum())

    assert image(12.1) - image(12.0) == pytest.approx(0.1, abs=0.03)


def test_neighboring_faces_leave_no_seam() -> None:
    left = face(np.array([[4.0, 4.0], [15.3, 4.0], [12.3, 20.0], [4.0, 20.0]]), WHITE, 32)
    right = face(np.array([[15.3, 4.0], [28.0, 4.0], [28.0, 20.0], [12.3, 20.0]]), WHITE, 32)
    image = _canvas()
    assert left is not None
    assert right is not None
    join([left, right]).draw(image)
    assert image[6:18, 6:26].min() > 0.95


def test_shapes_outside_the_picture_are_nothing() -> None:
    assert limb((-50.0, -50.0), (-40.0, -40.0), (3.0, 3.0), WHITE, 32) is None
    assert face(np.array([[40.0, 40.0], [50.0, 40.0], [50.0, 50.0]]), WHITE, 32) is None


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("camera", VIEWS)
def test_blocks_show_their_color_where_they_stand(camera: str, color: str) -> None:
    block = Block(color, 0.28, -0.12, 0.3)
    raised = arm.inverse([0.17, 0.15, 0.25])
    image = SceneImage(VIEWS[camera], [block], 64).draw(raised).astype(float)
    center = VIEWS[camera].project([[block.x, block.y, 0.05]], 64)[0][0]
    x, y = (int(value) for value in center)
    np.testing.assert_allclose(image[y, x], np.multiply(COLORS[color], 255), atol=2)
    empty = SceneImage(VIEWS[camera], [], 64).draw(raised).astype(float)
    changed = np.argwhere(np.abs(image - empty).max(axis=2) > 60)
    assert 6 <= np.ptp(changed[:, 1]) + 1 <= 16  # large enough for patches of 16 px to place it


def test_a_block_in_front_hides_the_tip_behind_it() -> None:
    behind = arm.inverse([0.19, 0.06, 0.02])
    x, y = (int(value) for value in VIEWS["side"].project([arm.tip_position(behind)], 256)[0][0])
    near = Block("red", 0.24, 0.02, 0.0)
    seen = SceneImage(VIEWS["side"], [near], 256).draw(behind)[y, x].astype(float)
    bare = SceneImage(VIEWS["side"], [], 256).draw(behind)[y, x].astype(float)
    assert bare.max() < 40
    assert seen[0] > 100 > 40 > seen[2]


def test_pictures_of_any_size_are_the_same_scene() -> None:
    env = TabletopEnv()
    env.reset(seed=3)
    small, large = env.image("top", 64).astype(float), env.image("top", 256).astype(float)
    averaged = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - averaged).mean() < 1.5
    assert env.render().shape == (256, 256, 3)
