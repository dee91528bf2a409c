"""The first transform: the joints of a frame into the policy's order and units; NaN and unknown joints are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smolpilot.common.errors import TransformError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.robots import JointLayout, JointMapping
from smolpilot.robots.layout import FrameLayout, check_dimensions, map_layout

from .transform import Transform

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


class JointsTransform(Transform):
    """Without a source layout the frames are in the policy's own order and units already."""

    name = "joints"
    in_processors = True  # they are given frames of the policy's own order and units

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
        self._own = FrameLayout.of_profile(profile) if profile is not None else None
        given = source or self._own
        self._state_names, self.action_names = (given.state.names, given.action.names) if given else ((), ())

    def describe(self) -> str:
        moved = self.state is not None and self.action is not None
        if moved and not (self.state.is_identity and self.action.is_identity):  # type: ignore[union-attr]
            return f"{self.state_dim} state and {self.action_dim} action joints, reordered by name or converted"
        return f"{self.state_dim} state and {self.action_dim} action joints, as they are"

    def numbers(self, states: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        _check(states, STATE, self.state_dim, self._state_names)
        if self.state is not None:
            states = self.state.forward(states)
        if actions is not None:
            _check(actions, ACTION, self.action_dim, self.action_names)
            if self.action is not None:
                actions = self.action.forward(actions)
        return states, actions

    def backward(self, actions: Tensor, states: Tensor | None) -> Tensor:
        if self.action is None:
            return actions
        mapped: Tensor = self.action.backward(actions)
        return mapped

    def spec(self) -> dict[str, Any] | None:
        """Names and units of both, in order; None for frames of another layout, which are mapped here first."""
        if self.state is not None or self.action is not None:
            return None
        state, action = (self._own.state, self._own.action) if self._own is not None else (None, None)
        return {"state": _named(state, self.state_dim), "action": _named(action, self.action_dim)}


def _named(layout: JointLayout | None, dim: int) -> dict[str, list[str]]:
    if layout is None:
        return {"joints": [f"dimension {i}" for i in range(dim)], "units": ["unknown"] * dim}
    return {"joints": list(layout.names), "units": list(layout.units or ())}


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
            fix="check the sensor; for a dataset, look at that joint with `smolpilot dataset info`",
        )
