"""EnvironmentCamera: the images of a simulation that an emulated arm moves, from its shared frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from smolpilot.common.errors import DeviceError
from smolpilot.common.text import plain
from smolpilot.contracts.camera import CameraSpec, CapturedImage

from .camera_options import CameraOptions
from .shared_frames import SharedFrameReader, frames_file

_POLL = 0.01


class EnvironmentCameraOptions(CameraOptions):
    """`device`: the folder of shared frames, as `smolpilot robot emulate` prints it; None: that of the setup's driver.
    `timeout`: seconds that `connect` waits for the first image."""

    device: str | None = None
    timeout: float = 10.0


class EnvironmentCamera:
    """`frames` may be set until `connect`: to `EmulatedArm.frames` where the options name no device."""

    Options = EnvironmentCameraOptions

    def __init__(
        self,
        spec: CameraSpec,
        frames: Path | None,
        *,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec, self.frames = spec, frames
        self._timeout, self._clock = timeout, clock
        self._reader: SharedFrameReader | None = None
        self._latest: CapturedImage | None = None
        self._number = 0

    @classmethod
    def from_options(
        cls, name: str, options: EnvironmentCameraOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> EnvironmentCamera:
        """The camera that a setup means."""
        frames = None if options.device is None else Path(options.device).expanduser()
        return cls(options.spec(name), frames, timeout=options.timeout, clock=clock)

    def connect(self) -> None:
        """Wait for the first image; DeviceError when none comes, or of another size than `spec`."""
        if self._reader is not None:
            return
        if self.frames is None:
            raise DeviceError(
                f"Camera '{self.spec.name}' does not know whose images it shows.",
                expected="an emulated arm in an environment, or `device`: the folder of its frames",
            )
        path = frames_file(self.frames, self.spec.name)
        reader = self._opened(path)
        try:
            if (reader.height, reader.width) != (self.spec.height, self.spec.width):
                raise DeviceError(
                    f"Camera '{self.spec.name}' of the environment gives {reader.width}x{reader.height} pixels.",
                    expected=f"{self.spec.width}x{self.spec.height}, as the setup says",
                )
            self._reader, self._number = reader, 0
            deadline = time.monotonic() + self._timeout
            while not self._take():
                if time.monotonic() > deadline:
                    raise self._nothing_comes(path)
                time.sleep(_POLL)
        except BaseException:
            self._reader = None
            reader.close()
            raise

    def latest(self) -> CapturedImage:
        """The newest image that the emulator has shown, however old."""
        if self._reader is None or self._latest is None:
            raise DeviceError(f"Camera '{self.spec.name}' is not connected.")
        self._take()
        return self._latest

    def disconnect(self) -> None:
        """Let go of the frames."""
        reader, self._reader, self._latest = self._reader, None, None
        if reader is not None:
            reader.close()

    def _take(self) -> bool:
        """Take the newest image over, if there is a newer one; whether there is any."""
        if self._reader is not None and (frame := self._reader.read(self._number)) is not None:
            # The emulator's clock may be a hair ahead of when it says so, never of now.
            self._latest = CapturedImage(frame.image, min(frame.captured_at, self._clock()))
            self._number = frame.number
        return self._latest is not None

    def _opened(self, path: Path) -> SharedFrameReader:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return SharedFrameReader(path)
            except FileNotFoundError:
                if time.monotonic() > deadline:
                    raise self._nothing_comes(path) from None
                time.sleep(_POLL)

    def _nothing_comes(self, path: Path) -> DeviceError:
        known = sorted(found.stem for found in path.parent.glob("*.frames")) if path.parent.is_dir() else []
        return DeviceError(
            f"No image of camera '{self.spec.name}' came within {self._timeout:g} s ({plain(path)}).",
            expected="an emulated arm that runs in an environment with this camera",
            fix=f"The environment has {', '.join(known)}." if known else "Is the emulator running?",
        )
