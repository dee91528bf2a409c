"""What the parts of the transform list share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass
class Batch:
    """A batch on its way through the list; each part replaces what it is responsible for."""

    frames: Sequence[Mapping[str, Any]]
    state: Tensor  # [B, S], after padding [B, max_state_dim]
    actions: Tensor | None = None  # [B, H, A], after padding [B, H, max_action_dim]
    action_is_pad: Tensor | None = None  # bool [B, H]
    images: Tensor = field(default_factory=lambda: torch.zeros(0))  # [B, C, 3, h, w]
    image_masks: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))  # [B, C]
    tokens: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # [B, T]
    token_mask: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))  # [B, T]


class Part(Protocol):
    """One transform: `forward` on the way to the network, `backward` on the chunk's way to the robot."""

    name: str

    def forward(self, batch: Batch) -> None: ...

    def backward(self, actions: Tensor) -> Tensor: ...

    def describe(self) -> str: ...
