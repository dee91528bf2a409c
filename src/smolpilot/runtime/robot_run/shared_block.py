"""A few numbers that one process hands to another: the newest ones, whole or not at all, and nobody waits."""

from __future__ import annotations

import mmap
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError

_HEAD = 4  # numbers of 8 bytes: magic, sequence, how many numbers, their checksum
_MAGIC = int.from_bytes(b"smolnum1", "little")
_TRIES = 100

type Numbers = npt.NDArray[np.float64]


class SharedBlock:
    """Room for `capacity` float64 in a memory-mapped file. One process writes, any number read.

    A writer marks the block as being written (an odd sequence number); a reader copies it and looks whether it stayed
    the same. The checksum is for processors that may show another core's writes in another order.
    """

    def __init__(self, path: Path, capacity: int = 0, *, create: bool = False) -> None:
        """create: make the file, which must not be there, with that capacity; else open it. FileNotFoundError where
        there is none, DeviceError for another file of that name."""
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
        file = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(file, 8 * (_HEAD + capacity))
            self._map = mmap.mmap(file, 0)
        finally:
            os.close(file)
        self._head = np.frombuffer(self._map, np.uint64, _HEAD)
        self._numbers = np.frombuffer(self._map, np.float64, offset=8 * _HEAD)
        if create:
            self._head[0] = _MAGIC
        elif self._head[0] != _MAGIC:
            raise DeviceError(f"{path} is no block of shared numbers.")

    def write(self, numbers: Numbers) -> None:
        """Show these instead of the last ones; ValueError where they do not fit."""
        if len(numbers) > len(self._numbers):
            raise ValueError(f"{len(numbers)} numbers in a block for {len(self._numbers)}")
        sequence = int(self._head[1])
        self._head[1] = sequence + 1
        self._numbers[: len(numbers)] = numbers
        self._head[2], self._head[3] = len(numbers), zlib.crc32(numbers.tobytes())
        self._head[1] = sequence + 2

    def read(self) -> Numbers | None:
        """A copy of the newest ones; None when there are none, or they could not be had whole."""
        for _ in range(_TRIES):
            before, count, checksum = (int(number) for number in self._head[1:4])
            if before == 0:
                return None
            copy = self._numbers[:count].copy()
            if before % 2 == 0 and int(self._head[1]) == before and zlib.crc32(copy.tobytes()) == checksum:
                return copy
        return None
