"""Writing one video file: frames in, mp4 out, with settings made for reading single frames back quickly."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType, VideoFrame

from smolpilot.common.errors import DatasetError, UsageError

type Codec = Literal["h264", "hevc", "av1"]

# A key frame every second frame, as LeRobot does it: any frame is at most one decoding step from a key frame.
GROUP_SIZE = 2
CRF = {"h264": 18, "hevc": 20, "av1": 28}
_ENCODERS = {"h264": ("libx264",), "hevc": ("libx265",), "av1": ("libsvtav1", "libaom-av1")}
# Below this many pixels the start of encoder threads costs more than they save.
_SMALL = 256 * 256
_OPTIONS = {
    "libx264": {"preset": "veryfast", "bf": "0", "forced-idr": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=error:bframes=0", "forced-idr": "1"},
    "libsvtav1": {"preset": "12", "svtav1-params": "pred-struct=1"},
    "libaom-av1": {"cpu-used": "8", "usage": "realtime", "lag-in-frames": "0"},
}


class VideoEncoder:
    """Encodes `[h, w, 3]` uint8 images at constant rate `fps` into one mp4 file."""

    def __init__(self, path: Path, *, width: int, height: int, fps: float, codec: Codec) -> None:
        encoder = find_encoder(codec)
        # SVT-AV1 writes its settings to stderr for every file unless told to report errors only.
        os.environ.setdefault("SVT_LOG", "1")
        require_size(codec, width, height)
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = Fraction(fps).limit_denominator(1001)
        self.pix_fmt = pixel_format(width, height)
        self.frames = 0
        self._container = av.open(str(path), "w")
        options = {**_OPTIONS[encoder], "crf": str(CRF[codec])}
        if encoder == "libx264" and width * height <= _SMALL:
            options["threads"] = "1"
        stream = self._container.add_stream(encoder, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, self.pix_fmt
        stream.codec_context.gop_size = GROUP_SIZE
        stream.codec_context.time_base = 1 / rate
        self._stream = stream

    def add(self, picture: npt.NDArray[np.uint8], *, key_frame: bool = False) -> None:
        """Append one image; `key_frame` makes the file cuttable here without encoding again."""
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = self.frames
        frame.time_base = self._stream.codec_context.time_base
        if key_frame:
            frame.pict_type = PictureType.I
        with self._discarding():
            self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        with self._discarding():
            if self.frames:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    @contextlib.contextmanager
    def _discarding(self) -> Iterator[None]:
        try:
            with own_priority():
                yield
        except av.FFmpegError:
            self.discard()
            raise

    def discard(self) -> None:
        """Close the file without an error of its own: it is not kept. Left open, it would be finished on a full disk
        when it is collected, and tell of that on standard error."""
        with contextlib.suppress(av.FFmpegError):
            self._container.close()


@contextlib.contextmanager
def own_priority() -> Iterator[None]:
    """Leave the calling thread the priority that it has.

    SVT-AV1 makes the thread that opens it a real-time one for good (FIFO, 99), where it may: as root in a container.
    Everything else on the machine would wait for it, the loop that drives an arm first.
    """
    if not hasattr(os, "sched_getscheduler"):  # macOS and Windows have no such call
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def pixel_format(width: int, height: int) -> str:
    """yuv420p needs even sides; yuv444p takes any."""
    return "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"


def require_size(codec: Codec, width: int, height: int) -> None:
    """Raise UsageError for image sizes that the encoders of `codec` cannot take."""
    # x265 writes beyond its buffers for widths of 33 to 48 pixels: the process would abort.
    if codec == "hevc" and width < 64:
        raise UsageError(f"hevc cannot encode images {width} pixels wide.", expected="64 or more", fix="Use h264.")
    if codec == "av1" and (width % 2 or height % 2):
        raise UsageError(f"av1 cannot encode {width}x{height} pictures.", expected="even sides", fix="Use h264.")


def find_encoder(codec: Codec) -> str:
    """The name of an encoder that this machine has for `codec`."""
    if codec not in _ENCODERS:
        raise UsageError(f"Unknown video codec '{codec}'.", expected=f"one of {', '.join(_ENCODERS)}")
    for name in _ENCODERS[codec]:
        try:
            av.codec.Codec(name, "w")
        except (av.FFmpegError, ValueError):
            continue
        return name
    raise DatasetError(f"No {codec} encoder on this machine.", fix="Use codec h264; `smolpilot doctor` lists them.")
