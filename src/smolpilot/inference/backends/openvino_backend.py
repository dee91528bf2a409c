"""The network in OpenVINO: `fast` in float32 and `int8`, on CPUs.

Its matrix products over 50 or 1024 rows run several times as fast as torch's here, and its int8 products and fused
attention use VNNI or AMX where the processor has them (measured in docs/log.md).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from smolpilot.smolvla.network.model import SmolVLA

    from .backend import Backend, EngineSpec, Mode

# Without one of these a product of 8-bit integers is no faster than one of floats.
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def unavailable(mode: Mode, device: torch.device) -> str:
    """Why OpenVINO cannot serve a mode on a device; empty where it can."""
    if mode == "exact":
        return "its kernels round differently from torch's"
    if device.type != "cpu":
        return "here it is used on CPUs only"
    missing = [name for name in ("onnx", "openvino") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} is not installed (pip install 'smolpilot[openvino]')"
    if mode == "int8" and not _INT8_FLAGS & _processor_flags():
        return "the processor has no 8-bit dot products (AVX-VNNI, AVX512-VNNI or AMX)"
    return ""


def precisions(mode: Mode, device: torch.device, stored: str) -> tuple[str, ...]:
    """What it computes in."""
    return ("int8",) if mode == "int8" else ("float32",)


def build(spec: EngineSpec, load: Callable[[], SmolVLA]) -> Backend:
    """The network for `spec`; the graphs are kept in `spec.folder`, so that only the first build calls `load`."""
    from .onnx_network import open_network

    return open_network(spec, load, "openvino")


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
