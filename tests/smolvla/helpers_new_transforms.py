"""Transforms that are not smolpilot's own, as somebody adds them: actions as differences, turned images, other words.

Each is written once, here, and put into a list once; the tests of every room look for it there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smolpilot.common.keys import ACTION
from smolpilot.common.statistics import Statistics
from smolpilot.smolvla import Policy, Transform, Transforms


class DeltaActions(Transform):
    """Each action of a chunk as its difference from the state at which the chunk begins."""

    name = "delta_actions"
    per_row = False
    needs_state = True

    def __init__(self, deviation: float = 0.5) -> None:
        self.deviation = deviation  # of the differences; one number is enough for a test

    def numbers(self, states: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return states, None if actions is None else actions - states[..., None, :]

    def backward(self, actions: Tensor, states: Tensor | None) -> Tensor:
        assert states is not None
        return actions + states[..., None, :]

    def statistics(self, statistics: Statistics) -> Statistics:
        width = len(statistics[ACTION]["mean"])
        return {**statistics, ACTION: {"mean": np.zeros(width), "std": np.full(width, self.deviation)}}

    def spec(self) -> dict[str, Any]:
        return {"deviation": self.deviation}


class UpsideDown(Transform):
    """The images of some cameras were mounted upside down."""

    name = "upside_down"

    def __init__(self, *slots: str) -> None:
        self.slots = slots

    def images(self, images: Tensor, slot: str) -> Tensor:
        return images.flip(-2) if slot in self.slots else images

    def spec(self) -> dict[str, Any]:
        return {"slots": list(self.slots)}


class Crop(Transform):
    """The middle half of an image's width: images of another size."""

    name = "crop"

    def images(self, images: Tensor, slot: str) -> Tensor:
        quarter = images.shape[-1] // 4
        return images[..., quarter : images.shape[-1] - quarter]

    def image_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] - 2 * (size[0] // 4), size[1]


class Politely(Transform):
    """Another wording."""

    name = "politely"

    def instruction(self, instruction: str) -> str:
        return f"please {instruction}"


class Silent(Transform):
    """Changes states without a word on their statistics."""

    name = "silent"

    def numbers(self, states: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return 2 * states, actions


def with_extra(policy: Policy, *extra: Transform) -> Policy:
    """The same network with further transforms in its list."""
    return Policy(
        policy.model, Transforms(dataclasses.replace(policy.transforms_config, extra=extra)), lineage=policy.lineage
    )


def turned(frame: dict[str, Any], key: str = "observation.images.front") -> dict[str, Any]:
    """The frame with one image turned by hand, float [3, h, w] or uint8 [h, w, 3]."""
    image = torch.as_tensor(frame[key])
    return {**frame, key: image.flip(-2 if image.is_floating_point() else 0)}
