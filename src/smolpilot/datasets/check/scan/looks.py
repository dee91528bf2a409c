"""What the frames of a video look like, as a few numbers per frame: brightness, stillness, colors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

# Pictures are looked at in blocks: noise of sensor and codec averages out, a moving gripper does not.
_BLOCKS = 48
_SAME = 3.0
_COLORS_EVERY = 4


def _none() -> npt.NDArray[np.float32]:
    return np.zeros(0, dtype=np.float32)


@dataclass
class Look:
    """Frames in order, `[N]` each: mean and largest brightness (0 to 255), and where stillness began.

    `still_since[i]` is the first frame of the run of frames that look like frame i. `colors` `[N, 3]` has the mean
    red, green and blue in [0, 1] of some frames, NaN for the others. A frame that did not decode has NaN.
    """

    light: npt.NDArray[np.float32] = field(default_factory=_none)
    peak: npt.NDArray[np.float32] = field(default_factory=_none)
    still_since: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    colors: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), dtype=np.float32))

    def placed(self, places: npt.NDArray[np.int64]) -> Look:
        """The looks in another order: `places[i]` is the old place of frame i, -1 where it has none."""
        known = places >= 0
        old = np.where(known, places, 0)
        light, peak = (
            np.where(known, values[old], np.nan) if len(values) else np.full(len(places), np.nan)
            for values in (self.light, self.peak)
        )
        colors = (
            np.where(known[:, None], self.colors[old], np.nan)
            if len(self.colors)
            else np.full((len(places), 3), np.nan)
        )
        moved = ~known
        if len(self.still_since):
            moved |= self.still_since[old] == old
        moved[:1] = True
        since = np.maximum.accumulate(np.where(moved, np.arange(len(places)), 0))
        return Look(
            light.astype(np.float32), peak.astype(np.float32), since.astype(np.int32), colors.astype(np.float32)
        )


def unseen(count: int) -> Look:
    """The look of frames that nobody looked at: a depth map has no brightness or color."""
    nothing = np.full(count, np.nan, dtype=np.float32)
    return Look(nothing, nothing, np.arange(count, dtype=np.int32), np.full((count, 3), np.nan, dtype=np.float32))


class Looker:
    """Looks at one frame after the other."""

    def __init__(self) -> None:
        self._light: list[float] = []
        self._peak: list[float] = []
        self._since: list[int] = []
        self._colors: list[tuple[float, float, float]] = []
        self._anchor: npt.NDArray[np.int16] | None = None
        self._reformatter = VideoReformatter()

    def add(self, frame: VideoFrame) -> None:
        """Look at the next frame."""
        block = max(1, min(frame.height, frame.width) // _BLOCKS)
        size = {"width": max(1, frame.width // block), "height": max(1, frame.height // block)}
        small = self._reformatter.reformat(frame, format="gray", interpolation=Interpolation.AREA, **size)
        gray: npt.NDArray[np.int16] = small.to_ndarray().astype(np.int16)
        number = len(self._light)
        self._light.append(float(gray.mean()))
        self._peak.append(float(gray.max()))
        same = self._anchor is not None and self._anchor.shape == gray.shape
        if same and self._anchor is not None and float(np.abs(gray - self._anchor).max()) < _SAME:
            self._since.append(self._since[-1])
        else:
            self._since.append(number)
            self._anchor = gray
        if number % _COLORS_EVERY:
            self._colors.append((np.nan, np.nan, np.nan))
            return
        rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.AREA, **size)
        red, green, blue = (rgb.to_ndarray().reshape(-1, 3).mean(axis=0) / 255).tolist()
        self._colors.append((red, green, blue))

    def skip(self) -> None:
        """A frame that cannot be seen."""
        self._light.append(np.nan)
        self._peak.append(np.nan)
        self._since.append(len(self._since))
        self._colors.append((np.nan, np.nan, np.nan))

    def result(self) -> Look:
        """The numbers of all frames so far."""
        return Look(
            np.array(self._light, dtype=np.float32),
            np.array(self._peak, dtype=np.float32),
            np.array(self._since, dtype=np.int32),
            np.array(self._colors, dtype=np.float32).reshape(-1, 3),
        )
