"""The same policy, fast: one engine, three modes, each checked against the plain network.

The names below load on first use, so that the torch-free modules stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .backend import Backend, EngineSpec, Guidance, Mode
    from .engine import Engine
    from .engine_report import EngineReport
    from .parity_check import Verdict
    from .preparing import prepare

__all__ = ["Backend", "Engine", "EngineReport", "EngineSpec", "Guidance", "Mode", "Verdict", "prepare"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backend": ["Backend", "EngineSpec", "Guidance", "Mode"],
        "engine": ["Engine"],
        "preparing": ["prepare"],
        "engine_report": ["EngineReport"],
        "parity_check": ["Verdict"],
    },
)
