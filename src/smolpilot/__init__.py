"""smolpilot: from recorded demonstrations to a SmolVLA policy that runs on the robot.

The names below load on first use, so that `import smolpilot` stays light (no torch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .datasets import open_dataset
    from .policy import Policy, load_policy
    from .robots import RobotProfile

__all__ = ["Policy", "RobotProfile", "__version__", "load_policy", "open_dataset"]

_HOMES = {
    "load_policy": "smolpilot.policy",
    "Policy": "smolpilot.policy",
    "open_dataset": "smolpilot.datasets",
    "RobotProfile": "smolpilot.robots",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'smolpilot' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
