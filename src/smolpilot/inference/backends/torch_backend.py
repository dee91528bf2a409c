"""The backend that is torch alone: `exact` repeats the plain network's operations, `fast` the mathematics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from smolpilot.inference.backend import Backend, EngineSpec, Mode
    from smolpilot.policy.model import SmolVLA


def unavailable(mode: Mode, device: torch.device) -> str:
    """Why torch cannot serve a mode on a device; empty where it can."""
    if mode == "int8":
        return "torch has no int8 product that pays off for these sizes"
    return ""


def build(spec: EngineSpec, load: Callable[[], SmolVLA]) -> Backend:
    """The network of `load()` for `spec`."""
    raise NotImplementedError
