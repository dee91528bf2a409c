"""What the network sees: one batch of transformed frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class PolicyInputs:
    """A batch after the transforms; letters as in the design: B batch, C cameras, T tokens, H horizon.

    images [B, C, 3, h, w] float in [-1, 1]; image_masks [B, C] bool, False where the camera is absent;
    tokens [B, T] int64; token_mask [B, T] bool; state [B, max_state_dim] normalized and padded;
    actions [B, H, max_action_dim] normalized and padded, action_is_pad [B, H] bool: both None without targets.
    A frame cache fills in what a frozen model has made of images and instruction already: image_tokens [B, C, N, D]
    of the cameras that are there, or context [B, L, 2, K, G, E] with context_mask bool [B, K].
    """

    images: Tensor
    image_masks: Tensor
    tokens: Tensor
    token_mask: Tensor
    state: Tensor
    actions: Tensor | None = None
    action_is_pad: Tensor | None = None
    image_tokens: Tensor | None = None
    context: Tensor | None = None
    context_mask: Tensor | None = None

    def __post_init__(self) -> None:
        # Masks arrive as float or int from hand-written batches; the network only knows bool.
        self.image_masks = self.image_masks.bool()
        self.token_mask = self.token_mask.bool()
        if self.action_is_pad is not None:
            self.action_is_pad = self.action_is_pad.bool()

    def __len__(self) -> int:
        return self.state.shape[0]

    def to(
        self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> PolicyInputs:
        """The batch on `device`; with `dtype`, images, state and actions are cast too."""
        return self._map(
            lambda value: value.to(
                device=device, dtype=dtype if value.is_floating_point() else None, non_blocking=non_blocking
            )
        )

    def __getitem__(self, rows: slice | Tensor | Sequence[int]) -> PolicyInputs:
        """The batch of the chosen rows (a slice, an index tensor or a list; never one bare row)."""
        index = rows if isinstance(rows, slice | Tensor) else torch.as_tensor(list(rows), dtype=torch.int64)
        return self._map(lambda value: value[index])

    def pin_memory(self) -> PolicyInputs:
        """The batch in page-locked memory, for an asynchronous copy to a GPU."""
        return self._map(lambda value: value.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> PolicyInputs:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in values.items()}
        return PolicyInputs(**changed)
