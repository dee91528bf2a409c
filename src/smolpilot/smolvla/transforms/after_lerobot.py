"""The list behind LeRobot's own processors, which have done a part of it already: what LeRobot's plugin runs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from smolpilot.common.errors import UsageError
from smolpilot.smolvla.network.inputs import PolicyInputs

from .transform import Transform
from .transform_list import Transforms


class TransformsAfterLeRobot:
    """What is left of a list for batches that LeRobot's processors of the same bundle have made.

    They normalize the state, tokenize the instruction and bring actions back to robot units; images they leave alone.
    UsageError names a transform whose place is before something that they do: it would come too late.
    """

    def __init__(self, transforms: Transforms) -> None:
        self._transforms = transforms
        self._numbers = _left(transforms)
        for transform in transforms:
            if transform.has("instruction"):
                raise _too_late(transform, "the instruction before it becomes tokens")

    def inputs(
        self,
        images: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        state: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
    ) -> PolicyInputs:
        """images: slot -> float32 [B, 3, h, w] in [0, 1], all filled slots; present: slot -> bool [B], absent: all.

        state [B, S] normalized; tokens and their mask [B, T].
        """
        everywhere = torch.ones(len(state), dtype=torch.bool)
        masks = torch.stack([present.get(slot, everywhere).bool().cpu() for slot in self._transforms.filled], dim=1)
        shown = {slot: self._transforms.images(slot, images[slot]) for slot in self._transforms.filled}
        stacked, image_masks = self._transforms.stack_images(shown, masks)
        return PolicyInputs(stacked, image_masks, tokens.cpu(), token_mask.bool().cpu(), self._on(state, None)[0])

    def actions(self, chunks: Tensor) -> Tensor:
        """Chunks of the network [B, H, max_action_dim] -> normalized [B, H, A], for LeRobot's post-processor."""
        for transform in reversed(self._numbers):
            chunks = transform.backward(chunks, None)
        return chunks

    def leftover(self, actions: Tensor) -> Tensor:
        """A part of an earlier chunk of `actions` [B, L, A] -> [B, L, max_action_dim], unless it is so wide already."""
        if actions.shape[-1] != self._transforms.config.policy.action_dim:
            return actions
        state = torch.zeros(len(actions), self._transforms.config.policy.state_dim)
        moved = self._on(state, actions)[1]
        assert moved is not None
        return moved

    def _on(self, states: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for transform in self._numbers:
            states, actions = transform.numbers(states, actions)
        return states, actions


def _left(transforms: Transforms) -> list[Transform]:
    """The transforms of states and actions that come after the last one that the processors have done."""
    own = [transform for transform in transforms if transform.has("numbers")]
    done = max((place for place, transform in enumerate(own) if transform.in_processors), default=-1) + 1
    for transform in own[:done]:
        if not transform.in_processors:
            raise _too_late(transform, "states or actions before they are normalized")
    return own[done:]


def _too_late(transform: Transform, what: str) -> UsageError:
    return UsageError(
        f"LeRobot cannot run this policy: its processors do not know the transform '{transform.name}', which changes "
        f"{what}.",
        fix="run the policy with smolpilot's own engine",
    )
