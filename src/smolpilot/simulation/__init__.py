"""Environments that ship with smolpilot, with scripted experts. The names load on first use (gymnasium is slow).

`record` lives in `smolpilot.simulation.record`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .expert import ScriptedExpert
    from .registry import environment_names, make_env, swap_instruction
    from .tabletop import TabletopEnv

__all__ = [
    "ScriptedExpert",
    "TabletopEnv",
    "environment_names",
    "make_env",
    "swap_instruction",
]

_HOMES = {
    "ScriptedExpert": "expert",
    "environment_names": "registry",
    "make_env": "registry",
    "swap_instruction": "registry",
    "TabletopEnv": "tabletop",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
