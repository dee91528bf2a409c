"""Real encoded videos whose frames tell their number."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from smolpilot.contracts.camera import Camera, CapturedImage

BRIGHTER = 8  # of each frame against the one before


def write_video(path: Path, frames: int = 20, *, fps: int = 10, height: int = 48, width: int = 64) -> Path:
    """Frame n is gray, 8 n bright."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": "10"}
        for number in range(frames):
            image = np.full((height, width, 3), BRIGHTER * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def number_of(image: npt.NDArray[np.uint8]) -> int:
    """Which frame it is."""
    return round(float(image.mean()) / BRIGHTER)


def comes(camera: Camera, wanted: Callable[[CapturedImage], bool], seconds: float = 20.0) -> CapturedImage:
    """The first image that is as wanted: the thread that decodes may have to be waited for."""
    end = time.monotonic() + seconds
    while not wanted(found := camera.latest()):
        assert time.monotonic() < end, f"frame {number_of(found.image)} of {found.captured_at} is the last that came"
        time.sleep(0.002)
    return found
