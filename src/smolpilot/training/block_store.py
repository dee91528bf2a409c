"""Tensors on disk in blocks: each block is one file that is there whole and verified, or not used at all.

A block is named by what it was computed from, so it can be shared between runs and never goes stale: another content
has another name. Read through memory maps: the operating system keeps what fits into memory.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from smolpilot.atomic import write_bytes_atomic
from smolpilot.hashing import file_digest

_ALIGN = 4096  # the header's room, so that the numbers begin on a page


class BlockStore:
    """Blocks [n, *shape] of `dtype` below `folder`."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.folder, self.shape, self.dtype = folder, shape, dtype
        self._open: dict[str, Tensor] = {}

    @property
    def bytes_per_row(self) -> int:
        """Size of one row of a block."""
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize

    def read(self, name: str, rows: int) -> Tensor | None:
        """The block [rows, *shape], None when it is missing, torn or damaged. Checked once, then kept open."""
        if name not in self._open:
            found = self._load(name, rows)
            if found is None:
                return None
            self._open[name] = found
        return self._open[name]

    def write(self, name: str, block: Tensor) -> None:
        """Store a block [n, *shape]; its file appears whole or not at all."""
        if block.shape[1:] != self.shape or block.dtype != self.dtype:
            raise ValueError(f"a block of {tuple(block.shape)} {block.dtype} in a store of {self.shape} {self.dtype}")
        content = block.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        header = {"rows": len(block), "bytes": len(content), "crc32": zlib.crc32(content)}
        write_bytes_atomic(self.path(name), json.dumps(header).encode().ljust(_ALIGN) + content)

    def path(self, name: str) -> Path:
        """Where the block is, or would be."""
        return self.folder / name[:2] / f"{name}.block"

    def _load(self, name: str, rows: int) -> Tensor | None:
        path, expected = self.path(name), rows * self.bytes_per_row
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != _ALIGN + expected:
                    return None
                # Copy on write: torch wants a writable buffer, and nothing ever writes into it.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            header = json.loads(mapped[:_ALIGN])
        except (OSError, ValueError):
            return None
        content = memoryview(mapped)[_ALIGN:]
        if header.get("rows") != rows or header.get("crc32") != zlib.crc32(content):
            return None
        flat = torch.frombuffer(mapped, dtype=torch.uint8, offset=_ALIGN)
        return flat.view(self.dtype).reshape(rows, *self.shape)


def file_hash(path: Path) -> str:
    """Digest of a file's content; a file that stays as it is is read once in a process."""
    state = path.stat()
    return _hash_of(path, state.st_size, state.st_mtime_ns)


@cache
def _hash_of(path: Path, size: int, mtime_ns: int) -> str:
    return file_digest(path)
