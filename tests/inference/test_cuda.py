"""What only a GPU can show: that calls can be recorded, and give the plain network's chunks. Skipped without one."""

from __future__ import annotations

import pytest
import torch

from smolpilot.inference.backends.backend import Guidance
from smolpilot.inference.backends.cuda_graphs import Graphed
from smolpilot.inference.backends.fast import FastNetwork
from smolpilot.inference.backends.guidance import make_guidance
from smolpilot.inference.backends.plain import PlainNetwork
from smolpilot.smolvla.network.inputs import PolicyInputs

from .helpers_engine import CONFIGS, make_config, make_inputs, make_model, make_noise, padded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def chunk(
    graphed: Graphed, inputs: PolicyInputs, noise: torch.Tensor, steps: int, guidance: Guidance | None = None
) -> torch.Tensor:
    return graphed.chunk(inputs, noise, steps, guidance).cpu()


@pytest.mark.parametrize("name", CONFIGS)
def test_recorded_chunks(name: str) -> None:
    config = make_config(**CONFIGS[name])
    device, steps = torch.device("cuda"), config.num_steps
    model = make_model(config).to(device)
    exact, fast = Graphed(PlainNetwork(model)), Graphed(FastNetwork(model, device, torch.float32))
    assert config.resize_imgs_with_padding is not None
    side = config.resize_imgs_with_padding[0]
    pull = make_guidance(torch.ones(1, 6, 3), chunk_size=12, action_dim=32, steps=steps, delay=2)
    for seed, length in enumerate((5, 8, 6, 20, 5)):
        inputs, noise = make_inputs(lengths=[length], side=side, seed=seed), make_noise(seed=seed)
        bucket = padded(inputs, 8 if length <= 8 else 24)
        plain = model.sample(bucket.to(device), noise.to(device), steps).cpu()
        assert torch.equal(chunk(exact, inputs, noise, steps), plain)
        assert (chunk(fast, inputs, noise, steps) - plain).abs().max() < 1e-3
        # Apart: vision, context and denoising recorded each.
        tokens = fast.vision(inputs.images[0])[None]
        context = fast.context(tokens, inputs.image_masks, inputs.tokens, inputs.token_mask)
        late = fast.denoise(context, inputs.state, noise, steps, None).cpu()
        assert (late - plain).abs().max() < 1e-3
        guided = chunk(fast, inputs, noise, steps, pull)
        assert (guided - chunk(exact, inputs, noise, steps, pull)).abs().max() < 1e-3
    masked, noise = make_inputs(masks=[[False, True]], side=side), make_noise()
    plain = model.sample(padded(masked, 8).to(device), noise.to(device), steps).cpu()
    assert torch.equal(chunk(exact, masked, noise, steps), plain)
