"""The cameras' process: images in shared memory, kept while recorded, and what is said when one fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolpilot.common.errors import DeviceError
from smolpilot.contracts.run_folder import frame_file
from smolpilot.runtime.governed_robot import captured_at
from smolpilot.runtime.robot_run.shared_cameras import CameraProcess, SharedCamera
from smolpilot.runtime.setup.robot_setup import RobotSetup

from ..cameras.helpers_video import number_of, write_video


@contextmanager
def cameras(folder: Path, **options: Any) -> Iterator[tuple[CameraProcess, SharedCamera]]:
    """A camera that plays a video of 20 frames, 10 a second."""
    video = write_video(folder / "front.mp4")
    front = {"type": "file", "device": str(video), "width": 64, "height": 48, "fps": 10} | options
    text = f"profile: so101\ndriver: {{type: emulated}}\ncameras: {{front: {front}}}\n"
    shared = folder / "shared"
    shared.mkdir()
    made = CameraProcess(RobotSetup.from_yaml(text, name="arm"), shared, folder / "cameras.log", lambda: None)
    try:
        yield made, made.cameras()["front"]
    finally:
        made.close()


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_images_come_with_their_time_and_the_time_alone_costs_no_image(tmp_path: Path) -> None:
    with cameras(tmp_path) as (process, camera):
        camera.connect()
        first = camera.latest()
        assert first.image.shape == (48, 64, 3)
        until(lambda: camera.newest_at() > first.captured_at + 0.15)
        newest = captured_at(camera)
        assert newest <= time.monotonic()
        assert camera._latest is first, "nothing was copied for it"
        assert number_of(camera.latest().image) > number_of(first.image)
        camera.disconnect()
        assert process.process is not None


def test_while_it_records_every_image_is_kept_under_its_time(tmp_path: Path) -> None:
    kept = tmp_path / "frames"
    with cameras(tmp_path) as (process, camera):
        camera.connect()
        process.record(kept)
        seen: dict[float, np.ndarray[Any, Any]] = {}

        def three() -> bool:
            image = camera.latest()
            if frame_file(kept, "front", image.captured_at).is_file():
                seen[image.captured_at] = image.image
            return len(seen) >= 3

        until(three)
        process.record(None)
        time.sleep(0.3)
        count = len(list(kept.rglob("*.jpg")))
        time.sleep(0.5)
        assert len(list(kept.rglob("*.jpg"))) == count
    for at, image in seen.items():
        with Image.open(frame_file(kept, "front", at)) as saved:
            assert np.abs(np.asarray(saved).astype(int) - image).max() <= 3


def test_a_camera_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with cameras(tmp_path, width=32) as (_, camera), pytest.raises(DeviceError, match="64x48"):
        camera.connect()


def test_a_frozen_camera_grows_old(tmp_path: Path) -> None:
    with cameras(tmp_path, freeze_after=0.3) as (_, camera):
        camera.connect()
        until(lambda: time.monotonic() - camera.newest_at() > 0.6)
        last = camera.newest_at()
        time.sleep(0.3)
        assert camera.newest_at() == last


def test_a_process_that_is_killed_is_named(tmp_path: Path) -> None:
    with cameras(tmp_path) as (process, camera):
        camera.connect()
        assert process.process is not None
        os.kill(process.process, signal.SIGKILL)

        def gone() -> bool:
            try:
                camera.newest_at()
            except DeviceError as error:
                return "The cameras' process was killed by SIGKILL." in error.found
            return False

        until(gone)
        with pytest.raises(DeviceError, match="was killed by SIGKILL"):
            camera.latest()


def test_a_disk_that_is_full_ends_the_recording_and_not_the_camera(tmp_path: Path) -> None:
    kept = tmp_path / "frames"
    with cameras(tmp_path) as (process, camera):
        camera.connect()
        folder = frame_file(kept, "front", 0).parent
        folder.parent.mkdir()
        folder.symlink_to("/dev/full")  # no folder: nothing can be written there
        process.record(kept)
        before = camera.newest_at()
        until(lambda: camera.newest_at() > before + 0.3)
        assert process.unrecorded is not None
        assert str(folder) in process.unrecorded
