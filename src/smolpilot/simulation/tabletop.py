"""Temporary: removed at the merge."""

from smolpilot.environments.tabletop.env import CAMERAS

__all__ = ["CAMERAS"]
