"""Environments that ship with smolpilot, with scripted experts. The names load on first use (gymnasium is slow).

`record` lives in `smolpilot.simulation.record`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

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

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "expert": ["ScriptedExpert"],
        "registry": ["environment_names", "make_env", "swap_instruction"],
        "tabletop": ["TabletopEnv"],
    },
)
