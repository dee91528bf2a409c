"""One pass over each video: time stamps, whether every frame decodes, brightness, stillness, colours."""

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
from av.video.reformatter import Interpolation, VideoReformatter

from smolpilot.datasets.audit.recording import Recording
from smolpilot.datasets.audit.tolerant import whole

# Pictures are looked at in blocks: noise of sensor and codec averages out, a moving gripper does not.
_BLOCKS = 48
_SAME = 3.0
_COLOURS_EVERY = 4
_SMALL = 256 * 256
# 30 and 29.97 differ by 0.1 %: rates that are nearer to one another are the same.
RATE_TOLERANCE = 9e-4


@dataclass
class Look:
    """What frames look like, in order: mean and largest brightness (0 to 255), and where stillness began.

    `still_since[i]` is the first frame of the run of frames that look like frame i. `colours` has the mean red, green
    and blue in [0, 1] of some frames, NaN for the others.
    """

    light: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    still_since: list[int] = field(default_factory=list)
    colours: list[npt.NDArray[np.float64]] = field(default_factory=list)
    _anchor: npt.NDArray[np.float64] | None = None
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def add(self, frame: VideoFrame) -> None:
        """Look at the next frame."""
        block = max(1, min(frame.height, frame.width) // _BLOCKS)
        size = {"width": max(1, frame.width // block), "height": max(1, frame.height // block)}
        small = self._reformatter.reformat(frame, format="gray", interpolation=Interpolation.AREA, **size)
        grey: npt.NDArray[np.float64] = small.to_ndarray().astype(np.float64)
        number = len(self.light)
        self.light.append(float(grey.mean()))
        self.peak.append(float(grey.max()))
        same = self._anchor is not None and self._anchor.shape == grey.shape
        if same and self._anchor is not None and float(np.abs(grey - self._anchor).max()) < _SAME:
            self.still_since.append(self.still_since[-1])
        else:
            self.still_since.append(number)
            self._anchor = grey
        colour: npt.NDArray[np.float64] = np.full(3, np.nan)
        if number % _COLOURS_EVERY == 0:
            rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.AREA, **size)
            colour = np.asarray(rgb.to_ndarray().reshape(-1, 3).mean(axis=0), dtype=np.float64) / 255
        self.colours.append(colour)


@dataclass
class VideoScan:
    """A video file, read once. `times` are the packets' time stamps in seconds, sorted; `decoded[i]` whether frame i
    came out of the decoder, and `look_at[i]` its place in `look`."""

    path: Path
    problem: str = ""
    codec: str = ""
    pix_fmt: str = ""
    width: int = 0
    height: int = 0
    rate: float = 0.0
    times: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    keys: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    decoded: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    look: Look = field(default_factory=Look)

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


def scan_video(path: Path) -> VideoScan:
    """Read and decode a whole video file; never raises, `problem` says why it could not be read."""
    scan = VideoScan(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                scan.problem = "it holds no video stream"
                return scan
            _read(scan, container)
    except (av.FFmpegError, OSError, ValueError) as error:
        scan.problem = _reason(error)
    return scan


def _reason(error: Exception) -> str:
    """The cause in words, without the error number and the path that FFmpeg puts around it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def _read(scan: VideoScan, container: Any) -> None:
    stream = container.streams.video[0]
    context = stream.codec_context
    scan.codec, scan.pix_fmt = context.codec.canonical_name, str(context.pix_fmt)
    scan.width, scan.height = context.width, context.height
    scan.rate = float(stream.average_rate or 0)
    if scan.width * scan.height > _SMALL:
        stream.thread_type = "AUTO"
    else:
        context.thread_count = 1
    base = stream.time_base or Fraction(1, 90000)
    packets: dict[int, bool] = {}
    shown: list[int] = []
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
                scan.look.add(frame)
    pts = np.array(sorted(packets), dtype=np.int64)
    scan.times = np.asarray(pts * float(base), dtype=np.float64)
    scan.rate = _rate(scan)
    scan.keys = np.array([packets[value] for value in pts.tolist()], dtype=bool)
    scan.decoded = np.isin(pts, shown)
    _align(scan, pts, np.array(shown, dtype=np.int64))


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


def _align(scan: VideoScan, pts: npt.NDArray[np.int64], shown: npt.NDArray[np.int64]) -> None:
    """Put the looks into the packets' order, with NaN where a frame did not decode."""
    if np.array_equal(pts, shown):
        return
    place = {int(value): i for i, value in enumerate(shown)}
    looks, old = Look(), scan.look
    for i, value in enumerate(pts.tolist()):
        j = place.get(value)
        looks.light.append(np.nan if j is None else old.light[j])
        looks.peak.append(np.nan if j is None else old.peak[j])
        looks.colours.append(np.full(3, np.nan) if j is None else old.colours[j])
        moved = j is None or i == 0 or old.still_since[j] == j
        looks.still_since.append(i if moved else looks.still_since[-1])
    scan.look = looks


def scan_pictures(recording: Recording, path: Path, key: str) -> VideoScan:
    """The pictures of one camera inside a table, as if they were a video; `times` count rows."""
    from PIL import Image

    scan = VideoScan(path, codec="image", pix_fmt="rgb24")
    decoded: list[bool] = []
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=64, columns=[key])
        for batch in batches:
            for value in batch.column(0).to_pylist():
                try:
                    content = value["bytes"] if isinstance(value, dict) else value
                    if content is None and isinstance(value, dict) and value.get("path"):
                        content = (recording.root / value["path"]).read_bytes()
                    with Image.open(io.BytesIO(content)) as image:
                        frame = VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
                        scan.width, scan.height = image.size
                    scan.look.add(frame)
                    decoded.append(True)
                except (OSError, ValueError, TypeError, KeyError, SyntaxError):
                    _add_nothing(scan.look)
                    decoded.append(False)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        scan.problem = _reason(error)
    scan.decoded = np.array(decoded, dtype=bool)
    scan.times = np.arange(len(decoded), dtype=np.float64)
    scan.keys = np.ones(len(decoded), dtype=bool)
    return scan


def _add_nothing(look: Look) -> None:
    look.light.append(np.nan)
    look.peak.append(np.nan)
    look.colours.append(np.full(3, np.nan))
    look.still_since.append(len(look.still_since))


def readable_video(recording: Recording, path: Path, episodes: list[int], camera: str) -> bool:
    """Whether a video is there at all; otherwise one finding for each episode in it."""
    before = len(recording.findings)
    if whole(recording, path, "video"):
        return True
    found = recording.findings[before:]
    del recording.findings[before:]
    for each in found:
        for episode in episodes:
            recording.report(each.code, each.message, episode=episode, camera=camera)
    return False
