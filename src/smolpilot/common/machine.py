"""What this machine has left for this process: its own memory, or the smaller share of a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")
# Limit, use, and (in memory.stat) the part of the use that the kernel gives back; control groups version 2, then 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that can be used before the system, or the container's limit, ends the process."""
    return max(0, min([int(psutil.virtual_memory().available), *_left_in_groups()]))


def _left_in_groups() -> Iterator[int]:
    """What each control group with a limit, from this process's own up to the root, still allows."""
    for folder in _groups_of_process():
        for limit, used, reclaimable in _FILES:
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                yield most - now + _reclaimable(folder / "memory.stat", reclaimable)


def _groups_of_process() -> Iterator[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        if kinds and "memory" not in kinds.split(","):
            continue
        root = _GROUPS / "memory" if kinds else _GROUPS
        own = root / path.lstrip("/")
        # Inside a container the path may be that of the host: the root is then this process's own group.
        for folder in (own, *own.parents):
            if folder.is_dir() and folder.is_relative_to(root):
                yield folder


def _reclaimable(path: Path, name: str) -> int:
    try:
        lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
        return next((int(words[1]) for words in lines if words[:1] == [name]), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none (`max` is no limit)."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
