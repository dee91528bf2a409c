"""Frames out of video files: exact by time stamp, fast in order and at random, safe across processes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from smolpilot.datasets.files import require_file
from smolpilot.errors import DatasetError

type Picture = npt.NDArray[np.uint8]

# Decoding a few frames that nobody asked for is cheaper than a seek.
_SKIP_WITHOUT_SEEK = 6
_OPEN_FILES = 16


@dataclass(frozen=True)
class VideoIndex:
    """The time stamps of a video's frames, read from its packets without decoding.

    `pts` sorted, in units of `time_base` seconds; `keyframe` for each frame the position of the key frame at or
    before it; `dts` the decoding time of each frame's packet, the clock by which files are searched.
    """

    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    keyframe: npt.NDArray[np.int64]
    time_base: Fraction

    def positions(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """For each time in seconds the position of the nearest frame."""
        seconds = self.pts * float(self.time_base)
        right = np.clip(np.searchsorted(seconds, times), 1, max(len(seconds) - 1, 1))
        left = right - 1
        right = np.minimum(right, len(seconds) - 1)
        nearer_left = np.abs(times - seconds[left]) <= np.abs(seconds[right] - times)
        return np.where(nearer_left, left, right).astype(np.int64)

    def seconds(self, position: int) -> float:
        """The time of a frame in seconds."""
        return float(self.pts[position] * self.time_base)


class VideoReader:
    """Decodes frames of many video files, keeping the last few files open.

    Reading in order never seeks. Indexes travel with a pickled reader, open files do not: after a fork or in
    another process files are opened again.
    """

    def __init__(self, open_files: int = _OPEN_FILES) -> None:
        self._limit = open_files
        self._indexes: dict[Path, VideoIndex] = {}
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self._limit, "indexes": self._indexes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._limit, self._indexes = state["limit"], state["indexes"]
        self._forget()

    def index(self, path: Path) -> VideoIndex:
        """The frame index of a file, made once."""
        if path not in self._indexes:
            self._indexes[path] = read_index(path)
        return self._indexes[path]

    def frame(self, path: Path, position: int) -> Picture:
        """The frame at a position of the file's index: `[h, w, 3]` uint8, red, green, blue."""
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            file = self._open.pop(path, None) or _OpenVideo(path, self.index(path))
            try:
                picture = file.frame(position)
            except BaseException:
                file.close()
                raise
            self._open[path] = file
            while len(self._open) > self._limit:
                self._open.popitem(last=False)[1].close()
            return picture

    def close(self) -> None:
        """Close all files; the reader stays usable."""
        with self._lock:
            for file in self._open.values():
                file.close()
            self._open.clear()

    def _forget(self) -> None:
        # Containers of a parent process share its file offsets: drop them without closing.
        self._process = os.getpid()
        self._open: OrderedDict[Path, _OpenVideo] = OrderedDict()
        self._lock = threading.Lock()


