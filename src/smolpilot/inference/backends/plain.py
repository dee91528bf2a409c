"""The plain network as a backend: mode `exact`, what the others are measured against, what an engine falls back to.

Nothing waits for the device or copies from the CPU inside, so that `cuda_graphs` can record the calls.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import Context, SmolVLA

from .backend import Guidance, guide_on


class PlainNetwork:
    """`SmolVLA.sample` in the three calls of a backend, bit for bit."""

    name = "torch"
    masked = True

    def __init__(self, model: SmolVLA) -> None:
        self.model = model.eval()
        weight = model.state_proj.weight
        self.device = weight.device
        self.precision = str(weight.dtype).removeprefix("torch.")
        self._clock = functools.cache(model.clock)  # never forgotten: a recorded graph may read them
        _ = model.config.around_image  # ids that are not known are refused before the first call

    @property
    def memory_bytes(self) -> int:
        return sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())

    @torch.no_grad()
    def vision(self, images: Tensor) -> Tensor:
        return self.model.embed_images(images.to(self.device))

    @torch.no_grad()
    def context(self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> Context:
        """As in the protocol; tokens and their mask may be on the device already."""
        image_tokens = image_tokens.to(self.device)
        return self.model.encode_context(
            PolicyInputs(
                images=image_tokens,  # not read where the image tokens are there
                image_masks=image_masks,
                tokens=tokens.to(self.device),
                token_mask=token_mask.to(self.device),
                state=torch.zeros(len(tokens), 1, device=self.device),
                image_tokens=image_tokens,
            )
        )

    @torch.no_grad()
    def denoise(self, context: Context, state: Tensor, noise: Tensor, steps: int, guidance: Guidance | None) -> Tensor:
        prefix = self.model.join_state(context, state.to(self.device))
        return self.model.denoise(prefix, noise.to(self.device), self._clock(steps), guide_on(guidance, self.device))

    def close(self) -> None:
        del self.model, self._clock
