"""One pass over each video: time stamps, whether every frame decodes, brightness, stillness, colors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from av.video.frame import VideoFrame

from smolpilot.datasets.audit.looks import Look, Looker, unseen
from smolpilot.datasets.audit.recording import Recording
from smolpilot.datasets.audit.tolerant import whole
from smolpilot.places import Places
from smolpilot.shown import shown

_SMALL = 256 * 256
# 30 and 29.97 differ by 0.1 %: rates that are nearer to one another are the same.
RATE_TOLERANCE = 9e-4


@dataclass
class VideoScan:
    """A video file, read once. `times` are the packets' time stamps in seconds, sorted; `decoded[i]` whether frame i
    came out of the decoder.

    Of pictures in a table, `by_path[i]` says that only a path is stored, one that leads nowhere from another folder;
    `shapes[i]` is (height, width, channels), zeros where it did not decode."""

    path: Path
    problem: str = ""
    depth: bool = False
    codec: str = ""
    pix_fmt: str = ""
    width: int = 0
    height: int = 0
    rate: float = 0.0
    times: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    keys: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    decoded: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    look: Look = field(default_factory=Look)
    by_path: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    shapes: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int32))

    def nearest(self, time: float) -> int:
        """The position of the frame nearest to a time in seconds."""
        if not len(self.times):
            return 0
        right = int(np.searchsorted(self.times, time))
        if right == 0:
            return 0
        if right == len(self.times):
            return right - 1
        return right - 1 if time - self.times[right - 1] <= self.times[right] - time else right


def scan_video(path: Path, *, depth: bool = False, threads: int = 0) -> VideoScan:
    """Read and decode a whole video file; never raises, `problem` says why it could not be read.

    A depth map is decoded and not looked at. `threads` decode large frames (0: as many as FFmpeg thinks right); the
    result is the same for any number.
    """
    scan = VideoScan(path, depth=depth)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                scan.problem = "it holds no video stream"
                return scan
            _read(scan, container, depth, threads)
    except (av.FFmpegError, OSError, ValueError) as error:
        scan.problem = _reason(error)
    return scan


def _reason(error: Exception) -> str:
    """The cause in words, without the error number and the path that FFmpeg puts around it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def _read(scan: VideoScan, container: Any, depth: bool, threads: int) -> None:
    stream = container.streams.video[0]
    context = stream.codec_context
    scan.codec, scan.pix_fmt = context.codec.canonical_name, str(context.pix_fmt)
    scan.width, scan.height = context.width, context.height
    scan.rate = float(stream.average_rate or 0)
    if scan.width * scan.height > _SMALL:
        stream.thread_type = "AUTO"
        context.thread_count = threads
    else:
        context.thread_count = 1
    base = stream.time_base or Fraction(1, 90000)
    packets: dict[int, bool] = {}
    shown: list[int] = []
    looker = Looker()
    for packet in _packets(scan, container, stream):
        if packet.pts is not None and not packet.is_discard:
            packets[packet.pts] = packet.is_keyframe
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError):
            continue
        for frame in frames:
            if frame.pts is not None and not frame.is_corrupt:
                shown.append(frame.pts)
                if not depth:
                    looker.add(frame)
    pts = np.array(sorted(packets), dtype=np.int64)
    scan.times = np.asarray(pts * float(base), dtype=np.float64)
    scan.rate = _rate(scan)
    scan.keys = np.array([packets[value] for value in pts.tolist()], dtype=bool)
    scan.decoded = np.isin(pts, shown)
    scan.look = unseen(len(pts)) if depth else _aligned(looker.result(), pts, np.array(shown, dtype=np.int64))


def _rate(scan: VideoScan) -> float:
    """Frames per second by the time stamps: the container's word counts the last frame's duration, often a guess."""
    if len(scan.times) < 2 or scan.times[-1] <= scan.times[0]:
        return scan.rate
    found = (len(scan.times) - 1) / float(scan.times[-1] - scan.times[0])
    for nominal in (scan.rate, round(found), round(found * 1.001) / 1.001):
        if nominal > 0 and abs(found / nominal - 1) < RATE_TOLERANCE:
            return float(nominal)
    return found


def _packets(scan: VideoScan, container: Any, stream: Any) -> Iterator[Any]:
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, OSError) as error:
            # What came before the damage is known all the same.
            scan.problem = f"its end cannot be read ({_reason(error)})"
            return


def _aligned(look: Look, pts: npt.NDArray[np.int64], shown: npt.NDArray[np.int64]) -> Look:
    """The looks in the packets' order, with NaN where a frame did not decode."""
    if np.array_equal(pts, shown):
        return look
    place = {int(value): i for i, value in enumerate(shown)}
    return look.placed(np.array([place.get(value, -1) for value in pts.tolist()], dtype=np.int64))


def scan_pictures(root: Path, path: Path, key: str, *, depth: bool = False) -> VideoScan:
    """The pictures of one camera inside a table, as if they were a video; `times` count rows."""
    from PIL import Image

    scan = VideoScan(path, codec="image", pix_fmt="rgb24")
    decoded: list[bool] = []
    by_path: list[bool] = []
    shapes: list[tuple[int, int, int]] = []
    looker, places = Looker(), Places(root)
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=64, columns=[key])
        for batch in batches:
            for value in batch.column(0).to_pylist():
                by_path.append(_only_here(value))
                shapes.append((0, 0, 0))
                try:
                    content = value["bytes"] if isinstance(value, dict) else value
                    if content is None and isinstance(value, dict) and value.get("path"):
                        content = _picture_file(places, value["path"])
                    with Image.open(io.BytesIO(content)) as image:
                        scan.width, scan.height = image.size
                        shapes[-1] = (image.height, image.width, len(image.getbands()))
                        if depth:
                            image.load()
                            looker.skip()
                        else:
                            looker.add(VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24"))
                    decoded.append(True)
                except (OSError, ValueError, TypeError, KeyError, SyntaxError):
                    looker.skip()
                    decoded.append(False)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        scan.problem = _reason(error)
    scan.look = looker.result()
    scan.decoded, scan.by_path = np.array(decoded, dtype=bool), np.array(by_path, dtype=bool)
    scan.shapes = np.array(shapes, dtype=np.int32).reshape(-1, 3)
    scan.times = np.arange(len(decoded), dtype=np.float64)
    scan.keys = np.ones(len(decoded), dtype=bool)
    return scan


def _picture_file(places: Places, name: str) -> bytes:
    """The content of a picture of which the table has the path; ValueError for one that is none of the dataset's."""
    path = places.root / name
    if places.why_not(path) or not path.is_file():
        raise ValueError(f"{shown(name)} is no file of the dataset")
    return path.read_bytes()


def _only_here(value: Any) -> bool:
    """Whether a picture is a path: it is not found from everywhere, and no policy reads it."""
    return isinstance(value, dict) and value.get("bytes") is None and bool(value.get("path"))


def readable_video(recording: Recording, path: Path, episodes: list[int], camera: str) -> bool:
    """Whether a video is there at all; otherwise one finding for each episode in it."""
    before = len(recording.findings)
    if whole(recording, path, "video"):
        return True
    found = recording.findings[before:]
    del recording.findings[before:]
    for each in found:
        for episode in episodes:
            recording.report(each.code, each.message, episode=episode, camera=camera, fix=each.fix)
    return False
