"""The control process's end of the camera process: cameras whose images lie in shared memory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smolpilot.common.errors import DeviceError
from smolpilot.contracts.camera import CameraSpec, CapturedImage
from smolpilot.runtime.cameras.shared_frames import SharedFrameReader, frames_file
from smolpilot.runtime.line_process import LineProcess
from smolpilot.runtime.setup.robot_setup import RobotSetup

from .camera_process import ShowCameras

_PATIENCE_S = 60.0


class SharedCamera:
    """One camera of the process: a Camera whose `newest_at` costs nothing."""

    def __init__(
        self, spec: CameraSpec, process: CameraProcess, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.spec, self._process, self._clock = spec, process, clock
        self._reader: SharedFrameReader | None = None
        self._latest: CapturedImage | None = None
        self._number = 0

    def connect(self) -> None:
        """Wait for the first image; DeviceError when the process has none."""
        if self._reader is None:
            self._reader = self._process.reader(self.spec.name)
            self._number = 0

    def newest_at(self) -> float:
        """When the newest image was captured, without copying it. DeviceError where the process or camera failed."""
        self._process.check(self.spec.name)
        stamp = None if self._reader is None else self._reader.newest_at()
        if stamp is None:
            raise DeviceError(f"Camera '{self.spec.name}' has shown nothing.")
        return min(stamp, self._clock())

    def latest(self) -> CapturedImage:
        """A copy of the newest image."""
        self._process.check(self.spec.name)
        frame = None if self._reader is None else self._reader.read(self._number)
        if frame is not None:
            self._latest = CapturedImage(frame.image, min(frame.captured_at, self._clock()))
            self._number = frame.number
        if self._latest is None:
            raise DeviceError(f"Camera '{self.spec.name}' has shown nothing.")
        return self._latest

    def disconnect(self) -> None:
        """Let go of the images; the process goes on for the others."""
        reader, self._reader, self._latest = self._reader, None, None
        if reader is not None:
            reader.close()


class CameraProcess:
    """Starts when the first of its cameras connects; `close` ends it."""

    def __init__(self, setup: RobotSetup, folder: Path, log: Path, frames: Callable[[], Path | None]) -> None:
        """folder: for the shared images; log: takes what the process prints; frames: the folder of a simulation's
        images, known once its driver is connected."""
        self._setup, self._folder, self._log, self._frames = setup, folder, log, frames
        self._process: LineProcess | None = None
        self._failed: dict[str, str] = {}
        self.unrecorded: str | None = None
        """Why images are no longer kept, where that is so."""

    def cameras(self, *, clock: Callable[[], float] = time.monotonic) -> dict[str, SharedCamera]:
        """The cameras of the setup, by name."""
        return {
            name: SharedCamera(device.options.spec(name), self, clock=clock)  # type: ignore[attr-defined]
            for name, device in self._setup.cameras.items()
        }

    @property
    def process(self) -> int | None:
        """The process's number, while there is one."""
        return None if self._process is None else self._process.number

    def reader(self, camera: str) -> SharedFrameReader:
        """The images of a camera, once the first of them is there."""
        self._start()
        deadline = time.monotonic() + _PATIENCE_S
        reader = SharedFrameReader(frames_file(self._folder, camera))
        while reader.newest_at() is None:
            self.check(camera)
            if time.monotonic() > deadline:
                reader.close()
                raise DeviceError(f"No image of camera '{camera}' came within {_PATIENCE_S:g} s.")
            time.sleep(0.005)
        return reader

    def check(self, camera: str) -> None:
        """DeviceError where the camera, or the process of all cameras, has failed."""
        self._listen()
        if (why := self._failed.get(camera)) is not None:
            raise DeviceError(why)
        if self._process is not None and self._process.ended is not None:
            raise DeviceError(f"The cameras' process {self._process.how_it_ended}.")

    def record(self, folder: Path | None) -> None:
        """Keep every image in this folder from now on; None: no longer."""
        if self._process is not None:
            self._process.write(json.dumps({"record": None if folder is None else str(folder)}))

    def close(self) -> None:
        """End the process; without effect where there is none."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _start(self) -> None:
        if self._process is not None:
            return
        module = "smolpilot.runtime.robot_run.camera_process"
        process = self._process = LineProcess([sys.executable, "-m", module], self._log)
        frames = self._frames()
        request = ShowCameras(
            setup=self._setup.to_yaml(), folder=str(self._folder), frames=None if frames is None else str(frames)
        )
        process.write(request.model_dump_json())
        deadline = time.monotonic() + _PATIENCE_S
        while not (said := self._listen()):
            if process.ended is not None:
                raise DeviceError("The cameras' process ended at once.", fix=f"see {self._log}")
            if time.monotonic() > deadline:
                raise DeviceError(f"The cameras were not ready within {_PATIENCE_S:g} s.")
            process.wait(0.5)
        if "refused" in said[0]:
            found, expected, fix = said[0]["refused"]
            self.close()
            raise DeviceError(found, expected=expected, fix=fix)

    def _listen(self) -> list[dict[str, Any]]:
        """What the process has said since; failures are noted."""
        lines = [] if self._process is None else self._process.lines()
        said: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for values in said:
            if "failed" in values:
                self._failed[values["failed"]] = values["why"]
            self.unrecorded = values.get("unrecorded", self.unrecorded)
        return said
