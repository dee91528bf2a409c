"""A video as a camera: paced by a clock, and with the faults of cameras."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.contracts.camera import Camera
from smolpilot.contracts.registry import CAMERAS
from smolpilot.runtime.cameras.file import FileCamera, FileCameraOptions

from ...contracts.helpers_devices import check_camera
from .helpers_video import comes, number_of, write_video


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def camera_of(path: Path, clock: Clock, **options: Any) -> FileCamera:
    values = {"device": str(path), "width": 64, "height": 48, "fps": 10.0, **options}
    return FileCamera.from_options("front", FileCameraOptions(**values), clock=clock)


def at(camera: Camera, clock: Clock, seconds: float) -> tuple[int, float]:
    """The frame's number and its age, that many seconds after the start, once the thread has come so far."""
    clock.now = 50.0 + seconds
    due = np.floor(seconds * camera.spec.fps + 1e-6) / camera.spec.fps
    found = comes(camera, lambda image: image.captured_at >= 50.0 + due - 1e-6)
    return number_of(found.image), round(found.age(clock.now), 3)


def test_it_is_a_camera(tmp_path: Path) -> None:
    clock = Clock()
    camera = camera_of(write_video(tmp_path / "a.mp4"), clock)
    check_camera(camera, clock)
    camera.connect()  # and again
    assert camera.latest().captured_at == 50.0
    camera.disconnect()
    assert CAMERAS.get("file") is FileCamera


def test_it_shows_what_the_video_shows_at_that_time(tmp_path: Path) -> None:
    clock = Clock()
    camera = camera_of(write_video(tmp_path / "a.mp4"), clock)
    camera.connect()
    assert number_of(camera.latest().image) == 0
    assert [at(camera, clock, seconds) for seconds in (0.09, 0.1, 0.55, 1.9)] == [
        (0, 0.09), (1, 0.0), (5, 0.05), (19, 0.0)
    ]  # fmt: skip
    camera.disconnect()


def test_the_same_image_is_the_same_until_the_next_comes(tmp_path: Path) -> None:
    clock = Clock()
    camera = camera_of(write_video(tmp_path / "a.mp4"), clock)
    camera.connect()
    first = camera.latest()
    clock.now += 0.099
    assert camera.latest() is first
    camera.disconnect()


@pytest.mark.parametrize(("fps", "found"), [(5.0, [0, 0, 2, 4, 10]), (20.0, [0, 1, 3, 5, 11])])
def test_another_rate_takes_the_images_of_these_times(tmp_path: Path, fps: float, found: list[int]) -> None:
    clock = Clock()
    camera = camera_of(write_video(tmp_path / "a.mp4"), clock, fps=fps)
    camera.connect()
    assert [at(camera, clock, seconds)[0] for seconds in (0.0, 0.16, 0.35, 0.56, 1.15)] == found
    camera.disconnect()


def test_it_begins_anew_or_its_last_image_grows_old(tmp_path: Path) -> None:
    path, clock = write_video(tmp_path / "a.mp4"), Clock()
    camera = camera_of(path, clock)
    camera.connect()
    assert [at(camera, clock, seconds) for seconds in (1.95, 2.0, 2.3, 4.1)] == [(19, 0.05), (0, 0.0), (3, 0.0), (1, 0)]
    camera.disconnect()

    clock = Clock()
    camera = camera_of(path, clock, loop=False)
    camera.connect()
    assert at(camera, clock, 1.95) == (19, 0.05)
    clock.now = 58.0
    last = camera.latest()
    assert (number_of(last.image), round(last.captured_at, 6)) == (19, 51.9)
    assert camera.failure == ""
    camera.disconnect()


def test_whoever_looks_after_a_long_time_sees_the_newest(tmp_path: Path) -> None:
    clock = Clock()
    camera = camera_of(write_video(tmp_path / "a.mp4"), clock)
    camera.connect()
    assert at(camera, clock, 60.5) == (5, 0.0)
    camera.disconnect()


def test_a_frozen_camera_keeps_its_image(tmp_path: Path) -> None:
    clock = Clock()
    camera = camera_of(write_video(tmp_path / "a.mp4"), clock, freeze_after=0.5)
    camera.connect()
    assert at(camera, clock, 0.45) == (4, 0.05)
    clock.now = 55.0
    assert camera.latest().age(clock.now) == pytest.approx(4.6)
    camera.disconnect()


def test_dropped_images_never_come_and_are_drawn_from_the_seed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")

    def numbers(seed: int, drop: float) -> list[int]:
        clock = Clock()
        camera = camera_of(path, clock, drop=drop, seed=seed)
        camera.connect()
        found = []
        for tick in range(20):
            clock.now = 50.0 + tick / 10 + 0.001
            if tick % 5 == 0:  # let the thread decode what follows
                comes(camera, lambda _: len(camera._waiting) >= 6)
            found.append(number_of(camera.latest().image))
        camera.disconnect()
        return found

    some = numbers(1, 0.4)
    assert some == numbers(1, 0.4)
    assert some != numbers(2, 0.4)
    assert 8 < len(set(some)) < 18
    assert all(number <= tick for tick, number in enumerate(some))
    assert numbers(1, 0.0) == list(range(20))


def test_late_images_are_old_when_they_come(tmp_path: Path) -> None:
    clock = Clock()
    camera = camera_of(write_video(tmp_path / "a.mp4"), clock, late=0.25)
    camera.connect()
    assert number_of(camera.latest().image) == 0
    clock.now = 50.3
    assert number_of(camera.latest().image) == 0
    clock.now = 50.36
    found = comes(camera, lambda image: image.captured_at > 50.05)
    assert (number_of(found.image), round(found.age(clock.now), 6)) == (1, 0.26)
    camera.disconnect()


def test_no_thread_stays(tmp_path: Path) -> None:
    before = threading.active_count()
    camera = camera_of(write_video(tmp_path / "a.mp4"), Clock())
    camera.connect()
    assert threading.active_count() == before + 1
    camera.disconnect()
    assert threading.active_count() == before


def test_a_video_of_another_size_is_refused_with_both(tmp_path: Path) -> None:
    camera = camera_of(write_video(tmp_path / "a.mp4"), Clock(), width=640, height=480)
    with pytest.raises(DeviceError, match=r"has 64x48 pixels.\nExpected: 640x480, as camera 'front'"):
        camera.connect()


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="does not exist"):
        camera_of(tmp_path / "none.mp4", Clock()).connect()
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(DeviceError, match="cannot be opened as a video"):
        camera_of(text, Clock()).connect()


def test_a_video_that_goes_away_stops_and_says_why(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    clock = Clock()
    camera = camera_of(path, clock)
    camera.connect()
    assert at(camera, clock, 0.5)[0] == 5
    path.unlink()  # the next round cannot begin
    clock.now = 100.0
    last = comes(camera, lambda _: camera.failure != "")
    assert "does not exist" in camera.failure
    assert last.captured_at < 60.0
    camera.disconnect()


@pytest.mark.parametrize("bad", [{"drop": 2.0}, {"fps": 0.0}, {"looop": True}, {"late": -1.0}, {"width": 64.5}])
def test_options_are_strict(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(bad))):
        camera_of(tmp_path / "a.mp4", Clock(), **bad)
