"""Decoded frames as red, green and blue, exactly as LeRobot's PyAV backend gives them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

type RgbImage = npt.NDArray[np.uint8]

# The planes of format gbrp that hold red, green and blue.
_PLANES = (2, 0, 1)
_FULL = np.float32(255)


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> RgbImage:
    """One decoded frame as `[h, w, 3]` uint8, with the conversion that LeRobot's PyAV backend uses."""
    return np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray(), dtype=np.uint8)


def fill_from_frame(frame: VideoFrame, reformatter: VideoReformatter, out: npt.NDArray[Any]) -> None:
    """Write a decoded frame into `out` `[3, h, w]`, as uint8 or as float32 in [0, 1]; the same values as `to_rgb`.

    Separate planes come straight out of the color conversion where it gives the same values: that saves turning the
    image round, and the division writes to its place.
    """
    if not _planes_agree(frame.format.name, frame.width, frame.height, int(frame.color_range), int(frame.colorspace)):
        fill(to_rgb(frame, reformatter), out)
        return
    planes = reformatter.reformat(frame, format="gbrp").planes
    for channel, number in enumerate(_PLANES):
        _copy(plane_rows(planes[number]), out[channel])


def plane_rows(plane: VideoPlane) -> npt.NDArray[np.uint8]:
    """The bytes of one plane of a frame `[h, w]`, without the padding of its lines."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def fill(picture: RgbImage, out: npt.NDArray[Any]) -> None:
    """Write an image `[h, w, 3]` into `out` `[3, h, w]`, as uint8 or as float32 in [0, 1]."""
    for channel in range(3):
        _copy(picture[..., channel], out[channel])


def _copy(values: npt.NDArray[np.uint8], out: npt.NDArray[Any]) -> None:
    if out.dtype == np.uint8:
        out[:] = values
    else:
        np.divide(values, _FULL, out=out)


@lru_cache(maxsize=64)
def _planes_agree(name: str, width: int, height: int, color_range: int, colorspace: int) -> bool:
    """Whether conversion to planes gives what conversion to rgb24 gives, tried on noise.

    FFmpeg's two ways are one routine for some formats, widths and processors, and two that differ for others.
    """
    frame = VideoFrame(width, height, name)
    generator = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(generator.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
    frame.color_range, frame.colorspace = color_range, colorspace
    expected = to_rgb(frame, VideoReformatter())
    planes = VideoReformatter().reformat(frame, format="gbrp").planes
    return all(np.array_equal(plane_rows(planes[n]), expected[..., channel]) for channel, n in enumerate(_PLANES))
