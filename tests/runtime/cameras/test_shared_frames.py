"""Images from one process to another: whole, the newest, and with their time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.runtime.cameras.shared_frames import SharedFrameReader, SharedFrameWriter, frames_file

# Image n is all n % 251, and captured at n: half of one image in another would show.
_WRITER = """
import sys
from pathlib import Path
import numpy as np
from smolpilot.runtime.cameras.shared_frames import SharedFrameWriter

with SharedFrameWriter(Path(sys.argv[1]), 120, 160) as writer:
    image = np.zeros((120, 160, 3), np.uint8)
    number = 0
    print("ready", flush=True)
    while not Path(sys.argv[2]).exists():
        number += 1
        image[:] = number % 251
        writer.write(image, float(number))
print(number, flush=True)
"""


def gray(value: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((4, 6, 3), value, np.uint8)


def test_a_reader_gets_the_newest_image_once(tmp_path: Path) -> None:
    path = frames_file(tmp_path, "front")
    with SharedFrameWriter(path, 4, 6) as writer:
        reader = SharedFrameReader(path)
        assert (reader.height, reader.width) == (4, 6)
        assert reader.read() is None
        for number in range(1, 8):
            writer.write(gray(number), 100.0 + number)
        found = reader.read()
        assert found is not None
        assert (found.captured_at, found.number) == (107.0, 7)
        np.testing.assert_array_equal(found.image, gray(7))
        assert reader.read(after=7) is None
        again = reader.read(after=6)
        assert again is not None
        assert again.image is not found.image
        reader.close()
    assert list(tmp_path.iterdir()) == []


def test_a_camera_may_have_any_name(tmp_path: Path) -> None:
    path = frames_file(tmp_path, "../observation.images/front é")
    assert path.parent == tmp_path
    with SharedFrameWriter(path, 4, 6):
        assert path.is_file()


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    with (
        SharedFrameWriter(tmp_path / "a.frames", 4, 6) as writer,
        pytest.raises(DeviceError, match=r"became uint8 \[6, 4, 3\]"),
    ):
        writer.write(np.zeros((6, 4, 3), np.uint8), 0.0)


@pytest.mark.parametrize("content", [b"", b"short", bytes(1000)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.frames"
    path.write_bytes(content)
    with pytest.raises(DeviceError, match="holds no images of an emulator"):
        SharedFrameReader(path)


def test_an_image_that_is_being_written_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.frames"
    with SharedFrameWriter(path, 4, 6) as writer:
        reader = SharedFrameReader(path)
        writer.write(gray(1), 1.0)
        head, pixels = writer._slots[0]
        head[0] = 3  # odd: the writer has come round, and is at it
        assert reader.read() is None
        head[0] = 2
        pixels[0, 0] = 9  # a part that came too late
        assert reader.read() is None
        pixels[0, 0] = 1
        assert reader.read() is not None
        reader.close()


def test_no_torn_image_from_a_process_that_writes_as_fast_as_it_can(tmp_path: Path) -> None:
    path, stop = tmp_path / "a.frames", tmp_path / "stop"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), str(stop)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        reader = SharedFrameReader(path)
        seen, last, end = 0, 0, time.monotonic() + 30
        while seen < 500 and time.monotonic() < end:
            frame = reader.read(after=last)
            if frame is None:
                continue
            assert frame.number > last
            assert frame.captured_at == frame.number
            assert (frame.image == frame.number % 251).all()
            seen, last = seen + 1, frame.number
        reader.close()
    finally:
        stop.touch()
        writer.wait(30)
    assert seen == 500
    assert int(writer.stdout.read()) >= last
    writer.stdout.close()
    assert not path.exists()
