"""Copying packets into a new mp4 file: joined, or cut out, never decoded."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.media.video_file import VideoFile

from .packets import Clip


@dataclass(frozen=True)
class VideoSegment:
    """A clip of a source file, and the time in ticks at which its episode begins in the new file."""

    path: Path
    clip: Clip
    offset: int


def place(clip: Clip, fps: float, offset: int) -> int:
    """The end in ticks of an episode that begins at `offset`: where the next one may begin."""
    return offset + clip.lead + max(round(clip.frames / fps / float(clip.tick)), clip.last + clip.step)


def follows(before: VideoSegment, clip: Clip, offset: int) -> bool:
    """Whether a clip can come behind a piece in the same file: equal coding, decoding times in order."""
    last_decode = before.offset + before.clip.lead + before.clip.last_decode
    return clip.coding == before.clip.coding and offset + clip.lead + clip.first_decode > last_decode


def write_segments(target: Path, segments: Sequence[VideoSegment]) -> None:
    """Write the packets of the pieces, one after another, into a new mp4 file."""
    tick = segments[0].clip.tick
    options = {"movflags": "faststart"}
    if tick.numerator == 1:
        # Otherwise the writer picks a clock of its own.
        options["video_track_timescale"] = str(tick.denominator)
    try:
        with av.open(str(target), "w", format="mp4", options=options) as output:
            stream: Any = None
            for segment, source, packets in _sources(segments):
                if stream is None:
                    stream = output.add_stream_from_template(source, opaque=True)
                    stream.time_base = source.time_base
                shift = segment.offset + segment.clip.lead - segment.clip.first_pts
                for packet in packets:
                    packet.pts += shift
                    packet.dts = (packet.dts if packet.dts is not None else packet.pts - shift) + shift
                    packet.stream = stream
                    output.mux(packet)
    except (av.FFmpegError, ValueError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO, errno.EROFS, errno.EFBIG):
            raise OSError(number, os.strerror(number), str(target)) from error
        raise DatasetError(
            f"The packets of {segments[0].path} cannot be written as mp4: {error}.",
            expected="a codec that mp4 files can hold, such as h264, hevc or av1",
            fix="Run again with --reencode.",
        ) from error


def _sources(segments: Sequence[VideoSegment]) -> Iterator[tuple[VideoSegment, Any, Iterator[Any]]]:
    """Each piece with its stream and packets; neighboring pieces of one file are read on without a seek."""
    with ExitStack() as stack:
        path: Path | None = None
        video: VideoFile | None = None
        packets: Iterator[Any] | None = None
        reached = None
        for segment in segments:
            if video is None or segment.path != path:
                stack.close()
                video = stack.enter_context(VideoFile(segment.path))
                path, packets, reached = segment.path, None, None
            if packets is None or reached is None or segment.clip.first_dts <= reached:
                if packets is not None or segment.clip.first_pts > 0:
                    video.seek(segment.clip.first_dts)
                packets = video.packets()
            yield segment, video.stream, _take(segment, packets)
            reached = segment.clip.first_pts + segment.clip.last_decode


def _take(segment: VideoSegment, packets: Iterator[Any]) -> Iterator[Any]:
    clip, taken = segment.clip, 0
    for packet in packets:
        if packet.pts is None or packet.is_discard or packet.is_corrupt:
            continue
        if taken == 0 and packet.pts != clip.first_pts:
            continue
        yield packet
        taken += 1
        if taken == clip.frames:
            return
    raise DatasetError(
        f"The video {segment.path} changed while it was read.", expected="a dataset that nothing else writes to"
    )
