"""One pass over each video: time stamps, whether every frame decodes, brightness, stillness, colors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from smolpilot.common.errors import DatasetError
from smolpilot.common.safe_paths import OwnFiles
from smolpilot.common.text import shown
from smolpilot.datasets.format.parquet_files import parquet_file
from smolpilot.datasets.media.image_formats import ImageError, Size, decoded, header_size, rgb
from smolpilot.datasets.media.video_file import VideoError, VideoFile, reason_of

# Images are looked at in blocks: noise of sensor and codec averages out, a moving gripper does not.
_BLOCKS = 48
_SAME = 3.0
_COLORS_EVERY = 4
_SMALL = 256 * 256
# Beyond it, what is not of the declared size is not decoded: 4096x4096.
_LARGE = 2**24
# Of an image that is only a path: more is none.
_FILE_BYTES = 256_000_000
# 30 and 29.97 differ by 0.1 %: rates that are nearer to one another are the same.
RATE_TOLERANCE = 9e-4


@dataclass
class Look:
    """Frames in order, `[N]` each: mean and largest brightness (0 to 255), and where stillness began.

    `still_since[i]` is the first frame of the run of frames that look like frame i. `colors` `[N, 3]` has the mean
    red, green and blue in [0, 1] of some frames, NaN for the others. A frame that did not decode has NaN.
    """

    light: npt.NDArray[np.float32]
    peak: npt.NDArray[np.float32]
    still_since: npt.NDArray[np.int32]
    colors: npt.NDArray[np.float32]

    def placed(self, places: npt.NDArray[np.int64]) -> Look:
        """The looks in another order: `places[i]` is the old place of frame i, -1 where it has none."""
        # One more at the end stands for those without a place: number -1.
        nothing = np.full((1, 3), np.nan, dtype=np.float32)
        light, peak = (np.append(values, nothing[0, 0])[places] for values in (self.light, self.peak))
        moved = np.append(self.still_since, -1)[places] == places
        moved[:1] = True
        since = np.maximum.accumulate(np.where(moved, np.arange(len(places)), 0)).astype(np.int32)
        return Look(light, peak, since, np.concatenate([self.colors, nothing])[places])


class Looker:
    """Looks at one frame after the other."""

    def __init__(self) -> None:
        self._since: list[int] = []
        self._rows: list[tuple[float, ...]] = []  # brightness, brightest block, red, green, blue
        self._anchor: npt.NDArray[np.int16] | None = None
        self._reformatter = VideoReformatter()

    def add(self, frame: VideoFrame) -> None:
        """Look at the next frame."""
        block = max(1, min(frame.height, frame.width) // _BLOCKS)
        size = {"width": max(1, frame.width // block), "height": max(1, frame.height // block)}
        small = self._reformatter.reformat(frame, format="gray", interpolation=Interpolation.AREA, **size)
        gray: npt.NDArray[np.int16] = small.to_ndarray().astype(np.int16)
        number = len(self._since)
        same = self._anchor is not None and self._anchor.shape == gray.shape
        if same and self._anchor is not None and float(np.abs(gray - self._anchor).max()) < _SAME:
            self._since.append(self._since[-1])
        else:
            self._since.append(number)
            self._anchor = gray
        color = [np.nan] * 3
        if number % _COLORS_EVERY == 0:
            rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.AREA, **size)
            color = (rgb.to_ndarray().reshape(-1, 3).mean(axis=0) / 255).tolist()
        self._rows.append((float(gray.mean()), float(gray.max()), *color))

    def skip(self) -> None:
        """A frame that cannot be seen, or a depth map, which has no brightness or color."""
        self._since.append(len(self._since))
        self._rows.append((np.nan,) * 5)

    def result(self) -> Look:
        """The numbers of all frames so far."""
        rows = np.array(self._rows, dtype=np.float32).reshape(-1, 5)
        return Look(rows[:, 0], rows[:, 1], np.array(self._since, dtype=np.int32), rows[:, 2:])


@dataclass
class VideoScan:
    """A video file, read once. `times` are the packets' time stamps in seconds, sorted; `decoded[i]` whether frame i
    came out of the decoder; `refused` why some did not, by place, where that is known.

    Of images in a table, `by_path[i]` says that only a path is stored, one that leads nowhere from another folder;
    `shapes[i]` is (height, width, channels), zeros where nothing is known of it."""

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
    look: Look = field(default_factory=lambda: Looker().result())
    by_path: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    shapes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))
    refused: dict[int, str] = field(default_factory=dict)

    def nearest(self, time: float) -> int:
        """The position of the frame nearest to a time in seconds."""
        if len(self.times) < 2:
            return 0
        right = int(np.clip(np.searchsorted(self.times, time), 1, len(self.times) - 1))
        return right - 1 if time - self.times[right - 1] <= self.times[right] - time else right


def scan_video(path: Path, *, depth: bool = False, threads: int = 0, size: Size | None = None) -> VideoScan:
    """Read and decode a whole video file; never raises, `problem` says why it could not be read.

    A depth map is decoded and not looked at. `threads` decode large frames (0: as many as FFmpeg thinks right); the
    result is the same for any number. `size` is the declared (height, width): large videos of another are not decoded.
    """
    scan = VideoScan(path, depth=depth)
    try:
        with VideoFile(path) as video:
            _read(scan, video, depth, threads, size)
    except VideoError as error:
        scan.problem = error.reason
    except (DatasetError, OSError) as error:
        scan.problem = getattr(error, "found", None) or reason_of(error)
    return scan


def _read(scan: VideoScan, video: VideoFile, depth: bool, threads: int, size: Size | None) -> None:
    scan.codec, scan.pix_fmt = video.codec, video.pix_fmt
    scan.width, scan.height, scan.rate = video.width, video.height, video.rate
    if size is not None and size != (scan.height, scan.width) and scan.height * scan.width > _LARGE:
        raise VideoError(scan.path, _too_large(scan.height, scan.width, size))
    if scan.width * scan.height > _SMALL:
        video.stream.thread_type = "AUTO"
        video.context.thread_count = threads
    else:
        video.context.thread_count = 1
    packets: dict[int, bool] = {}
    shown: list[int] = []
    looker = Looker()
    why: dict[int, str] = {}
    for packet in _packets(scan, video):
        if packet.pts is not None and not packet.is_discard:
            packets[packet.pts] = packet.is_keyframe
        try:
            for frame in packet.decode():
                if frame.pts is None or frame.is_corrupt:
                    continue
                video.check(frame)
                if depth:
                    looker.skip()
                else:
                    looker.add(frame)
                shown.append(frame.pts)
        except VideoError as error:
            why[packet.pts] = error.reason
        except Exception:  # FFmpeg's wrapper raises more than its own errors; the next packet may decode
            continue
    pts = np.array(sorted(packets), dtype=np.int64)
    scan.refused = {int(np.searchsorted(pts, place)): reason for place, reason in why.items() if place is not None}
    scan.times = np.asarray(pts * float(video.time_base), dtype=np.float64)
    scan.rate = _rate(scan)
    scan.keys = np.array([packets[value] for value in pts.tolist()], dtype=bool)
    scan.decoded = np.isin(pts, shown)
    scan.look = _aligned(looker.result(), pts, np.array(shown, dtype=np.int64))


def _rate(scan: VideoScan) -> float:
    """Frames per second by the time stamps: the container's word counts the last frame's duration, often a guess."""
    if len(scan.times) < 2 or scan.times[-1] <= scan.times[0]:
        return scan.rate
    found = (len(scan.times) - 1) / float(scan.times[-1] - scan.times[0])
    for nominal in (scan.rate, round(found), round(found * 1.001) / 1.001):
        if nominal > 0 and abs(found / nominal - 1) < RATE_TOLERANCE:
            return float(nominal)
    return found


def _packets(scan: VideoScan, video: VideoFile) -> Iterator[Any]:
    try:
        yield from video.packets()
    except VideoError as error:
        # What came before the damage is known all the same.
        scan.problem = f"its end cannot be read ({error.reason})"


def _too_large(height: int, width: int, size: Size) -> str:
    return f"its header says {width}x{height}, declared are {size[1]}x{size[0]}: it is not decoded"


def _aligned(look: Look, pts: npt.NDArray[np.int64], shown: npt.NDArray[np.int64]) -> Look:
    """The looks in the packets' order, with NaN where a frame did not decode."""
    if np.array_equal(pts, shown):
        return look
    place = {int(value): i for i, value in enumerate(shown)}
    return look.placed(np.array([place.get(value, -1) for value in pts.tolist()], dtype=np.int64))


