"""The machine that numbers were measured on."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from smolpilot.common.text import pluralize
from smolpilot.version import __version__


def machine(device: object) -> dict[str, Any]:
    """Facts that latency and, in the last digits, results depend on. device: "cpu", "cuda:0", ... or torch's own."""
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
