"""Frames out of video files: exact by time stamp, fast in order and at random, safe across threads and processes."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .pixels import RgbImage, fill_from_frame, to_rgb
from .video_file import VideoError, VideoFile, reason_of

__all__ = ["RgbImage", "VideoIndex", "VideoReader", "decode_positions", "nearest", "probe", "read_index", "to_rgb"]

_OPEN_FILES = 8


class VideoReader:
    """Decodes frames of many video files with a few decoders that stay open.

    A decoder serves any file of its kind (codec, size, settings): packets are read from their places in the file and
    handed to it, so that a jump needs neither a search by the demuxer nor a file opened anew. Reading in order never
    jumps. Several threads may read at once, each with a decoder of its own. Indexes travel with a pickled reader,
    decoders do not: after a fork or in another process they are made again.
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
            self._mind_forks()
            with self._index_lock:
                if path not in self._indexes:
                    self._indexes[path] = read_index(path)
        return self._indexes[path]

    def frame(self, path: Path, position: int) -> RgbImage:
        """The frame at a position of the file's index: `[h, w, 3]` uint8, red, green, blue."""
        with self._decoder(path, position) as decoder:
            return to_rgb(decoder.frame(path, self.index(path), position), decoder.reformatter)

    def fill(self, path: Path, position: int, out: npt.NDArray[Any]) -> None:
        """Write the frame at a position into `out` `[3, h, w]`, as uint8 or as float32 in [0, 1]."""
        index = self.index(path)
        if (index.height, index.width) != out.shape[1:]:
            raise VideoError(path, f"it is {index.width}x{index.height}, not {out.shape[2]}x{out.shape[1]}")
        with self._decoder(path, position) as decoder:
            fill_from_frame(decoder.frame(path, self.index(path), position), decoder.reformatter, out)

    def close(self) -> None:
        """Close all files that are not being read; the reader stays usable."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _decoder(self, path: Path, position: int) -> Iterator[_Decoder]:
        self._mind_forks()
        index = self.index(path)
        with self._lock:
            decoder = self._choose(path, index, position)
            self._busy += 1
        try:
            decoder = decoder or _Decoder(path, index)
            yield decoder
        except BaseException:
            if decoder is not None:
                decoder.close()
            decoder = None
            raise
        finally:
            with self._lock:
                self._busy -= 1
                if decoder is not None:
                    self._idle.append(decoder)
                while self._idle and len(self._idle) + self._busy > self._limit:
                    self._idle.pop(0).close()

    def _choose(self, path: Path, index: VideoIndex, position: int) -> _Decoder | None:
        """Take an idle decoder, the one from which the frame is nearest; None when a new one shall be made."""
        here = [decoder for decoder in self._idle if decoder.path == path]
        found = next((decoder for decoder in here if decoder.reaches(index, position)), here[0] if here else None)
        if found is None and len(self._idle) + self._busy >= self._limit:
            found = next((decoder for decoder in self._idle if decoder.kind == index.kind), None)
        if found is not None:
            self._idle.remove(found)
        return found

    def _mind_forks(self) -> None:
        if self._process != os.getpid():
            self._forget()

    def _forget(self) -> None:
        # Decoders and locks of a parent process may be in the midst of something: leave them.
        self._process = os.getpid()
        self._idle: list[_Decoder] = []
        self._busy = 0
        self._lock, self._index_lock = threading.Lock(), threading.Lock()


class _Decoder:
    """An open decoder, the file that it reads and the frame where it stands."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self.path, self.kind = path, index.kind
        # The settings of the file (colors, parameter sets) come with its stream: it is opened once for them.
        self._video = VideoFile(path)
        self._codec = self._video.context
        # Decoder threads work ahead of every jump: single frames take longer, and a fork could wait for them.
        self._codec.thread_count = 1
        self.reformatter = VideoReformatter()
        self._open(path)
        self._at: int | None = None
        self._last: VideoFrame | None = None
        self._ready: deque[VideoFrame] = deque()
        self._packets: Iterator[av.Packet | None] = iter(())

    def _open(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        # With the decoder the file goes, too, where a reader is dropped and not closed.
        self._close_file = weakref.finalize(self, self._file.close)

    def close(self) -> None:
        self._stop()
        self._close_file()
        self._video.close()

    def reaches(self, index: VideoIndex, position: int) -> bool:
        """Whether decoding on from here gets to `position` without decoding a frame that a jump would leave out."""
        return self._at is not None and int(index.keyframe[position]) - 1 <= self._at <= position

    def frame(self, path: Path, index: VideoIndex, position: int) -> VideoFrame:
        """Decode the frame at a position; DatasetError when the file is torn."""
        if path != self.path:
            close_before = self._close_file
            self._open(path)
            close_before()
            self._stop()
            self.path = path
        try:
            if not self.reaches(index, position):
                self._jump(index, int(index.keyframe[position]))
            frame = self._decode_to(index, position)
            if frame is None and position:
                # A key frame that the decoder refuses (open groups, edit lists): once more, from the start.
                self._jump(index, 0)
                frame = self._decode_to(index, position)
        except VideoError:
            raise
        except Exception as error:  # of values, memory: FFmpeg's wrapper raises more than its own errors
            raise VideoError(path, reason_of(error)) from error
        if frame is None:
            raise VideoError(path, f"frame {position} of {len(index.pts)} cannot be decoded")
        self._video.check(frame)
        self._at, self._last = position, frame
        return frame

    def _stop(self) -> None:
        self._at, self._last = None, None
        self._ready.clear()
        self._packets = iter(())

    def _jump(self, index: VideoIndex, keyframe: int) -> None:
        self._stop()
        self._codec.flush_buffers()
        self._packets = self._read(index, keyframe) if index.packets.plain else self._demux(index, keyframe)
        self._at = keyframe - 1

    def _decode_to(self, index: VideoIndex, position: int) -> VideoFrame | None:
        """Decode up to the wanted time stamp; None when the decoder is already past it or at the end."""
        if position == self._at:
            return self._last
        wanted = int(index.pts[position])
        while True:
            while self._ready:
                frame = self._ready.popleft()
                if frame.pts is None or frame.pts < wanted:
                    continue
                return frame if frame.pts == wanted else None
            try:
                packet = next(self._packets)
            except StopIteration:
                return None
            self._ready.extend(self._codec.decode(packet))

    def _read(self, index: VideoIndex, keyframe: int) -> Iterator[av.Packet | None]:
        """The packets from a key frame on, read from their places in the file; None at the end."""
        packets = index.packets
        first = int(packets.of_frame[keyframe]) if keyframe else 0
        for number in range(first, len(packets.pts)):
            size = int(packets.size[number])
            content = os.pread(self._file.fileno(), size, int(packets.offset[number]))
            if len(content) != size:
                raise VideoError(self.path, f"it ends within packet {number} of {len(packets.pts)}")
            packet = av.Packet(content)
            packet.pts, packet.time_base = int(packets.pts[number]), index.time_base
            yield packet
        yield None

    def _demux(self, index: VideoIndex, keyframe: int) -> Iterator[av.Packet | None]:
        """The packets from a key frame on, as the demuxer gives them; None at the end."""
        self._video.seek(int(index.dts[keyframe]))
        for packet in self._video.packets():
            if packet.size:
                yield packet
        yield None


def probe(path: Path) -> tuple[str, str, int, int]:
    """(codec, pixel format, width, height) of a video file; DatasetError when it cannot be opened."""
    with VideoFile(path) as video:
        return video.codec, video.pix_fmt, video.width, video.height


def decode_positions(path: Path, index: VideoIndex, positions: npt.NDArray[np.int64]) -> Iterator[RgbImage]:
    """The frames at increasing positions, in order, decoded with all cores in a container of its own."""
    reformatter = VideoReformatter()
    wanted = [int(pts) for pts in index.pts[positions]]
    done = 0
    with VideoFile(path) as video:
        video.stream.thread_type = "AUTO"
        video.seek(int(index.dts[index.keyframe[positions[0]]]))
        for frame in video.frames():
            if frame.pts is None or frame.pts < wanted[done]:
                continue
            if frame.pts > wanted[done]:
                break
            yield to_rgb(frame, reformatter)
            done += 1
            if done == len(wanted):
                return
    raise VideoError(path, f"frame {int(positions[done])} of {len(index.pts)} cannot be decoded")


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
        return nearest(self.times, times)

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


def nearest(shown: npt.NDArray[np.floating], times: npt.NDArray[np.floating] | float) -> npt.NDArray[np.int64]:
    """For each time the place of the nearest one of `shown`, which increase; the earlier of two as near."""
    right = np.clip(np.searchsorted(shown, times), 1, max(len(shown) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(shown) - 1)
    nearer_left = np.abs(times - shown[left]) <= np.abs(shown[right] - times)
    return np.where(nearer_left, left, right).astype(np.int64)


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