def scan_images(root: Path, path: Path, key: str, *, depth: bool = False, size: Size | None = None) -> VideoScan:
    """The images of one camera inside a table, as if they were a video; `times` count rows.

    `size` is the declared (height, width): large images of another are not decoded.
    """
    scan = VideoScan(path, codec="image", pix_fmt="rgb24")
    looker, places, number = Looker(), OwnFiles(root), 0
    try:
        file = parquet_file(path)
        rows = file.metadata.num_rows
        scan.times, scan.keys = np.arange(rows, dtype=np.float64), np.ones(rows, dtype=bool)
        scan.decoded, scan.by_path = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        scan.shapes = np.zeros((rows, 3), dtype=np.int64)
        for batch in file.iter_batches(batch_size=64, columns=[key]):
            for value in batch.column(key).to_pylist():  # KeyError where the table has no such column
                scan.by_path[number] = _only_here(value)
                try:
                    scan.shapes[number] = _look_at(_content(places, value), looker, depth, size)
                    scan.decoded[number] = True
                except ImageError as error:
                    if error.size is not None:
                        scan.shapes[number] = (*error.size, 3)
                    scan.refused[number] = str(error)
                    looker.skip()
                number += 1
    # LookupError: there is no such column, or more rows than the footer says.
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        scan.problem = reason_of(error)
        scan.refused[number] = scan.problem
    for _ in range(len(scan.times) - number):
        looker.skip()
    seen = scan.shapes[scan.shapes.all(axis=1)]
    if len(seen):
        scan.height, scan.width, _ = seen[-1].tolist()
    scan.look = looker.result()
    return scan


