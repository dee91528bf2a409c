"""The frames of a video, one after the other, each with its time; PyAV is loaded when one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from smolpilot.common.errors import DeviceError, explain
from smolpilot.common.text import plain
from smolpilot.contracts.camera import CameraSpec

if TYPE_CHECKING:
    from av import VideoFrame as Picture
    from av.container import InputContainer


class VideoFrame(NamedTuple):
    """A frame and from when to when it is shown, in seconds since the start (of the first round, when it loops)."""

    picture: Picture
    at: float
    until: float


class VideoFormat(NamedTuple):
    """Width and height in pixels, images per second."""

    width: int
    height: int
    fps: float


def video_format(path: Path) -> VideoFormat:
    """What a video has; DeviceError for a file that is missing or is no video."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        return VideoFormat(stream.width, stream.height, float(stream.average_rate or 30))


def check_video(path: Path, spec: CameraSpec) -> None:
    """DeviceError for a file that is missing, is no video, or has images of another size than the camera's."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        if (stream.height, stream.width) != (spec.height, spec.width):
            raise DeviceError(
                f"The video {plain(path)} has {stream.width}x{stream.height} pixels.",
                expected=f"{spec.width}x{spec.height}, as camera '{spec.name}' is said to have",
                fix="change the camera's width and height, or take another video",
            )


def video_frames(path: Path, *, loop: bool) -> Iterator[VideoFrame]:
    """All frames in order; again and again with `loop`. PyAV's FFmpegError where the video is damaged."""
    start = 0.0
    while True:
        end = start
        with _opened(path) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1  # the control loop needs the others
            length = 1 / float(stream.average_rate or 30)
            first: float | None = None
            for picture in container.decode(stream):
                own = end - start if picture.time is None else picture.time
                first = own if first is None else first
                at = start + own - first
                end = at + length
                yield VideoFrame(picture, at, end)
        if not loop or end == start:
            return
        start = end


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    import av

    if not path.is_file():
        raise DeviceError(f"The video {plain(path)} does not exist or is no file.", fix="Check `device`.")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise DeviceError(f"{plain(path)} cannot be opened as a video: {plain(error, 200)}.") from None
    except OSError as error:
        refusal = explain(error)
        raise DeviceError(refusal.found, fix=refusal.fix) from None
    with container:
        if not container.streams.video:
            raise DeviceError(f"{plain(path)} has no video in it.", expected="a video file")
        yield container
