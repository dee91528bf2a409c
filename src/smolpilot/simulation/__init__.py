"""Temporary: the old names, for callers that are being moved to `smolpilot.environments`; removed at the merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def make_env(name: str, **settings: Any) -> Any:
    from smolpilot.contracts import ENVIRONMENTS

    from . import registry

    if name not in registry.ENVIRONMENTS:
        ENVIRONMENTS.get(name)
    return registry.ENVIRONMENTS[name](**settings)


def swap_instruction(task: str, info: Mapping[str, Any]) -> str:
    return str(next(text for text in info["instructions"] if text != task))
