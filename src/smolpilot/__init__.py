"""smolpilot: from recorded demonstrations to a SmolVLA policy that runs on the robot.

The names below load on first use, so that `import smolpilot` stays light (no torch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from smolpilot.common import telemetry
from smolpilot.version import __version__

if TYPE_CHECKING:
    from smolpilot.datasets import open_dataset
    from smolpilot.robots import RobotProfile
    from smolpilot.smolvla import Policy, load_policy

telemetry.switch_off()

__all__ = ["Policy", "RobotProfile", "__version__", "load_policy", "open_dataset"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "datasets": ["open_dataset"],
        "smolvla": ["Policy", "load_policy"],
        "robots": ["RobotProfile"],
    },
)
