"""The backends of the engine, and which of them serve a mode on a device.

A backend's module has `unavailable(mode, device) -> str` (why it cannot serve; empty: it can; loads nothing heavy),
`precisions(mode, device, stored) -> tuple of names` (what it can compute in, the default first; `stored` is what the
plain network computes in there) and `build(spec, load) -> Backend` (see `inference.backends.backend`).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from smolpilot.common.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import torch

    from .backend import Build, Mode

__all__ = ["BACKENDS", "choose_backend", "choose_precision", "load_backend"]

# Name -> module. Best first: the first one that is available serves.
BACKENDS = {"openvino": "openvino_backend", "torch": "torch_backend"}


def choose_backend(
    name: str, mode: Mode, device: torch.device, precision: str = "auto", stored: str = "float32"
) -> str:
    """The backend for a mode on a device; `auto` takes the first that can, in the precision asked for where any can.

    UsageError says why none can.
    """
    if name != "auto":
        if name not in BACKENDS:
            raise UsageError(f"There is no backend '{name}'.", fix=did_you_mean(name, ("auto", *BACKENDS)))
        reason = _module(name).unavailable(mode, device)
        if reason:
            raise UsageError(f"The backend '{name}' cannot serve mode '{mode}' on {device}: {reason}")
        return name
    reasons = {candidate: _module(candidate).unavailable(mode, device) for candidate in BACKENDS}
    able = [candidate for candidate, reason in reasons.items() if not reason]
    for candidate in able:
        if precision in ("auto", *_module(candidate).precisions(mode, device, stored)):
            return candidate
    if able:
        return able[0]  # choose_precision says what is possible
    raise UsageError(
        f"No backend serves mode '{mode}' on {device}: " + "; ".join(f"{k}: {v}" for k, v in reasons.items()),
        fix="choose another mode (fast serves everywhere), or install what the backend needs",
    )


def choose_precision(name: str, mode: Mode, device: torch.device, asked: str, stored: str) -> str:
    """What a backend computes in; `auto` takes its first choice. UsageError for what it cannot."""
    possible: tuple[str, ...] = _module(name).precisions(mode, device, stored)
    if asked == "auto":
        return possible[0]
    if asked not in possible:
        raise UsageError(
            f"Mode '{mode}' of backend '{name}' cannot compute in '{asked}' on {device}.",
            expected=f"auto or {', '.join(possible)}",
        )
    return asked


def load_backend(name: str) -> Build:
    """The `build` of a backend."""
    build: Build = _module(name).build
    return build


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"smolpilot.inference.backends.{BACKENDS[name]}")
