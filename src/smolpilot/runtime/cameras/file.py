"""FileCamera: a video that plays in real time, as a camera gives its images; and what goes wrong with cameras."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic

from smolpilot.common.errors import DeviceError
from smolpilot.common.text import plain
from smolpilot.contracts.camera import CameraSpec, CapturedImage
from smolpilot.contracts.observation import Image

from .camera_options import CameraOptions
from .video_frames import VideoFrame, check_video, video_frames

_AHEAD = 8  # images that are decoded before their time
_PATIENCE = 30.0  # seconds for the first image
_NAP = 0.002


class FileCameraOptions(CameraOptions):
    """`device`: the path of a video that PyAV opens, of just this size; `fps` images a second are taken of it."""

    device: Annotated[str, pydantic.Field(min_length=1)]
    loop: bool = True
    """Begin anew at its end; else the last image stays, and grows old."""
    freeze_after: Annotated[float, pydantic.Field(ge=0)] | None = None
    """Seconds after which no further image comes."""
    drop: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0
    """Share of the images that never come."""
    late: Annotated[float, pydantic.Field(ge=0)] = 0.0
    """Seconds that each image but the first takes to come."""
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    """From which it is drawn which images never come."""


class FileCamera:
    """The video starts at `connect`: image n is what it shows after n / fps seconds, captured at that time.

    A thread decodes ahead, so that `latest` never waits for it. An image that is missing is one that does not come:
    the one before it grows older. `failure`: why the video could not be read on, after which it is the same.
    """

    Options = FileCameraOptions

    def __init__(
        self, spec: CameraSpec, options: FileCameraOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.spec, self.failure = spec, ""
        self._options, self._clock = options, clock
        self._path = Path(options.device).expanduser()
        self._lock = threading.Lock()
        self._waiting: deque[tuple[float, CapturedImage]] = deque()  # when it comes, and what
        self._latest: CapturedImage | None = None
        self._first, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def from_options(
        cls, name: str, options: FileCameraOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> FileCamera:
        """The camera that a setup means."""
        return cls(options.spec(name), options, clock=clock)

    def connect(self) -> None:
        """Start the video. DeviceError for a file that is missing, is no video, or has another size than `spec`."""
        if self._thread is not None:
            return
        check_video(self._path, self.spec)
        self.failure = ""
        self._first.clear()
        self._closing.clear()
        self._thread = threading.Thread(target=self._play, name=f"camera {self.spec.name}", daemon=True)
        self._thread.start()
        came = self._first.wait(_PATIENCE)
        if self._latest is None:
            reason = self.failure or "it has no image" if came else f"none within {_PATIENCE:g} s"
            self.disconnect()
            raise DeviceError(f"Camera '{self.spec.name}' got no image of {plain(self._path)}: {reason}.")

    def latest(self) -> CapturedImage:
        """The newest image that has come by now."""
        with self._lock:
            self._come()
            if self._thread is None or self._latest is None:
                raise DeviceError(f"Camera '{self.spec.name}' is not connected.")
            return self._latest

    def disconnect(self) -> None:
        """Stop the video; without effect where it is stopped."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._closing.set()
        thread.join()
        with self._lock:
            self._waiting.clear()
            self._latest = None

    def _come(self) -> None:
        """Take what has come by now; with the lock held."""
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            self._latest = self._waiting.popleft()[1]

    def _play(self) -> None:
        """In the thread: decode images until a few wait for their time, and go on as it passes."""
        import av

        try:
            for due, image in self._images():
                with self._lock:
                    self._waiting.append((due, image))
                    if self._latest is None:
                        self._latest = image
                self._first.set()
                while not self._closing.is_set():
                    with self._lock:
                        self._come()
                        if len(self._waiting) < _AHEAD:
                            break
                    self._closing.wait(_NAP)
                if self._closing.is_set():
                    return
        except (DeviceError, OSError, av.error.FFmpegError) as error:
            self.failure = plain(error, 300)
        finally:
            self._first.set()

    def _images(self) -> Iterator[tuple[float, CapturedImage]]:
        """When each image comes, and the image; those that are superseded by then are left out."""
        options, chance = self._options, random.Random(self._options.seed)
        start: float | None = None
        shown: tuple[VideoFrame, Image] | None = None
        for number, frame in self._ticks():
            if self._closing.is_set():
                return
            start = self._clock() if start is None else start
            since = number / self.spec.fps
            if options.freeze_after is not None and since >= options.freeze_after and number:
                return
            dropped = chance.random() < options.drop
            come = start + since + (options.late if number else 0.0)
            if number and (dropped or come + 1 / self.spec.fps <= self._clock()):
                continue
            if shown is None or shown[0] is not frame:
                shown = frame, np.asarray(frame.picture.to_ndarray(format="rgb24"), np.uint8)
            yield come, CapturedImage(shown[1], start + since)

    def _ticks(self) -> Iterator[tuple[int, VideoFrame]]:
        """Number of each image, from 0, and the frame that the video shows then."""
        number, before, length = 0, None, 0.0
        for frame in video_frames(self._path, loop=self._options.loop):
            while before is not None and number / self.spec.fps < frame.at - 1e-6:
                yield number, before
                number += 1
            before, length = frame, frame.until
        while before is not None and number / self.spec.fps < length - 1e-6:
            yield number, before
            number += 1
