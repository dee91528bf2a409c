"""Units of a dataset's joints (`--units`): LeRobot datasets carry none, the robot's profile does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from smolpilot.datasets import DatasetMeta
from smolpilot.errors import UsageError
from smolpilot.keys import ACTION, STATE
from smolpilot.policy.lineage import trainings_on
from smolpilot.robots import JointLayout, RobotProfile
from smolpilot.robots.layout import FrameLayout, frame_layout, map_layout, to_policy_order
from smolpilot.statistics import Statistics

__all__ = ["Trained", "frame_layout", "in_profile_units", "layout_for"]


class Trained(Protocol):
    """What says on which recordings a policy was trained: the policy itself, or an engine that runs it."""

    @property
    def profile(self) -> RobotProfile | None: ...

    @property
    def lineage(self) -> Mapping[str, Any]: ...


def layout_for(policy: Trained, meta: DatasetMeta, units: Mapping[str, str] | None = None) -> FrameLayout:
    """Names and units of a dataset's dimensions beside a trained policy: given ones, else what its training was told.

    The latter holds for the very dataset that it was trained on. UsageError for units without a robot profile.
    """
    if units and policy.profile is None:
        raise UsageError(
            "--units is given, but the policy has no robot profile: its own units are unknown.",
            fix="train with --robot PROFILE, or leave --units out",
        )
    if units:
        return frame_layout(meta, policy.profile, units)
    trainings = trainings_on(meta.fingerprint, policy.lineage)
    told = (trainings[0].get("dataset_units") if trainings else None) or {}
    pairs = (("state", meta.state_names), ("action", meta.action_names))
    return FrameLayout(*(JointLayout(tuple(n), tuple(told[what]) if told.get(what) else None) for what, n in pairs))


def in_profile_units(meta: DatasetMeta, layout: FrameLayout, profile: RobotProfile) -> Statistics:
    """The dataset's statistics of state and action in its own joint order, but in the profile's units."""
    if layout.state.units is None:
        return meta.statistics
    moved = to_policy_order(meta.statistics, layout, profile)
    back = map_layout(FrameLayout.of_dataset(meta), profile)
    pairs = zip((STATE, ACTION), back, strict=True)
    return {feature: mapping.backward_statistics(moved[feature]) for feature, mapping in pairs}
