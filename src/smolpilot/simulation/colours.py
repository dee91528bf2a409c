"""Temporary: removed at the merge."""

from smolpilot.environments.tabletop.colors import COLORS as COLOURS
from smolpilot.environments.tabletop.colors import DEFAULT_COLORS as DEFAULT_COLOURS

__all__ = ["COLOURS", "DEFAULT_COLOURS"]
