"""The camera of an environment: shared frames behind the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.contracts.registry import CAMERAS
from smolpilot.runtime.cameras.environment import EnvironmentCamera, EnvironmentCameraOptions
from smolpilot.runtime.cameras.shared_frames import SharedFrameWriter, frames_file

from ...contracts.helpers_devices import check_camera


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SharedFrameWriter]:
    with SharedFrameWriter(frames_file(tmp_path, "top"), 4, 6) as made:
        yield made


def camera_of(folder: Path | None, now: float = 10.0, **values: Any) -> EnvironmentCamera:
    options = {"device": folder and str(folder), "width": 6, "height": 4, "fps": 10.0, "timeout": 0.05, **values}
    return EnvironmentCamera.from_options("top", EnvironmentCameraOptions(**options), clock=lambda: now)


def test_it_is_a_camera(tmp_path: Path, writer: SharedFrameWriter) -> None:
    writer.write(np.full((4, 6, 3), 5, np.uint8), 9.0)
    check_camera(camera_of(tmp_path), lambda: 10.0)
    assert CAMERAS.get("environment") is EnvironmentCamera


def test_it_gives_the_newest_image_with_its_time_and_keeps_it(tmp_path: Path, writer: SharedFrameWriter) -> None:
    writer.write(np.full((4, 6, 3), 5, np.uint8), 9.0)
    camera = camera_of(tmp_path)
    camera.connect()
    first = camera.latest()
    assert (first.captured_at, int(first.image[0, 0, 0])) == (9.0, 5)
    assert camera.latest() is first
    writer.write(np.full((4, 6, 3), 6, np.uint8), 9.5)
    second = camera.latest()
    assert (second.captured_at, int(second.image[0, 0, 0]), int(first.image[0, 0, 0])) == (9.5, 6, 5)
    writer.close()  # the emulator is gone: the image grows old
    assert camera.latest() is second
    camera.disconnect()


def test_an_image_is_never_from_the_future(tmp_path: Path, writer: SharedFrameWriter) -> None:
    writer.write(np.zeros((4, 6, 3), np.uint8), 10.001)
    camera = camera_of(tmp_path)
    camera.connect()
    assert camera.latest().captured_at == 10.0
    camera.disconnect()


def test_the_frames_of_the_driver_may_be_given_later(tmp_path: Path, writer: SharedFrameWriter) -> None:
    writer.write(np.zeros((4, 6, 3), np.uint8), 9.0)
    camera = camera_of(None)
    with pytest.raises(DeviceError, match="does not know whose images"):
        camera.connect()
    camera.frames = tmp_path
    camera.connect()
    assert camera.latest().captured_at == 9.0
    camera.disconnect()


def test_another_size_is_refused_with_both(tmp_path: Path, writer: SharedFrameWriter) -> None:
    with pytest.raises(DeviceError, match=r"gives 6x4 pixels.\nExpected: 640x4"):
        camera_of(tmp_path, width=640).connect()


def test_without_an_emulator_or_an_image_it_says_so(tmp_path: Path, writer: SharedFrameWriter) -> None:
    with pytest.raises(DeviceError, match=r"No image of camera 'top' came within 0.05 s"):
        camera_of(tmp_path).connect()
    with pytest.raises(DeviceError, match=r"Is the emulator running\?"):
        camera_of(tmp_path / "none").connect()
    writer.close()
    with SharedFrameWriter(frames_file(tmp_path, "side"), 4, 6), pytest.raises(DeviceError, match="has side"):
        camera_of(tmp_path).connect()
