"""Ranges of activations and what follows from them: scales, smoothing, integer weights. NumPy only.

Source of the smoothing: SmoothQuant (Xiao et al. 2023), equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass
class Ranges:
    """What calibration found: the largest magnitude per channel of each tap, and how each tap's channels are divided
    before rounding (`smoothing`, which the weights that read the tap are multiplied by)."""

    channels: dict[str, Floats]
    smoothing: dict[str, Floats] = field(default_factory=dict)

    def largest(self, tap: str) -> float:
        """The largest magnitude of a tap, after smoothing."""
        channels = self.channels[tap]
        divisor = self.smoothing.get(tap)
        return float((channels if divisor is None else channels / divisor).max())


def smoothing_of(channels: Floats, columns: Floats, strength: float) -> Floats:
    """Divisor per input channel that moves outliers from activations into the weights that read them.

    channels, columns [in]: the largest activation and the largest weight per channel. strength 0: activations stay as
    they are; 1: all their channels get the same range.
    """
    divisor = np.maximum(channels, 1e-5) ** strength / np.maximum(columns, 1e-5) ** (1 - strength)
    # A common factor changes nothing; it is taken out so that values keep their size.
    divisor = divisor / np.exp(np.log(divisor).mean())
    smoothing: Floats = np.clip(divisor, 1e-2, 1e2).astype(np.float32)
    return smoothing


def symmetric_scale(largest: float) -> np.float32:
    """The step of signed 8-bit integers for values up to `largest`."""
    return np.float32(max(largest, 1e-6) / 127)


def quantize_weight(matrix: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int8], Floats]:
    """A matrix [in, out] as int8 with one scale per output, [out]."""
    scale = (np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127).astype(np.float32)
    return np.clip(np.rint(matrix / scale), -127, 127).astype(np.int8), scale


def merge(first: Mapping[str, Floats], second: Mapping[str, Floats]) -> dict[str, Floats]:
    """The larger of two sets of channel magnitudes, tap by tap."""
    return {tap: np.maximum(values, first[tap]) if tap in first else values for tap, values in second.items()}
