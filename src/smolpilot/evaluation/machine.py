"""The machine that numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from smolpilot.version import __version__
from smolpilot.words import numbered


def machine(device: torch.device | str) -> dict[str, Any]:
    """Facts that latency and, in the last digits, results depend on."""
    return {
        "device": device_name(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "smolpilot": __version__,
    }


def device_name(device: torch.device | str) -> str:
    """The device as a person knows it."""
    chosen = torch.device(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    if chosen.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {numbered(threads, 'thread')}"
    return chosen.type


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
