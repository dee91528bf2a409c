"""The index of a video file: when its frames are shown, and where the bytes of their packets lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .video_file import VideoError, VideoFile


@dataclass(frozen=True)
class Packets:
    """The packets of a video in decoding order: place and size of their bytes in the file, time stamps.

    `of_frame` is the number of the packet that holds the frame at each position; `plain` tells whether the bytes can
    be read from the file as they are (mp4), without the demuxer.
    """

    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    pts: npt.NDArray[np.int64]
    of_frame: npt.NDArray[np.int32]
    plain: bool


@dataclass(frozen=True)
class VideoIndex:
    """The time stamps of a video's frames, read from its packets without decoding.

    `pts` sorted, in units of `time_base` seconds; `keyframe` for each frame the position of the key frame at or
    before it; `dts` the decoding time of each frame's packet, the clock by which files are searched. `kind` is what a
    decoder needs to know: files of equal kind can share one. `width` and `height` are those of the file's header.
    """

    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    keyframe: npt.NDArray[np.int64]
    time_base: Fraction
    packets: Packets
    kind: tuple[Any, ...]
    width: int
    height: int

    @cached_property
    def times(self) -> npt.NDArray[np.float64]:
        """The time of each frame in seconds, increasing."""
        return np.asarray(self.pts * float(self.time_base), dtype=np.float64)

    def positions(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """For each time in seconds the position of the nearest frame."""
        seconds = self.times
        right = np.clip(np.searchsorted(seconds, times), 1, max(len(seconds) - 1, 1))
        left = right - 1
        right = np.minimum(right, len(seconds) - 1)
        nearer_left = np.abs(times - seconds[left]) <= np.abs(seconds[right] - times)
        return np.where(nearer_left, left, right).astype(np.int64)

    def first_decoded_after(self, position: int) -> int:
        """The smallest decoding time of the frames behind a position; beyond all of them for the last."""
        return int(self._earliest[position + 1])

    @cached_property
    def _earliest(self) -> npt.NDArray[np.int64]:
        """For each frame the smallest decoding time from it on, and one more: once for all episodes of a file."""
        behind = np.append(self.dts, np.iinfo(np.int64).max)
        return np.asarray(np.minimum.accumulate(behind[::-1])[::-1], dtype=np.int64)

    def seconds(self, position: int) -> float:
        """The time of a frame in seconds."""
        return float(self.pts[position] * self.time_base)


def read_index(path: Path) -> VideoIndex:
    """Read the time stamps of all frames of a file; DatasetError when it is torn, empty or no video."""
    with VideoFile(path) as video:
        rows: list[tuple[int, int, bool, bool, int, int]] = []
        plain = True
        for packet in video.packets():
            if packet.pts is None:
                continue
            dts = packet.dts if packet.dts is not None else packet.pts
            shown = not packet.is_discard and not packet.is_corrupt
            offset = -1 if packet.pos is None else packet.pos
            if not rows:
                plain = offset >= 0 and read_bytes(path, offset, packet.size) == bytes(packet)
            plain = plain and offset >= 0
            rows.append((packet.pts, dts, packet.is_keyframe, shown, offset, packet.size))
        time_base, kind = video.time_base, _kind(video.context)
        if not plain:
            kind = (*kind, path)
    numbers = np.array([number for number, row in enumerate(rows) if row[3]], dtype=np.int32)
    if not len(numbers):
        raise VideoError(path, "it holds no frames")
    table = np.array(rows, dtype=np.int64)
    of_frame = numbers[np.lexsort((table[numbers, 1], table[numbers, 0]))]
    keys = table[of_frame, 2].astype(bool)
    return VideoIndex(
        pts=table[of_frame, 0],
        dts=table[of_frame, 1],
        keyframe=np.maximum.accumulate(np.where(keys, np.arange(len(keys)), 0)).astype(np.int64),
        time_base=time_base,
        packets=Packets(
            table[:, 4].copy(), table[:, 5].astype(np.int32), table[:, 0].copy(), of_frame.astype(np.int32), plain
        ),
        kind=kind,
        width=video.width,
        height=video.height,
    )


def read_bytes(path: Path, offset: int, size: int) -> bytes:
    """Some bytes of a file."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), size, offset)


def _kind(codec: Any) -> tuple[Any, ...]:
    colors = (codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc)
    return (codec.name, bytes(codec.extradata or b""), codec.width, codec.height, codec.pix_fmt, *map(int, colors))
