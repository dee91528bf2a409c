"""There are two letterboxes, since an export runs without torch: they make the same of every size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from smolpilot.inference.export import example
from smolpilot.smolvla.transforms.images import bytes_to_unit_range, letterbox, to_network_range

SIDES = (1, 2, 3, 5, 7, 16, 31, 33, 47, 48, 49, 63, 64, 65, 97, 129, 240, 333, 640, 1081)
# In single precision torch places a pixel to about one ten-millionth of the side: so much of a step from -1 to 1.
PLACE = 4e-7


@pytest.mark.parametrize("target", [1, 16, 48, 63])
def test_numpy_and_torch_letterboxes_agree(target: int) -> None:
    draws = np.random.default_rng(target)
    for height, width in itertools.product(SIDES, SIDES):
        if height * width > 300_000:
            continue
        image = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
        plain = to_network_range(letterbox(bytes_to_unit_range(torch.from_numpy(image)[None]), target, target))
        ours = example.letterbox(image, target)
        assert ours.dtype == np.float32
        assert ours.shape == (1, 3, target, target)
        apart = np.abs(ours - plain.numpy()).max()
        assert apart <= 1e-6 + 2 * PLACE * max(height, width), (height, width)
        border = plain.numpy() == -1  # up to black pixels of the image itself
        assert (ours[border] <= -1 + 1e-6 + 2 * PLACE * max(height, width)).all()


def test_sizes_around_the_target() -> None:
    """Rounding: where torch's size of the image inside differs by one pixel the border shows it."""
    white = np.full((80, 80, 3), 255, dtype=np.uint8)
    for height, width in ((h, w) for h in range(1, 81) for w in range(1 + h % 4, 81, 4)):
        image = white[:height, :width]
        plain = to_network_range(letterbox(bytes_to_unit_range(torch.from_numpy(image)[None]), 48, 48)).numpy()
        assert np.abs(example.letterbox(image, 48) - plain).max() < 1e-6, (height, width)


def test_without_a_size_nothing_is_resized() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    plain = to_network_range(bytes_to_unit_range(torch.from_numpy(image)[None]))
    assert np.array_equal(example.letterbox(image, None), plain.numpy())
