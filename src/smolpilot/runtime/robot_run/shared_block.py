"""A few numbers that one process hands to another: the newest ones, whole or not at all, and nobody waits."""

from __future__ import annotations

import mmap
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError

_HEAD, _SLOTS, _SLOT_HEAD = 2, 2, 3  # numbers of 8 bytes: magic, the newest slot and one; of a slot: see below
_MAGIC = int.from_bytes(b"smolnum1", "little")
_TRIES = 100

type Numbers = npt.NDArray[np.float64]


class SharedBlock:
    """Room for `capacity` float64 in a memory-mapped file. One process writes, any number read.

    Two slots in turn, so that the newest numbers are not those being written. A slot begins with a sequence number,
    odd while it is written, how many numbers there are, and their checksum, for processors that may show another core's
    writes in another order. A reader copies it and looks whether it stayed the same.
    """

    def __init__(self, path: Path, capacity: int = 0, *, create: bool = False) -> None:
        """create: make the file, which must not be there, with that capacity; else open it. FileNotFoundError where
        there is none, DeviceError for another file of that name."""
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
        file = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(file, 8 * (_HEAD + _SLOTS * (_SLOT_HEAD + capacity)))
            self._map = mmap.mmap(file, 0)
        finally:
            os.close(file)
        self._head = np.frombuffer(self._map, np.uint64, _HEAD)
        size = (len(self._map) // 8 - _HEAD) // _SLOTS
        starts = [8 * (_HEAD + index * size) for index in range(_SLOTS)]
        self._slots = [
            (
                np.frombuffer(self._map, np.uint64, _SLOT_HEAD, start),
                np.frombuffer(self._map, np.float64, size - _SLOT_HEAD, start + 8 * _SLOT_HEAD),
            )
            for start in starts
        ]
        if create:
            self._head[0] = _MAGIC
        elif self._head[0] != _MAGIC:
            raise DeviceError(f"{path} is no block of shared numbers.")

    def write(self, numbers: Numbers) -> None:
        """Show these instead of the last ones; ValueError where they do not fit."""
        index = int(self._head[1]) % _SLOTS
        head, room = self._slots[index]
        if len(numbers) > len(room):
            raise ValueError(f"{len(numbers)} numbers in a block for {len(room)}")
        sequence = int(head[0])
        head[0] = sequence + 1
        room[: len(numbers)] = numbers
        head[1], head[2] = len(numbers), zlib.crc32(numbers.tobytes())
        head[0] = sequence + 2
        self._head[1] = index + 1

    def read(self) -> Numbers | None:
        """A copy of the newest ones; None when there are none, or they could not be had whole."""
        for _ in range(_TRIES):
            newest = int(self._head[1])
            if newest == 0:
                return None
            head, room = self._slots[newest - 1]
            before, count, checksum = (int(number) for number in head)
            copy = room[:count].copy()
            if before % 2 == 0 and int(head[0]) == before and zlib.crc32(copy.tobytes()) == checksum:
                return copy
        return None
