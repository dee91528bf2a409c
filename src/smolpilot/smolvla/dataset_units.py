"""Units of a dataset's joints (`--units`): LeRobot datasets carry none, the robot's profile does."""

from __future__ import annotations

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics
from smolpilot.contracts.trained_on import layout_for
from smolpilot.datasets import DatasetMeta
from smolpilot.robots import RobotProfile
from smolpilot.robots.layout import FrameLayout, frame_layout, map_layout, to_policy_order

__all__ = ["frame_layout", "in_profile_units", "layout_for"]


def in_profile_units(meta: DatasetMeta, layout: FrameLayout, profile: RobotProfile) -> Statistics:
    """The dataset's statistics of state and action in its own joint order, but in the profile's units."""
    if layout.state.units is None:
        return meta.statistics
    moved = to_policy_order(meta.statistics, layout, profile)
    back = map_layout(FrameLayout.of_dataset(meta), profile)
    pairs = zip((STATE, ACTION), back, strict=True)
    return {feature: mapping.backward_statistics(moved[feature]) for feature, mapping in pairs}
