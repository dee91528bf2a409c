"""The plain network as a backend: what the others are measured against, and what an engine falls back to."""

from __future__ import annotations

import torch
from torch import Tensor

from smolpilot.common.errors import TransformError
from smolpilot.inference.backend import Guidance
from smolpilot.inference.guidance import integrate
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import Context, SmolVLA


class PlainNetwork:
    """`SmolVLA.sample` in the three callables of a backend; nothing is changed, nothing is kept between calls."""

    name = "plain"

    def __init__(self, model: SmolVLA) -> None:
        self.model = model.eval()
        weight = model.state_proj.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.precision = str(self.dtype).removeprefix("torch.")

    @property
    def memory_bytes(self) -> int:
        return sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())

    @torch.no_grad()
    def vision(self, images: Tensor) -> Tensor:
        return self.model.embed_images(images.to(self.device))

    @torch.no_grad()
    def context(self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> Context:
        inputs = PolicyInputs(
            images=image_tokens,  # only its number of cameras is read where the image tokens are there
            image_masks=image_masks,
            tokens=tokens,
            token_mask=token_mask,
            state=torch.zeros(len(tokens), 1),
            image_tokens=image_tokens,
        )
        return self.model.encode_context(inputs.to(self.device))

    @torch.no_grad()
    def denoise(self, context: Context, state: Tensor, noise: Tensor, steps: int, guidance: Guidance | None) -> Tensor:
        prefix = self.model.join_state(context, state.to(self.device))
        dt = -1.0 / steps

        def velocity(i: int, x: Tensor) -> Tensor:
            time = torch.full((x.shape[0],), 1.0 + i * dt, dtype=torch.float32, device=x.device)
            return self.model.velocity(x, time, prefix)

        return integrate(velocity, noise.to(self.device), steps, to_device(guidance, self.device))

    def close(self) -> None:
        del self.model


def to_device(guidance: Guidance | None, device: torch.device) -> Guidance | None:
    """The guidance where the chunk is computed."""
    if guidance is None or guidance.target.device == device:
        return guidance
    return Guidance(guidance.target.to(device), guidance.weights.to(device), guidance.gains.to(device))


def special_tokens(config: PolicyConfig) -> tuple[int, int]:
    """The ids of the tokens around an image: fake and global. TransformError where the tokenizer names none."""
    fake, whole = config.fake_image_token_id, config.global_image_token_id
    if fake is None or whole is None:
        raise TransformError(
            "add_image_special_tokens is set, but the tokenizer names no image tokens.",
            expected="<fake_token_around_image> and <global-img> in the tokenizer's special tokens",
        )
    return fake, whole
