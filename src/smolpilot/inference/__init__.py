"""The same policy, fast: one engine, three modes, each checked against the plain network.

The names below load on first use, so that the torch-free modules stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backend import Backend, EngineSpec, Guidance, Mode
    from .engine import Engine
    from .preparing import prepare
    from .report import EngineReport
    from .verdict import Verdict

__all__ = ["Backend", "Engine", "EngineReport", "EngineSpec", "Guidance", "Mode", "Verdict", "prepare"]

_HOMES = {
    "Backend": "backend",
    "Engine": "engine",
    "EngineReport": "report",
    "EngineSpec": "backend",
    "Guidance": "backend",
    "Mode": "backend",
    "Verdict": "verdict",
    "prepare": "preparing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
