"""Statistics of images, per channel, from exact histograms of their 256 levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smolpilot.common.statistics import QUANTILES

# Normalization of images is by channel over a whole dataset: a sample of its frames and pixels says as much.
_EVERY = 4
_SIDE = 128


class ImageStatistics:
    """Collects `[h, w, 3]` uint8 images; gives statistics of values in [0, 1], each of shape `[3, 1, 1]`."""

    def __init__(self) -> None:
        self._levels = np.zeros((3, 256), dtype=np.int64)
        self._images = 0

    def add(self, picture: npt.NDArray[np.uint8], number: int) -> None:
        """Count an image in, if its number in the episode is one of those sampled, thinned out where it is large."""
        if number % _EVERY == 0:
            step = max(1, max(picture.shape[:2]) // _SIDE)
            self.count(picture[::step, ::step])

    def count(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Count an image in, with all of these pixels."""
        for channel in range(3):
            self._levels[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
        self._images += 1

    def merge(self, other: ImageStatistics) -> None:
        """Count in what another has counted; levels are whole numbers, so that the order does not matter."""
        self._levels += other._levels
        self._images += other._images

    def result(self) -> dict[str, npt.NDArray[np.float64]]:
        """mean, std, min, max, quantiles and the number of images counted."""
        values = np.arange(256) / 255.0
        share = self._levels / self._levels.sum(axis=1, keepdims=True)
        mean = share @ values
        variance = np.maximum(share @ values**2 - mean**2, 0.0)
        seen = self._levels > 0
        stats = {
            "mean": mean,
            "std": np.sqrt(variance),
            "min": values[seen.argmax(axis=1)],
            "max": values[255 - seen[:, ::-1].argmax(axis=1)],
        }
        cumulative = np.cumsum(share, axis=1)
        for name, quantile in QUANTILES.items():
            stats[name] = values[np.minimum((cumulative < quantile).sum(axis=1), 255)]
        shaped = {name: value.reshape(3, 1, 1) for name, value in stats.items()}
        return {**shaped, "count": np.array([self._images], dtype=np.float64)}
