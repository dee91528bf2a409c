"""Opening a video: the one place where FFmpeg gets at a file, and only at what recorders write.

FFmpeg knows hundreds of formats, among them playlists that name other files and addresses. Here it is told which
container a file is in, which decoders it may use, and that nothing but this file is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
from av.video.frame import VideoFrame

from smolpilot.common.errors import DatasetError
from smolpilot.common.text import plain
from smolpilot.datasets.format.files import GET_AGAIN, dataset_root, is_whole, repair_advice

from .file_kinds import MAX_PIXELS, kind_of, kind_words, size_words

CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4")
"""LeRobot writes the first three, with whatever encoder; the others come from older and other recorders."""
_DECODERS = "h264,hevc,av1,libdav1d,libaom-av1,vp9,libvpx-vp9,mpeg4"
# LeRobot writes mp4 (mov is the same to FFmpeg); mkv (and webm) is what other recorders write.
_CONTAINERS = {"mp4": "mp4", "mkv": "matroska"}
_HEAD = 256


class VideoError(DatasetError):
    """A video file that cannot be opened or decoded; `reason` says why, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason.rstrip(".")
        super().__init__(
            f"The video file {path} is torn or cannot be decoded: {self.reason}.",
            expected="a complete video (a crash while recording leaves an mp4 without its index)",
            fix=repair_advice(dataset_root(path), "leaves its episodes out")
            + f" `smolpilot doctor` tests the codecs; {GET_AGAIN}",
        )
        self._made_of = (path, reason)

    def __reduce__(self) -> tuple[type[VideoError], tuple[Path, str]]:
        # Errors of worker processes cross over to the one that shows them.
        return VideoError, self._made_of


class VideoFile:
    """An open video file and its first video stream; a context manager.

    Raises VideoError for whatever FFmpeg stumbles over, here and in all methods; DatasetError for a file that is not
    there. `width`, `height` and `codec` are those of the header, and checked: no frame has been decoded for them.
    """

    def __init__(self, path: Path) -> None:
        is_whole(path, "video file")
        self.path = path
        self.container = _opened(path)
        try:
            self._look()
        except VideoError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise VideoError(path, reason_of(error)) from error

    def _look(self) -> None:
        streams = self.container.streams
        if not streams.video:
            raise VideoError(self.path, "it holds no video stream")
        self.stream: Any = streams.video[0]
        self.others = len(streams) - 1
        self.context: Any = self.stream.codec_context
        self.codec = self.context.codec.canonical_name if self.context is not None else "something that FFmpeg lacks"
        if self.codec not in CODECS:
            words = f"its video is coded as {plain(self.codec, 40)}; {', '.join(CODECS)} are decoded"
            raise VideoError(self.path, words)
        self.width, self.height = int(self.context.width), int(self.context.height)
        if not self.width or not self.height:
            raise VideoError(self.path, "its header states no size")
        if self.width * self.height > MAX_PIXELS:
            raise VideoError(self.path, size_words(self.width, self.height))
        if not self.stream.time_base:
            raise VideoError(self.path, "its header states no unit of time")
        self.time_base: Fraction = self.stream.time_base
        self.pix_fmt = str(self.context.pix_fmt)
        self.rate = float(self.stream.average_rate or 0)
        # A stream may change its size on the way.
        self.context.options = {"max_pixels": str(MAX_PIXELS)}

    def packets(self) -> Iterator[Any]:
        """The packets of the video stream, in decoding order from where the file stands."""
        return _guarded(self.path, self.container.demux(self.stream))

    def frames(self) -> Iterator[VideoFrame]:
        """The decoded frames, all of the header's size."""
        for frame in _guarded(self.path, self.container.decode(self.stream)):
            self.check(frame)
            yield frame

    def check(self, frame: VideoFrame) -> None:
        """Refuse a frame of another size than the header's."""
        if (frame.width, frame.height) != (self.width, self.height):
            words = f"a frame has {frame.width}x{frame.height} pixels, its header says {self.width}x{self.height}"
            raise VideoError(self.path, words)

    def seek(self, dts: int) -> None:
        """Go to the last key frame that is decoded at or before a time, in ticks."""
        try:
            self.container.seek(dts, stream=self.stream, backward=True, any_frame=False)
        except Exception as error:
            raise VideoError(self.path, reason_of(error)) from error

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reason_of(error: Exception) -> str:
    """The cause in words, without the error number and the path that FFmpeg puts around it."""
    text = getattr(error, "strerror", None) or str(error)
    return plain(str(text).splitlines()[0], 160) if text else type(error).__name__


def _opened(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    container = _CONTAINERS.get(kind_of(head))
    if container is None:
        raise VideoError(path, f"it is {kind_words(head)}; mp4 (mov) and mkv (webm) are read")
    try:
        return av.open(
            str(path.absolute()),
            format=container,
            # Nobody reads a video's title: its bytes may be no text.
            metadata_errors="replace",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": f"{container},mov,webm",
                "codec_whitelist": _DECODERS,
                "max_pixels": str(MAX_PIXELS),
            },
        )
    except Exception as error:
        raise VideoError(path, reason_of(error)) from error


def _guarded[T](path: Path, items: Iterable[T]) -> Iterator[T]:
    """The items that FFmpeg gives. Its wrapper raises more than its own errors: of values, indices, texts, memory."""
    source = iter(items)
    while True:
        try:
            item = next(source)
        except StopIteration:
            return
        except Exception as error:
            raise VideoError(path, reason_of(error)) from error
        yield item
