"""The same policy, fast: one engine, three modes, each checked against the plain network.

The names below load on first use, so that the torch-free modules stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .backends.backend import Backend, EngineSpec, Guidance, Mode
    from .backends.parity_check import ParityReport
    from .engine import Engine
    from .engine_report import EngineReport
    from .preparing import prepare

__all__ = ["Backend", "Engine", "EngineReport", "EngineSpec", "Guidance", "Mode", "ParityReport", "prepare"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backends.backend": ["Backend", "EngineSpec", "Guidance", "Mode"],
        "engine": ["Engine"],
        "preparing": ["prepare"],
        "engine_report": ["EngineReport"],
        "backends.parity_check": ["ParityReport"],
    },
)
