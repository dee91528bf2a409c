"""Units of a dataset's joints (`--units`): LeRobot datasets carry none, the robot's profile does."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Protocol

from smolpilot.datasets import DatasetMeta
from smolpilot.errors import UsageError, did_you_mean
from smolpilot.keys import ACTION, STATE
from smolpilot.policy.joints import FrameLayout, map_layout, to_policy_order
from smolpilot.policy.lineage import trainings_on
from smolpilot.robots import JointLayout, RobotProfile, Unit
from smolpilot.statistics import Statistics

_ALL = "all"
_ROTARY = ("rad", "deg")


def frame_layout(meta: DatasetMeta, profile: RobotProfile | None, units: Mapping[str, str]) -> FrameLayout:
    """Names and units of the dataset's dimensions; without `units` they are taken as the profile's.

    UsageError for a joint that the dataset does not have and for an unknown unit.
    """
    plain = FrameLayout.of_dataset(meta)
    if not units or profile is None:
        return plain
    known = {*plain.state.names, *plain.action.names}
    possible = typing.get_args(Unit)
    for name, unit in units.items():
        if name not in known | {_ALL}:
            raise UsageError(f"--units names the joint '{name}'.", fix=did_you_mean(name, known | {_ALL}))
        if unit not in possible:
            raise UsageError(f"--units gives '{name}' the unit '{unit}'.", fix=did_you_mean(unit, possible))
    mappings = map_layout(plain, profile)
    layouts = []
    for names, order, joints in (
        (plain.state.names, mappings[0].order, profile.state_joints),
        (plain.action.names, mappings[1].order, profile.action_joints),
    ):
        rotary = {names[place] for place, joint in zip(order, joints, strict=True) if joint.unit in _ROTARY}
        chosen = [units.get(name, units.get(_ALL, "unknown") if name in rotary else "unknown") for name in names]
        layouts.append(JointLayout(names, tuple(typing.cast(Unit, unit) for unit in chosen)))
    return FrameLayout(*layouts)


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
