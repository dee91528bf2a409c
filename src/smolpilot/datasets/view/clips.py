"""One video file per episode and camera that a browser plays: packets copied where that can be, else h264."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.media.encode import VideoEncoder
from smolpilot.datasets.media.video import RgbImage, VideoIndex, decode_positions, probe
from smolpilot.datasets.media.video_file import VideoFile

# What Chromium, Firefox and Safari all decode; hevc depends on the machine, other formats play nowhere.
_PLAYABLE = {"h264", "av1", "vp9"}
_PIXELS = {"yuv420p", "yuvj420p"}


@dataclass(frozen=True)
class Clip:
    """A written video: its number of frames, and why it was encoded anew (empty: packets copied)."""

    frames: int
    encoded: str


def write_clip(span: VideoSpan, index: VideoIndex, length: int, fps: float, target: Path) -> Clip:
    """Write the `length` frames of an episode that begin at `span.start`; fewer when the file ends before.

    Raises DatasetError when the file cannot be read or has no frame there.
    """
    first = int(index.positions(np.array([span.start]))[0])
    if abs(index.seconds(first) - span.start) > 1 / fps:
        raise DatasetError(f"The video {span.path} has no frame at {span.start:.3f} s, where the episode begins.")
    positions = np.arange(first, min(first + length, len(index.pts)))
    codec, pix_fmt, width, height = probe(span.path)
    reason = _obstacle(index, positions, fps, codec, pix_fmt)
    target.parent.mkdir(parents=True, exist_ok=True)
    if reason:
        encode_clip(decode_positions(span.path, index, positions), target, width=width, height=height, fps=fps)
    else:
        _copy_packets(span.path, index, positions, target)
    return Clip(len(positions), reason)


def encode_clip(pictures: Iterable[RgbImage], target: Path, *, width: int, height: int, fps: float) -> int:
    """Encode images `[h, w, 3]` as h264 with even sides (the last row or column is doubled); their number."""
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    target.parent.mkdir(parents=True, exist_ok=True)
    encoder = VideoEncoder(target, width=width + width % 2, height=height + height % 2, fps=fps, codec="h264")
    try:
        for number, picture in enumerate(pictures):
            encoder.add(np.pad(picture, padding, mode="edge"), key_frame=number == 0)
    finally:
        encoder.close()
    return encoder.frames


def _obstacle(index: VideoIndex, positions: npt.NDArray[np.int64], fps: float, codec: str, pix_fmt: str) -> str:
    """Why packets cannot be copied; empty when they can."""
    if codec not in _PLAYABLE:
        return f"{codec} does not play in every browser"
    if pix_fmt not in _PIXELS:
        return f"the pixel format {pix_fmt} does not play in every browser"
    first, last = int(positions[0]), int(positions[-1])
    if index.keyframe[first] != first:
        return "no key frame at the episode's start"
    if index.first_decoded_after(last) < index.dts[first : last + 1].max():
        return "its last frames need one of the next episode"
    spacing = np.diff(index.pts[first : last + 1]) * float(index.time_base)
    if len(spacing) and np.abs(np.cumsum(spacing - 1 / fps)).max() > 0.25 / fps:
        return f"its frames do not come at {fps:g} per second"
    return ""


def _copy_packets(source: Path, index: VideoIndex, positions: npt.NDArray[np.int64], target: Path) -> None:
    low, high = int(index.pts[positions[0]]), int(index.pts[positions[-1]])
    left = len(positions)
    try:
        with VideoFile(source) as video, av.open(str(target), "w", options={"movflags": "faststart"}) as out:
            # opaque: an encoder of the same name is not needed (libdav1d only decodes).
            copy = out.add_stream_from_template(video.stream, opaque=True)
            video.seek(int(index.dts[positions[0]]))
            for packet in video.packets():
                if packet.pts is None or not low <= packet.pts <= high:
                    continue
                packet.pts -= low
                packet.dts = None if packet.dts is None else packet.dts - low
                packet.stream = copy
                out.mux(packet)
                left -= 1
                if not left:
                    return
    except (av.FFmpegError, OSError) as error:
        raise DatasetError(f"The video {source} cannot be copied from: {error}.") from error
    raise DatasetError(f"The video {source} lacks {left} of the packets that its index names.")
