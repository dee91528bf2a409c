"""The backend that is torch alone: `exact` repeats the plain network's operations, `fast` the mathematics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from smolpilot.inference.backend import Backend, EngineSpec, Mode
    from smolpilot.policy.model import SmolVLA

PRECISIONS = ("float32", "bfloat16", "float16")


def unavailable(mode: Mode, device: torch.device) -> str:
    """Why torch cannot serve a mode on a device; empty where it can."""
    if mode == "int8":
        return "torch's int8 products do not pay off for these sizes"
    return ""


def precision(mode: Mode, device: torch.device, stored: str) -> str:
    """What a mode runs in unless told otherwise; `stored` is the plain network's dtype on this device."""
    import torch

    if mode == "exact" or device.type not in ("cuda", "cpu"):
        return stored
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    # Without tile registers a CPU computes bfloat16 more slowly than float32 (docs/log.md).
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"


def build(spec: EngineSpec, load: Callable[[], SmolVLA]) -> Backend:
    """The network of `load()` for `spec`; on CUDA its calls are recorded."""
    import torch

    from smolpilot.inference.exact import ExactNetwork
    from smolpilot.inference.fast import FastNetwork
    from smolpilot.inference.graphs import Graphed

    network: ExactNetwork | FastNetwork
    if spec.mode == "exact":
        network = ExactNetwork(load())
    else:
        network = FastNetwork(load(), spec.device, getattr(torch, spec.precision))
    return Graphed(network) if spec.device.type == "cuda" else network
