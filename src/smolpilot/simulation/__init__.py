"""Environments that ship with smolpilot, with scripted experts."""

from .expert import ScriptedExpert
from .registry import environment_names, make_env, swap_instruction
from .tabletop import TabletopEnv

__all__ = ["ScriptedExpert", "TabletopEnv", "environment_names", "make_env", "swap_instruction"]
