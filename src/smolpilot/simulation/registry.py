"""The environments that ship with smolpilot, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from smolpilot.errors import UsageError, did_you_mean

from .tabletop import TabletopEnv

ENVIRONMENTS: dict[str, Callable[..., gymnasium.Env[Any, Any]]] = {"tabletop": TabletopEnv}


def environment_names() -> list[str]:
    """The names that `make_env` knows."""
    return sorted(ENVIRONMENTS)


def make_env(name: str, **settings: Any) -> gymnasium.Env[Any, Any]:
    """A new environment; an unknown name is a UsageError that proposes the nearest one."""
    if name not in ENVIRONMENTS:
        raise UsageError(f"Unknown environment '{name}'.", fix=did_you_mean(name, ENVIRONMENTS))
    return ENVIRONMENTS[name](**settings)


def swap_instruction(task: str, info: Mapping[str, Any]) -> str:
    """The instruction for the other object of the scene; `info` is what `reset` returned."""
    others = [text for text in info["instructions"] if text != task]
    if len(others) == len(info["instructions"]) or not others:
        raise UsageError(f"'{task}' is not an instruction of this scene.", expected=", ".join(info["instructions"]))
    return str(others[0])
