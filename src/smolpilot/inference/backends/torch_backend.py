"""The backend that is torch alone: `exact` is the plain network, `fast` its mathematics, regrouped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from smolpilot.smolvla.network.model import SmolVLA

    from .backend import Backend, EngineSpec, Mode


def unavailable(mode: Mode, device: torch.device) -> str:
    """Why torch cannot serve a mode on a device; empty where it can."""
    if mode == "int8":
        return "torch's int8 products do not pay off for these sizes"
    return ""


def precisions(mode: Mode, device: torch.device, stored: str) -> tuple[str, ...]:
    """What a mode can compute in, the best first; `stored` is the plain network's dtype on this device."""
    import torch

    if mode == "exact":
        return (stored,)
    if device.type == "cuda":
        best = ("bfloat16", "float16") if torch.cuda.is_bf16_supported() else ("float16", "bfloat16")
        return (*best, "float32")
    # Without tile registers a CPU computes bfloat16 more slowly than float32 (docs/log.md).
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return ("bfloat16", "float32")
    return ("float32", "bfloat16")


def build(spec: EngineSpec, load: Callable[[], SmolVLA]) -> Backend:
    """The network of `load()` for `spec`; on CUDA its calls are recorded."""
    import torch

    from .cuda_graphs import Graphed
    from .fast import FastNetwork
    from .plain import PlainNetwork

    network: PlainNetwork | FastNetwork
    if spec.mode == "exact":
        network = PlainNetwork(load())
    else:
        network = FastNetwork(load(), spec.device, getattr(torch, spec.precision))
    return Graphed(network) if spec.device.type == "cuda" else network
