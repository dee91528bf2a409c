"""Where a run ran: versions, device, threads; kept in environment.json."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

import psutil
import torch

from smolpilot.version import __version__

_PACKAGES = ("torch", "numpy", "av", "pyarrow", "safetensors", "tokenizers")


def environment(device: torch.device) -> dict[str, Any]:
    """Facts that a result may depend on."""
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


def memory_gb(device: torch.device) -> float:
    """Memory in use: the peak of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return float(psutil.Process().memory_info().rss) / 1e9
