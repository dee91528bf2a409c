"""Tensors on disk in blocks: each block is one file that is there whole and verified, or not used at all.

A block is named by what it was computed from, so it can be shared between runs and never goes stale: another content
has another name. Read through memory maps: the operating system keeps what fits into memory. A map needs no open file,
and the number of maps is bounded, so that a cache may have any number of blocks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from smolpilot.common.atomic import lock, sweep, write_bytes_atomic
from smolpilot.common.errors import LIMITS
from smolpilot.common.hashing import content_digest
from smolpilot.common.json_input import parse_json

_ALIGN = 4096  # the header's room, so that the numbers begin on a page
_MAPS = 8192  # at once, of one store; Linux gives a process 65,530 for everything

type _State = tuple[int, ...]


class BlockStore:
    """Blocks [n, *shape] of `dtype` below `folder`; at most `maps` of them are mapped at once. Threads may share it."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: torch.dtype, *, maps: int = _MAPS) -> None:
        self.folder, self.shape, self.dtype, self._maps = folder, shape, dtype, maps
        self._open: OrderedDict[str, Tensor] = OrderedDict()
        self._verified: dict[str, _State] = {}
        self.damaged: set[str] = set()
        """Names of blocks that were found torn or changed, not those that were never there."""
        self._lock = threading.Lock()

    @property
    def bytes_per_row(self) -> int:
        """Size of one row of a block."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, name: str, rows: int) -> Tensor | None:
        """The block [rows, *shape], None when it is missing, torn or damaged. Verified once, while it stays as it is.

        OSError where the system refuses to open a file at all.
        """
        with self._lock:
            found = self._open.get(name)
            if found is None:
                found = self._load(name, rows)
                if found is None:
                    return None
                self._open[name] = found
                if len(self._open) > self._maps:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(name)
            return found

    def write(self, name: str, block: Tensor) -> None:
        """Store a block [n, *shape]; its file appears whole or not at all."""
        if block.shape[1:] != self.shape or block.dtype != self.dtype:
            raise ValueError(f"a block of {tuple(block.shape)} {block.dtype} in a store of {self.shape} {self.dtype}")
        content = block.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        header = {"name": name, "rows": len(block), "bytes": len(content), "xxh3_128": content_digest(content)}
        write_bytes_atomic(self.path(name), json.dumps(header).encode().ljust(_ALIGN) + content)
        self.damaged.discard(name)

    def path(self, name: str) -> Path:
        """Where the block is, or would be."""
        return self.folder / name[:2] / f"{name}.block"

    def sweep(self) -> None:
        """Remove what killed processes have left: half-written blocks, and the locks of those they worked on."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.is_dir():
                sweep(folder)
                for path in folder.glob("*.lock"):
                    with contextlib.suppress(OSError), path.open("rb") as file:
                        if lock(file.fileno(), wait=False):
                            path.unlink()

    def _load(self, name: str, rows: int) -> Tensor | None:
        path, size = self.path(name), _ALIGN + rows * self.bytes_per_row
        try:
            state = path.stat()
            seen = (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_ctime_ns)
            flat = _mapped(path, size) if state.st_size == size else None
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in LIMITS:
                raise
            flat = None
        if flat is None or (self._verified.get(name) != seen and not _is_whole(flat.numpy(), name, rows)):
            self.damaged.add(name)
            return None
        self._verified[name] = seen
        return flat[_ALIGN:].view(self.dtype).reshape(rows, *self.shape)


def _mapped(path: Path, size: int) -> Tensor:
    """A file as bytes, mapped: copy on write, and no descriptor stays behind (Python's mmap keeps one for each map)."""
    try:
        return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as error:  # it spells the system's error: "... Cannot allocate memory (12)"
        number = re.search(r"\((\d+)\)\s*$", str(error).splitlines()[0])
        code = int(number.group(1)) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def _is_whole(content: npt.NDArray[np.uint8], name: str, rows: int) -> bool:
    """Whether the numbers of a block are what its header says."""
    header, numbers = _header(content[:_ALIGN].tobytes()), content[_ALIGN:]
    if header.get("rows") != rows:
        return False
    if "crc32" in header:  # of earlier versions
        return bool(header["crc32"] == zlib.crc32(numbers))
    return header.get("name") == name and header.get("xxh3_128") == xxhash.xxh3_128_hexdigest(numbers)


def _header(content: bytes) -> dict[str, Any]:
    try:
        header = parse_json(content)
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}
