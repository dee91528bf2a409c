"""The packets of a video file, episode by episode: what they are, and whether they can be copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash
from av.video.frame import VideoFrame

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.media.video import nearest
from smolpilot.datasets.media.video_file import VideoError, VideoFile

_HALF = 0.4


@dataclass(frozen=True)
class Span:
    """An episode's place in a video file: seconds of its start and, where known, of the next episode's start."""

    episode: int
    start: float
    stop: float | None
    length: int


@dataclass(frozen=True)
class Coding:
    """Everything that has to be equal for packets to follow one another in one file."""

    codec: str
    extradata: str
    width: int
    height: int
    pix_fmt: str
    time_base: str
    color: str

    def differs_in(self, other: Coding) -> list[str]:
        """Names of the parameters that are not equal."""
        mine, theirs = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != theirs[name]]


@dataclass(frozen=True)
class Clip:
    """The packets of one episode in one file. Times are ticks of the file's time base.

    `first_pts` and `first_dts` locate the packets; `lead` is the time from the episode's start to its first frame;
    `last` and `first_decode`, `last_decode` are relative to the first frame. `digest` is a hash of every packet's
    content and time stamp relative to the first frame's; `off_grid` the largest distance in seconds of a frame from the
    constant rate; `problem` says why the packets cannot be copied, or nothing;
    `others` counts the file's streams beside the image (sound). `first_packet` and `last_packet` are its places in
    the file's decoding order, `next_pts` is the frame behind it (None: it is the last); `ordered` says that nothing
    but other episodes' packets is in the way of a copy: together with its neighbors it can be copied. `key`: it begins
    with a key frame.
    """

    coding: Coding
    frames: int
    size: int
    first_pts: int
    first_dts: int
    lead: int
    last: int
    first_decode: int
    last_decode: int
    step: int
    off_grid: float
    digest: str
    problem: str
    others: int
    first_packet: int
    last_packet: int
    next_pts: int | None
    ordered: bool
    key: bool

    @property
    def tick(self) -> Fraction:
        """Seconds of one tick."""
        return Fraction(self.coding.time_base)


@dataclass(frozen=True)
class Packets:
    """All packets of a file in decoding order: time stamps, key frame flags, sizes, and content hashes.

    XXH3 of 128 bits: what is looked for is damage, not an attack, and it is as fast as memory.
    """

    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    size: npt.NDArray[np.int64]
    digests: list[bytes]
    coding: Coding
    others: int

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """Their places by the time at which they are shown, sorted once for all episodes of the file."""
        return np.argsort(self.pts, kind="stable")

    @cached_property
    def shown(self) -> npt.NDArray[np.int64]:
        """The time stamps, sorted."""
        return self.pts[self.order]

    def inside(self, first: int, last: int) -> npt.NDArray[np.intp]:
        """Places in decoding order of the packets that are shown from `first` to `last`."""
        begin, end = np.searchsorted(self.shown, first), np.searchsorted(self.shown, last, side="right")
        return np.sort(self.order[begin:end])


def coding_of(video: VideoFile) -> Coding:
    """What a video stream is made of."""
    context = video.context
    color = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
    return Coding(
        codec=video.codec,
        extradata=bytes(context.extradata or b"").hex(),
        width=video.width,
        height=video.height,
        pix_fmt=video.pix_fmt,
        time_base=str(video.time_base),
        color="/".join(str(int(part)) for part in color),
    )


def read_packets(path: Path) -> Packets:
    """Read and hash every packet of a file, without decoding."""
    rows: list[tuple[int, int, bool, int]] = []
    digests: list[bytes] = []
    with VideoFile(path) as video:
        for packet in video.packets():
            if packet.pts is None or packet.is_discard or packet.is_corrupt:
                continue
            dts = packet.dts if packet.dts is not None else packet.pts
            rows.append((packet.pts, dts, packet.is_keyframe, packet.size))
            digests.append(xxhash.xxh3_128_digest(packet))
        coding, others = coding_of(video), video.others
    if not rows:
        raise VideoError(path, "it holds no frames")
    columns = np.array(rows, dtype=np.int64).T
    return Packets(columns[0], columns[1], columns[2].astype(np.bool_), columns[3], digests, coding, others)


def clips_of(path: Path, packets: Packets, spans: Sequence[Span], starts: Sequence[float], fps: float) -> list[Clip]:
    """The clip of each span, in the order given; `starts` are those of all episodes in the file, in seconds.

    An episode reaches to the start of the next one: frames beyond its rows stay with it. Raises DatasetError for an
    episode with fewer frames than rows.
    """
    tick = float(Fraction(packets.coding.time_base))
    shown = packets.shown
    seconds = shown * tick
    begins = nearest(seconds, np.array([start for start in starts if start > 0]))
    bounds = np.append(np.unique(begins), len(shown))
    clips = []
    for span in spans:
        begin = int(nearest(seconds, span.start)) if span.start > 0 else 0
        bound = end = int(bounds[np.searchsorted(bounds, begin, side="right")])
        if span.stop is not None:
            stop = int(np.searchsorted(seconds, span.stop - _HALF / fps))
            end = min(end, max(stop, begin + span.length))
        if end - begin < span.length:
            raise DatasetError(
                f"The video {path} has {end - begin} frames for the {span.length} rows of episode {span.episode}.",
                expected="one video frame per row",
                fix="See `smolpilot dataset check`; `smolpilot dataset repair` or `exclude` leaves the episode out.",
            )
        clip = _clip(packets, span, begin, end, fps)
        if clip.problem and end < bound:
            # Frames behind the last row, which others need to be decoded: they stay.
            whole = _clip(packets, span, begin, bound, fps)
            clip = clip if whole.problem else whole
        clips.append(clip)
    return clips


def packet_rows(packets: Packets, clip: Clip) -> list[tuple[int, bytes]]:
    """(nanoseconds since the first frame, content hash) of each packet of a clip, in decoding order."""
    inside = packets.inside(clip.first_pts, clip.first_pts + clip.last)
    nanoseconds = _nanoseconds(packets.pts[inside] - clip.first_pts, clip.tick)
    return [(when, packets.digests[i]) for when, i in zip(nanoseconds, inside, strict=True)]


def clip_frames(video: VideoFile, clip: Clip) -> Iterator[VideoFrame]:
    """The frames of a clip, decoded from where the file stands; fewer where it ends."""
    shown = (frame for frame in video.frames() if frame.pts is not None and frame.pts >= clip.first_pts)
    return islice(shown, clip.frames)


def _clip(packets: Packets, span: Span, begin: int, end: int, fps: float) -> Clip:
    tick, all_shown = Fraction(packets.coding.time_base), packets.shown
    shown = all_shown[begin:end]
    first, last = int(shown[0]), int(shown[-1])
    inside = packets.inside(first, last)
    dts = packets.dts[inside]
    lead = round(first - span.start / float(tick))
    # A start that is off by less than half a frame is a rounded number, not a pause before the first frame.
    lead = lead if lead * tick > _HALF / fps else 0
    digest = xxhash.xxh3_128(np.array(_nanoseconds(packets.pts[inside] - first, tick)).tobytes())
    digest.update(b"".join(packets.digests[i] for i in inside))
    key = bool(packets.key[inside[0]]) and int(packets.pts[inside[0]]) == first
    problem = disorder = _disorder(packets, inside, len(shown))
    if not key:
        problem = "it does not begin with a key frame"
    elif int(inside[-1]) - int(inside[0]) + 1 != len(inside):
        problem = "its packets lie among those of another episode"
    step = _middle(np.diff(shown)) if len(shown) > 1 else round(1 / fps / float(tick))
    return Clip(
        coding=packets.coding,
        frames=len(shown),
        size=int(packets.size[inside].sum()),
        first_pts=first,
        first_dts=int(dts[0]),
        lead=lead,
        last=last - first,
        first_decode=int(dts[0]) - first,
        last_decode=int(dts[-1]) - first,
        step=max(step, 1),
        off_grid=float(np.abs((shown - first) * float(tick) - np.arange(len(shown)) / fps)[: span.length].max()),
        digest=digest.hexdigest(),
        problem=problem,
        others=packets.others,
        first_packet=int(inside[0]),
        last_packet=int(inside[-1]),
        next_pts=int(all_shown[end]) if end < len(all_shown) else None,
        ordered=not disorder,
        key=key,
    )


def _disorder(packets: Packets, inside: npt.NDArray[np.intp], frames: int) -> str:
    if len(inside) != frames or len(np.unique(packets.pts[inside])) != frames:
        return "two of its frames have the same time stamp"
    if (np.diff(packets.dts[inside]) <= 0).any() or (packets.dts[inside] > packets.pts[inside]).any():
        return "its decoding times are out of order"
    return ""


def _nanoseconds(ticks: npt.NDArray[np.int64], tick: Fraction) -> list[int]:
    """Whole nanoseconds: comparable between files of different time bases."""
    scale, unit = 10**9 * tick.numerator, tick.denominator
    return [(2 * int(value) * scale + unit) // (2 * unit) for value in ticks]


def _middle(values: npt.NDArray[np.int64]) -> int:
    """The median, or the mean of the two middle values: `np.median` would load all of `numpy.ma`."""
    ordered, half = np.sort(values), len(values) // 2
    return int(ordered[half]) if len(values) % 2 else int((ordered[half - 1] + ordered[half]) / 2)
