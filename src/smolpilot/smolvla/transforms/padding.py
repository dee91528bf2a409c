"""The last numbers before the network: zeros up to its widths, cropped on the way back."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from smolpilot.common.errors import TransformError
from smolpilot.smolvla.config import PolicyConfig

from .transform import Transform


class PadTransform(Transform):
    """Zeros up to the network's widths: mean 0, std 1 on the added dimensions; cropped on the way back."""

    name = "pad"

    def __init__(self, config: PolicyConfig) -> None:
        self.state_dim, self.max_state_dim = config.state_dim, config.max_state_dim
        self.action_dim, self.max_action_dim = config.action_dim, config.max_action_dim
        for what, dim, limit in (
            ("state", self.state_dim, self.max_state_dim),
            ("action", self.action_dim, self.max_action_dim),
        ):
            if dim > limit:
                raise TransformError(
                    f"The {what} has {dim} dimensions, the policy takes {limit} (max_{what}_dim).",
                    fix="widen the projections: start the training from this policy (it widens them and says so)",
                )

    def describe(self) -> str:
        return (
            f"state {self.state_dim} -> {self.max_state_dim}, action {self.action_dim} -> {self.max_action_dim} zeros"
        )

    def numbers(self, states: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        states = F.pad(states, (0, self.max_state_dim - self.state_dim))
        if actions is not None:
            actions = F.pad(actions, (0, self.max_action_dim - self.action_dim))
        return states, actions

    def backward(self, actions: Tensor, states: Tensor | None) -> Tensor:
        return actions[..., : self.action_dim]

    def spec(self) -> dict[str, Any]:
        return {"max_state_dim": self.max_state_dim, "max_action_dim": self.max_action_dim}
