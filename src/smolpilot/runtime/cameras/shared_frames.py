"""Images that one process hands to others: a memory-mapped file for each camera, in which no half image is ever seen.

The file holds three images in turn. A writer marks the one it works on (an odd sequence number), and says last which
is the newest; a reader copies that one and looks whether it stayed the same. The checksum is for processors that may
show another core's writes in another order.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import zlib
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError
from smolpilot.common.text import plain
from smolpilot.contracts.observation import Image

_MAGIC = int.from_bytes(b"smolimg1", "little")
_SLOTS = 3
_HEAD = 8  # numbers of 8 bytes: magic, height, width, the newest slot and one
_SLOT_HEAD = 4  # sequence, captured_at (a double), checksum
_TRIES = 50


def frames_file(folder: Path, camera: str) -> Path:
    """Where a camera's images are, whatever its name."""
    return folder / f"{quote(camera, safe='')}.frames"


class SharedFrame(NamedTuple):
    """An image uint8 [h, w, 3], when it was captured (seconds on the monotonic clock), and which one it is, from 1."""

    image: Image
    captured_at: float
    number: int


class _Mapped:
    """The file as arrays of 8-byte numbers, whose reads and writes are single ones."""

    def __init__(self, file: int, size: int, *, write: bool) -> None:
        self._map = mmap.mmap(file, size, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
        self.head = np.frombuffer(self._map, np.uint64, _HEAD)

    def slot(self, index: int, height: int, width: int) -> tuple[npt.NDArray[np.uint64], Image]:
        start = 8 * _HEAD + index * _slot_bytes(height, width)
        head = np.frombuffer(self._map, np.uint64, _SLOT_HEAD, start)
        pixels = np.frombuffer(self._map, np.uint8, height * width * 3, start + 8 * _SLOT_HEAD)
        return head, pixels.reshape(height, width, 3)

    def close(self) -> None:
        self.head = np.zeros(_HEAD, np.uint64)
        with contextlib.suppress(BufferError):  # somebody looks at an array of it: it goes with the last of them
            self._map.close()


class SharedFrameWriter:
    """Makes the file, and removes it at `close`. The folder has to be there."""

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.path, self._height, self._width = path, height, width
        size = 8 * _HEAD + _SLOTS * _slot_bytes(height, width)
        # Under another name until it is whole: a reader finds it so or not at all.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(file, size)
            self._mapped = _Mapped(file, size, write=True)
        finally:
            os.close(file)
        self._slots = [self._mapped.slot(index, height, width) for index in range(_SLOTS)]
        self._mapped.head[:3] = _MAGIC, height, width
        temporary.rename(path)
        self._count = 0

    def write(self, image: Image, captured_at: float) -> None:
        """Show an image uint8 [h, w, 3] of the size given at first; waits for no reader."""
        if image.shape != (self._height, self._width, 3) or image.dtype != np.uint8:
            raise DeviceError(
                f"The images of {plain(self.path.name)} became {image.dtype} {list(image.shape)}.",
                expected=f"uint8 {[self._height, self._width, 3]}",
            )
        index = self._count % _SLOTS
        head, pixels = self._slots[index]
        self._count += 1
        head[0] = 2 * self._count - 1
        pixels[:] = image
        head[1] = np.float64(captured_at).view(np.uint64)
        head[2] = _checksum(head, pixels)
        head[0] = 2 * self._count
        self._mapped.head[3] = index + 1

    def close(self) -> None:
        """Unmap and remove the file; without effect afterwards. A reader that has it open keeps its last image."""
        if self._slots:
            self._slots.clear()
            self._mapped.close()
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SharedFrameReader:
    """Opens the file; FileNotFoundError while there is none, DeviceError for another file of that name."""

    def __init__(self, path: Path) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(file).st_size
            if size < 8 * _HEAD:
                raise _no_frames(path)
            self._mapped = _Mapped(file, size, write=False)
        finally:
            os.close(file)
        magic, height, width = (int(number) for number in self._mapped.head[:3])
        if magic != _MAGIC or size != 8 * _HEAD + _SLOTS * _slot_bytes(height, width):
            self._mapped.close()
            raise _no_frames(path)
        self.height, self.width = height, width
        self._slots = [self._mapped.slot(index, height, width) for index in range(_SLOTS)]

    def read(self, after: int = 0) -> SharedFrame | None:
        """A copy of the newest image; None when there is none beyond number `after`, or none could be had whole."""
        for _ in range(_TRIES):
            newest = int(self._mapped.head[3])
            if newest == 0:
                return None
            head, pixels = self._slots[newest - 1]
            before = int(head[0])
            if before // 2 <= after:
                return None
            if before % 2:
                continue
            copy, stamp = pixels.copy(), head[:3].copy()
            if int(head[0]) == before == int(stamp[0]) and _checksum(stamp, copy) == stamp[2]:
                return SharedFrame(copy, float(stamp[1:2].view(np.float64)[0]), before // 2)
        return None

    def newest_at(self) -> float | None:
        """When the newest image was captured, without copying it; None before the first one."""
        for _ in range(_TRIES):
            newest = int(self._mapped.head[3])
            if newest == 0:
                return None
            stamp = self._slots[newest - 1][0][:3].copy()
            if stamp[0] % 2 == 0 and int(self._mapped.head[3]) == newest:
                return float(stamp[1:2].view(np.float64)[0])
        return None

    def close(self) -> None:
        """Unmap the file."""
        self._slots.clear()
        self._mapped.close()


def _slot_bytes(height: int, width: int) -> int:
    """Of one image with its head, a multiple of 8."""
    return 8 * _SLOT_HEAD + -(-height * width * 3 // 8) * 8


def _checksum(head: npt.NDArray[np.uint64], pixels: Image) -> int:
    return zlib.crc32(pixels, zlib.crc32(head[1:2].tobytes()))


def _no_frames(path: Path) -> DeviceError:
    return DeviceError(
        f"{plain(path)} holds no images of an emulator.", expected="a file that an emulator of this version writes"
    )