def _look_at(content: object, looker: Looker, depth: bool, size: Size | None) -> tuple[int, int, int]:
    """The (height, width, channels) of an image, decoded and looked at."""
    if size is not None and isinstance(content, bytes):
        found = header_size(content)
        if found is not None and found != size and found[0] * found[1] > _LARGE:
            raise ImageError(_too_large(*found, size), found)
    picture = decoded(content, depth=depth)
    shape = (picture.height, picture.width, len(picture.getbands()))
    if depth:
        looker.skip()
    else:
        looker.add(VideoFrame.from_ndarray(rgb(picture), format="rgb24"))
    return shape


def _content(places: OwnFiles, value: Any) -> Any:
    """The encoded image of a cell; of one that is only a path, the file's, where it lies in the dataset."""
    if not isinstance(value, dict):
        return value
    if value.get("bytes") is not None or not value.get("path"):
        return value.get("bytes")
    file = places.root / str(value["path"])
    try:
        if not places.why_not(file) and file.is_file() and file.stat().st_size <= _FILE_BYTES:
            return file.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"its file cannot be read: {reason_of(error)}") from error
    raise ImageError(f"it is a path to no image of the dataset: {shown(value['path'])}")


def _only_here(value: Any) -> bool:
    """Whether an image is a path: it is not found from everywhere, and no policy reads it."""
    return isinstance(value, dict) and value.get("bytes") is None and bool(value.get("path"))
