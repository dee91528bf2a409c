"""Decoding the few frames that prove a copy: first and last of each episode, over the seams of joined files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from av.video.frame import VideoFrame

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.media.pixels import plane_rows
from smolpilot.datasets.media.video_file import VideoError, VideoFile

from .packets import Clip, Packets

# Packets between two wanted frames that are decoded rather than jumped over, so that seams are played through.
_PLAY_ON = 3
# Formats of three planes of bytes, which are hashed as they lie.
_PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")


def image_digests(
    path: Path, packets: Packets, clips: Sequence[Clip], before: Clip | None = None
) -> list[tuple[str, str]]:
    """Hashes of the decoded first and last frame of each clip; raises DatasetError when one cannot be decoded.

    From the last frame of `before`, the clip in front of the first one, the seam between them is played through.
    """
    wanted = sorted({pts for clip in clips for pts in (clip.first_pts, clip.first_pts + clip.last)})
    found: dict[int, str] = {}
    with VideoFile(path) as video:
        video.context.thread_count = 1
        player = _Player(video, packets)
        if before is not None:
            player.frame(before.first_pts + before.last)
        for pts in wanted:
            frame = player.frame(pts)
            if frame is None:
                episode = next(i for i, clip in enumerate(clips) if clip.first_pts <= pts <= clip.first_pts + clip.last)
                raise DatasetError(
                    f"The frame at {pts * float(clips[episode].tick):.3f} s of {path} cannot be decoded.",
                    expected="a decodable first and last frame of each episode",
                    fix="See `smolpilot dataset check`; `smolpilot dataset repair` leaves such episodes out.",
                )
            found[pts] = image_digest(frame)
    return [(found[clip.first_pts], found[clip.first_pts + clip.last]) for clip in clips]


def image_digest(frame: VideoFrame) -> str:
    """Hash of a frame's pixels in the format it was decoded to."""
    if frame.format.name not in _PLANAR:
        return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(pixels(frame)))
    digest = xxhash.xxh3_128()
    for plane in frame.planes:
        digest.update(np.ascontiguousarray(plane_rows(plane)))
    return digest.hexdigest()


def pixels(frame: VideoFrame) -> npt.NDArray[Any]:
    """The pixels of a frame as they were decoded; formats that PyAV cannot show go through RGB."""
    try:
        return np.asarray(frame.to_ndarray())
    except ValueError:
        return np.asarray(frame.to_ndarray(format="rgb24"))


class _Player:
    """Decodes frames of increasing time stamps, playing on where that is near."""

    def __init__(self, video: VideoFile, packets: Packets) -> None:
        self._video, self._packets = video, packets
        self._keys = np.flatnonzero(packets.key)
        self._place = {int(pts): i for i, pts in enumerate(packets.pts)}
        self._frames: Any = None
        self._at = -1

    def frame(self, pts: int) -> VideoFrame | None:
        place = self._place[pts]
        before = int(np.searchsorted(self._keys, place, side="right"))
        key = int(self._keys[before - 1]) if before else 0
        if self._frames is None or key > self._at + _PLAY_ON:
            self._seek(key)
        frame = self._decode_to(pts)
        if frame is None and key:
            # Key frames of open groups do not stand alone: from the start then.
            self._seek(0)
            frame = self._decode_to(pts)
        self._at = place
        return frame

    def _seek(self, place: int) -> None:
        self._video.seek(int(self._packets.dts[place]))
        self._frames = self._video.frames()

    def _decode_to(self, pts: int) -> VideoFrame | None:
        try:
            for frame in self._frames:
                if frame.pts is not None and frame.pts >= pts:
                    return frame if frame.pts == pts else None
        except VideoError:
            pass
        return None
