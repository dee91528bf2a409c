"""All cameras of a setup in a process of their own: their newest images in shared memory, and on disk while recorded.

Started by the control process (`shared_cameras.py`), so that decoding and compressing images takes no time from its
ticks. It ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pydantic

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts.camera import Camera, CapturedImage
from smolpilot.contracts.run_folder import frame_file, frames_folder
from smolpilot.runtime.cameras.shared_frames import SharedFrameWriter, frames_file
from smolpilot.runtime.setup.robot_setup import RobotSetup

from .protocol import end_with_input

_NAP_S = 0.002
JPEG_QUALITY = 95
"""Without subsampling of colors: what the video encoder gets afterwards is as good as what came."""


class ShowCameras(pydantic.BaseModel):
    """The first line to the process. setup: as YAML, whose relative paths are absolute already; frames: the folder of a
    simulation's images, for its cameras."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid")

    setup: str
    folder: str
    frames: str | None
    nice: int = 5


@dataclass
class _Driver:
    """What cameras of a simulation ask the driver for."""

    frames: Path | None


@dataclass
class _Shown:
    """A camera, where its images go, and when the newest was captured."""

    camera: Camera
    writer: SharedFrameWriter
    newest: CapturedImage | None = None
    failed: bool = False


def main() -> int:
    """Show images until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    end_with_input()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    first = sys.stdin.buffer.readline()
    if not first:
        return 0
    request = ShowCameras.model_validate_json(first)
    with contextlib.suppress(OSError):
        os.nice(request.nice)
    cameras: dict[str, Camera] = {}
    try:
        setup = RobotSetup.from_yaml(request.setup, name="setup")
        frames = None if request.frames is None else Path(request.frames)
        cameras = setup.make_cameras(_Driver(frames))  # type: ignore[arg-type]
        for camera in cameras.values():
            camera.connect()
    except SmolpilotError as error:
        _close(cameras)
        _say(answers, {"refused": [error.found, error.expected, error.fix]})
        return 0
    shown = {
        name: _Shown(camera, SharedFrameWriter(
            frames_file(Path(request.folder), name), camera.spec.height, camera.spec.width
        ))
        for name, camera in cameras.items()
    }  # fmt: skip
    try:
        _say(answers, {"ready": sorted(shown)})
        _Showing(shown, answers).run()
    finally:
        _close(cameras)
        for one in shown.values():
            one.writer.close()
    return 0


class _Showing:
    def __init__(self, shown: dict[str, _Shown], answers: IO[bytes]) -> None:
        self._shown, self._answers = shown, answers
        self._folder: Path | None = None
        self._rest = b""

    def run(self) -> None:
        """Until standard input ends."""
        while self._obey():
            for name, one in self._shown.items():
                self._show(name, one)

    def _obey(self) -> bool:
        """Wait a little for a line, and do what it says; False when there will be no more."""
        if not select.select([sys.stdin.buffer.fileno()], [], [], _NAP_S)[0]:
            return True
        more = os.read(0, 65_536)
        if not more:
            return False
        *lines, self._rest = (self._rest + more).split(b"\n")
        for line in lines:
            folder = json.loads(line)["record"]
            self._record(None if folder is None else Path(folder))
        return True

    def _record(self, folder: Path | None) -> None:
        self._folder = folder
        try:
            for name in self._shown if folder is not None else ():
                assert folder is not None
                frames_folder(folder, name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._unrecorded(error)
        for name, one in self._shown.items():  # what is seen now was captured before
            if self._folder is not None and one.newest is not None:
                self._keep(self._folder, name, one.newest)

    def _show(self, name: str, one: _Shown) -> None:
        if one.failed:
            return
        try:
            image = one.camera.latest()
            if one.newest is not None and image.captured_at <= one.newest.captured_at:
                return
            one.writer.write(image.image, image.captured_at)
        except Exception as error:  # of a camera of somebody else's: its image grows old, which stops the arm
            one.failed = True
            _say(self._answers, {"failed": name, "why": plain(getattr(error, "found", error), LIMIT)})
            return
        one.newest = image
        if self._folder is not None:
            self._keep(self._folder, name, image)

    def _keep(self, folder: Path, name: str, image: CapturedImage) -> None:
        from PIL import Image

        path = frame_file(folder, name, image.captured_at)
        part = path.with_suffix(".part")  # whoever is killed, or finds no room, leaves no half image
        try:
            Image.fromarray(image.image).save(part, "JPEG", quality=JPEG_QUALITY, subsampling=0)
            part.replace(path)
        except OSError as error:
            self._unrecorded(error)

    def _unrecorded(self, error: OSError) -> None:
        """A full disk, as a rule: the arm has to go on seeing."""
        self._folder = None
        _say(self._answers, {"unrecorded": plain(error, LIMIT)})


def _close(cameras: dict[str, Camera]) -> None:
    for camera in cameras.values():
        with contextlib.suppress(Exception):
            camera.disconnect()


def _say(answers: IO[bytes], values: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        answers.write(json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
