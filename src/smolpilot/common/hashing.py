"""Digests of texts, files, folders and tensors: 32 hexadecimal digits of XXH3 with 128 bits.

As fast as memory, and every change is seen; what is looked for is change and damage, not an attack. What is kept under
a digest (frame caches, verdicts) was computed from equal content, or is not found.
"""

from __future__ import annotations

import hashlib
import mmap
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:  # what needs no tensors is spared the import of torch
    from torch import Tensor

_GRAIN_NS = 1_000_000_000  # of the coarsest clocks of disks, FAT's aside


def content_name(*parts: object) -> str:
    """A name for what the parts describe: a digest of their bytes or texts, in order."""
    digest = xxhash.xxh3_128()
    for part in parts:
        _add(digest, part if isinstance(part, bytes) else str(part).encode())
    return digest.hexdigest()


def content_digest(content: bytes) -> str:
    """The digest that a file of this content has."""
    return xxhash.xxh3_128_hexdigest(content)


def file_digest(path: Path) -> str:
    """A digest of a file's content, read in blocks. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def mapped_digest(path: Path) -> str:
    """`file_digest` through a memory map, up to ten times as fast: for files that are mapped to be used, too."""
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                digest = xxhash.xxh3_128()
                digest.update(content)  # lets other threads run
                return digest.hexdigest()
        except (OSError, ValueError):  # it is empty, or the disk has no maps
            return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def known_digest(path: Path, *, mapped: bool = False) -> str:
    """`file_digest`, where a file that stays as it is (place on the disk, size, times) is read once in a process."""
    state = path.stat()
    # Within the clock's grain of its last change a file can change again and keep its times.
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < _GRAIN_NS:
        return _digest(path, mapped=mapped)
    return _known(path, mapped, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def folder_digest(folder: Path) -> str:
    """A digest of all files below a folder: their paths in it and their contents. Raises OSError."""
    digest = xxhash.xxh3_128()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        _add(digest, path.relative_to(folder).as_posix().encode())
        _add(digest, known_digest(path, mapped=True).encode())
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of named tensors of any dtype: names, dtypes, shapes and numbers bit by bit.

    Neither the order of the mapping nor the layout in memory counts. Read where they are; a tensor that is not
    contiguous or on another device is copied, one at a time.
    """
    import torch

    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        _add(digest, f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def b2sum(path: Path) -> str:
    """BLAKE2b-256 of a file, as `b2sum -l 256` prints it: what manifests hold, so that anyone can check them.

    Raises OSError. SHA-256 would be slower where the processor has no help for it.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


@cache
def _known(path: Path, mapped: bool, *_state: int) -> str:
    return _digest(path, mapped=mapped)


def _digest(path: Path, *, mapped: bool) -> str:
    return mapped_digest(path) if mapped else file_digest(path)


def _add(digest: xxhash.xxh3_128, part: bytes) -> None:
    """With its length in front, so that no two lists of parts read the same."""
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)
