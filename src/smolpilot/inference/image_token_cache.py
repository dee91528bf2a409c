"""What an engine keeps between calls: each camera's last image with its tokens, and what `begin` left for `finish`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from smolpilot.smolvla.network.inputs import PolicyInputs

    from .backends.backend import Backend


class Begun:
    """What `begin` left for `finish`; `took`: milliseconds by stage."""

    def __init__(self, ticket: int, inputs: PolicyInputs, context: Any, took: dict[str, float]) -> None:
        self.ticket, self.inputs, self.context, self.took = ticket, inputs, context, took


class ImageTokenCache:
    """The last image of each camera and its tokens."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def encode(self, backend: Backend, images: Tensor, used: list[int], *, together: bool) -> Tensor:
        """Image tokens [U, N, D] of the used cameras of images [C, 3, h, w].

        together: all or none are encoded, since the number of images in a batch may change the last bits. On a GPU
        comparing costs as much as it saves: everything is encoded.
        """
        if images.device.type != "cpu":
            return backend.vision(images[used])
        new = [c for c in used if c not in self._kept or not torch.equal(self._kept[c][0], images[c])]
        if together and new:
            new = used
        if new:
            encoded = backend.vision(images[new])
            for i, camera in enumerate(new):
                self._kept[camera] = images[camera], encoded[i]
        return torch.stack([self._kept[camera][1] for camera in used])