class _OpenVideo:
    """One open file and the place where its decoder stands."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path, self._index = path, index
        self._container = _open(path)
        self._stream = self._container.streams.video[0]
        # Frame threads decode ahead of every seek: one thread gives single frames twice as fast (AV1 480x640).
        self._stream.codec_context.thread_count = 1
        self._reformatter = VideoReformatter()
        self._frames: Iterator[VideoFrame] | None = None
        self._at = -1
        self._last: Picture | None = None

    def close(self) -> None:
        self._frames = None
        self._container.close()

    def frame(self, position: int) -> Picture:
        if position == self._at and self._last is not None:
            return self._last.copy()
        try:
            if self._frames is None or not self._reaches(position):
                self._seek(int(self._index.keyframe[position]))
            picture = self._decode_to(position)
            if picture is None and position:
                # A key frame that the decoder refuses (open groups, edit lists): once more, from the start.
                self._seek(0)
                picture = self._decode_to(position)
        except (av.FFmpegError, StopIteration) as error:
            raise _undecodable(self._path, str(error)) from error
        if picture is None:
            raise _undecodable(self._path, f"frame {position} of {len(self._index.pts)} cannot be decoded")
        self._at, self._last = position, picture
        return picture.copy()

    def _reaches(self, position: int) -> bool:
        """Whether decoding on from here gets to `position` sooner than a seek."""
        ahead = position - self._at
        return ahead > 0 and ahead <= position - int(self._index.keyframe[position]) + _SKIP_WITHOUT_SEEK

    def _seek(self, position: int) -> None:
        self._container.seek(int(self._index.dts[position]), stream=self._stream, backward=True, any_frame=False)
        self._frames = self._container.decode(self._stream)
        self._at = -1

    def _decode_to(self, position: int) -> Picture | None:
        """Decode up to the wanted time stamp; None when the decoder is already past it or at the end."""
        assert self._frames is not None
        wanted = int(self._index.pts[position])
        for frame in self._frames:
            if frame.pts is None or frame.pts < wanted:
                continue
            if frame.pts > wanted:
                break
            return to_rgb(frame, self._reformatter)
        self._frames = None
        return None


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> Picture:
    """One decoded frame as `[h, w, 3]` uint8, with the conversion that LeRobot's PyAV backend uses."""
    return np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray(), dtype=np.uint8)


def read_index(path: Path) -> VideoIndex:
    """Read the time stamps of all frames of a file; DatasetError when it is torn, empty or no video."""
    with _open(path) as container:
        stream = container.streams.video[0]
        rows = []
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and not packet.is_discard and not packet.is_corrupt:
                    dts = packet.dts if packet.dts is not None else packet.pts
                    rows.append((packet.pts, dts, packet.is_keyframe))
        except av.FFmpegError as error:
            raise _undecodable(path, str(error)) from error
        time_base = stream.time_base or Fraction(1, 90000)
    if not rows:
        raise _undecodable(path, "it holds no frames")
    rows.sort()
    keys = np.array([row[2] for row in rows], dtype=bool)
    positions = np.where(keys, np.arange(len(rows)), 0)
    return VideoIndex(
        pts=np.array([row[0] for row in rows], dtype=np.int64),
        dts=np.array([row[1] for row in rows], dtype=np.int64),
        keyframe=np.maximum.accumulate(positions).astype(np.int64),
        time_base=time_base,
    )


def probe(path: Path) -> tuple[str, str, int, int]:
    """(codec, pixel format, width, height) of a video file; DatasetError when it cannot be opened."""
    with _open(path) as container:
        codec = container.streams.video[0].codec_context
        name = codec.codec.canonical_name
        return name, str(codec.pix_fmt), codec.width, codec.height


def decode_positions(path: Path, index: VideoIndex, positions: npt.NDArray[np.int64]) -> Iterator[Picture]:
    """The frames at increasing positions, in order, decoded with all cores in a container of its own."""
    reformatter = VideoReformatter()
    wanted = [int(pts) for pts in index.pts[positions]]
    done = 0
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            container.seek(int(index.dts[index.keyframe[positions[0]]]), stream=stream, backward=True, any_frame=False)
            for frame in container.decode(stream):
                if frame.pts is None or frame.pts < wanted[done]:
                    continue
                if frame.pts > wanted[done]:
                    break
                yield to_rgb(frame, reformatter)
                done += 1
                if done == len(wanted):
                    return
        except av.FFmpegError as error:
            raise _undecodable(path, str(error)) from error
    raise _undecodable(path, f"frame {int(positions[done])} of {len(index.pts)} cannot be decoded")


def _open(path: Path) -> Any:
    require_file(path, "video file")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise _undecodable(path, str(error)) from error
    if not container.streams.video:
        container.close()
        raise _undecodable(path, "it holds no video stream")
    return container


def _undecodable(path: Path, reason: str) -> DatasetError:
    return DatasetError(
        f"The video file {path} is torn or cannot be decoded: {reason}.",
        expected="a complete video (a crash while recording leaves an mp4 without its index)",
        fix="Copy or download the file again, or leave its episodes out; `smolpilot doctor` tests the codecs.",
    )
