"""This machine: what is known about it, and what it has left for this process or its container."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from smolpilot.version import __version__

from .text import pluralize

if TYPE_CHECKING:  # what needs no device is spared the import of torch
    import torch

_PACKAGES = ("torch", "numpy", "av", "pyarrow", "safetensors", "tokenizers")
_GROUPS = Path("/sys/fs/cgroup")
# Limit, use, and (in memory.stat) the part of the use that the kernel gives back; control groups version 2, then 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def user_cache(part: str) -> Path:
    """Where smolpilot keeps a kind of things that can be made again, unless it is told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smolpilot" / part


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads[Task, Result](function: Callable[[Task], Result], tasks: Sequence[Task], most: int) -> Iterator[Result]:
    """What the function makes of each task, in order; so many tasks at once at most."""
    pool = ThreadPoolExecutor(max(1, min(most, len(tasks))))
    try:
        yield from pool.map(function, tasks)
    finally:
        # An interrupt waits for the tasks in hand, not for all of them.
        pool.shutdown(cancel_futures=True)


def machine_facts(device: object) -> dict[str, Any]:
    """What latency and, in the last digits, results depend on. device: "cpu", "cuda:0", ... or torch's own."""
    torch = sys.modules.get("torch")  # where no policy needed it, its version says nothing
    return {
        "device": device_name(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        **({"threads": torch.get_num_threads()} if torch is not None else {}),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **({"torch": torch.__version__} if torch is not None else {}),
        "smolpilot": __version__,
    }


def run_environment(device: torch.device) -> dict[str, Any]:
    """What the result of a run may depend on, as it is kept in environment.json."""
    import torch

    return {
        "smolpilot": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "command": sys.argv,
    }


def device_name(device: object) -> str:
    """The device as a person knows it."""
    kind, torch = str(device).partition(":")[0], sys.modules.get("torch")
    if kind == "cuda" and torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(str(device)))
    if kind == "cpu":
        return f"CPU, {pluralize(torch.get_num_threads(), 'thread')}" if torch is not None else "CPU"
    return kind


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_gb(device: torch.device) -> float:
    """Memory in use: the peak of the GPU, or of this process on a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return float(psutil.Process().memory_info().rss) / 1e9


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
