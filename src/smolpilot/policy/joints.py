"""Part 1: the joints of a frame into the policy's order and units; NaN and unknown joints are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from smolpilot.errors import ProfileError, TransformError
from smolpilot.keys import ACTION, STATE
from smolpilot.robots import JointLayout, JointMapping, map_joints
from smolpilot.statistics import Statistics
from smolpilot.words import listed_joints

from .parts import Batch

if TYPE_CHECKING:
    from smolpilot.datasets import DatasetMeta
    from smolpilot.robots import Joint, RobotProfile


@dataclass(frozen=True)
class FrameLayout:
    """Which joint is where in the state and the action of a frame."""

    state: JointLayout
    action: JointLayout

    @classmethod
    def of_dataset(cls, meta: DatasetMeta) -> FrameLayout:
        """The layout of a dataset's frames."""
        return cls(JointLayout(tuple(meta.state_names)), JointLayout(tuple(meta.action_names)))


class JointsPart:
    """Without a source layout the frames are in the policy's own order and units already."""

    name = "joints"

    def __init__(
        self, state_dim: int, action_dim: int, profile: RobotProfile | None, source: FrameLayout | None
    ) -> None:
        self.state_dim, self.action_dim = state_dim, action_dim
        self.state: JointMapping | None = None
        self.action: JointMapping | None = None
        if profile is not None:
            check_dimensions(profile, state_dim, action_dim)
            if source is not None:
                self.state, self.action = map_layout(source, profile)
        self._state_names = _names(source.state if source else None, profile.state_joints if profile else None)
        self._action_names = _names(source.action if source else None, profile.action_joints if profile else None)

    def describe(self) -> str:
        moved = self.state is not None and self.action is not None
        if moved and not (self.state.is_identity and self.action.is_identity):  # type: ignore[union-attr]
            return f"{self.state_dim} state and {self.action_dim} action joints, reordered by name or converted"
        return f"{self.state_dim} state and {self.action_dim} action joints, as they are"

    def forward(self, batch: Batch) -> None:
        _check(batch.state, STATE, self.state_dim, self._state_names)
        if self.state is not None:
            batch.state = self.state.forward(batch.state)
        if batch.actions is not None:
            _check(batch.actions, ACTION, self.action_dim, self._action_names)
            if self.action is not None:
                batch.actions = self.action.forward(batch.actions)

    def backward(self, actions: Tensor) -> Tensor:
        if self.action is None:
            return actions
        mapped: Tensor = self.action.backward(actions)
        return mapped


def map_layout(source: FrameLayout, profile: RobotProfile) -> tuple[JointMapping, JointMapping]:
    """Mappings of state and action from a layout to the profile's; ProfileError where joints do not match."""
    return (
        _mapped("state", source.state, profile.state_joints, derived=profile.is_derived),
        _mapped("action", source.action, profile.action_joints, derived=profile.is_derived),
    )


def _mapped(what: str, source: JointLayout, joints: Sequence[Joint], *, derived: bool) -> JointMapping:
    try:
        return map_joints(source, joints, what=f"the recorded {what}")
    except ProfileError:
        if not derived:
            raise
        # Made from a recording: nobody chose a profile, so none is to blame.
        raise ProfileError(
            f"The recorded {what} has {listed_joints(source.names)}, the policy's has "
            f"{listed_joints([joint.name for joint in joints])}: not one robot.",
            expected="the same joint names on both sides",
            fix="use recordings of the robot that the policy is for; where two names mean one joint, train with a "
            "profile that lists the other as an alias (--robot PROFILE.yaml)",
        ) from None


def to_policy_order(statistics: Statistics, source: FrameLayout, profile: RobotProfile | None) -> Statistics:
    """Statistics of state and action, moved from a dataset's joint order and units to the profile's."""
    kept = {key: dict(statistics[key]) for key in (STATE, ACTION) if key in statistics}
    if profile is None:
        return kept
    for key, mapping in zip((STATE, ACTION), map_layout(source, profile), strict=True):
        if key in kept:
            kept[key] = mapping.forward_statistics(kept[key])
    return kept


def check_dimensions(profile: RobotProfile, state_dim: int, action_dim: int) -> None:
    """ProfileError when the profile has other numbers of joints than the policy."""
    found = len(profile.state_joints), len(profile.action_joints)
    if found != (state_dim, action_dim):
        raise ProfileError(
            f"Robot '{profile.name}' has {found[0]} state and {found[1]} action joints; "
            f"the policy has {state_dim} and {action_dim}.",
            fix="use the profile of the robot that the policy was trained for, or fine-tune the policy for this one",
        )


def _names(layout: JointLayout | None, joints: Sequence[object] | None) -> tuple[str, ...]:
    if layout is not None:
        return layout.names
    return tuple(getattr(joint, "name", "") for joint in joints or ())


def _check(values: Tensor, key: str, dim: int, names: tuple[str, ...]) -> None:
    if values.shape[-1] != dim:
        listed = f": {', '.join(names)}" if len(names) == dim else ""
        raise TransformError(f"'{key}' has {values.shape[-1]} values.", expected=f"{dim}{listed}")
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        wrong = bad.reshape(-1, dim).any(dim=0).nonzero().flatten().tolist()
        named = ", ".join(f"'{names[i]}'" if len(names) == dim else f"dimension {i}" for i in wrong)
        what = "NaN" if bool(torch.isnan(values).any()) else "infinite"
        raise TransformError(
            f"'{key}' is {what} for joint {named}.",
            expected="finite numbers",
            fix="check the sensor; for a recording, look at that joint with `smolpilot dataset info`",
        )
