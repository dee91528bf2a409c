"""The networks behind the modes against the plain one: `exact` to the last bit, `fast` within a stated tolerance."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from smolpilot.common.errors import TransformError
from smolpilot.inference.backends.fast import FastNetwork
from smolpilot.inference.backends.plain import PlainNetwork
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA

from .helpers_engine import CONFIGS, make_config, make_inputs, make_model, make_noise, run

# Chunks are of the order of one; float32 sums in another order.
TOLERANCE = 1e-5
CPU = torch.device("cpu")

INPUTS: dict[str, dict[str, Any]] = {
    "one frame": {},
    "padded instruction": {"lengths": [5], "_padding": 4},
    "a masked camera": {"masks": [[True, False]]},
    "first camera masked": {"masks": [[False, True]]},
    "batch of different lengths": {"batch": 3, "lengths": [9, 4, 6]},
    "batch of different cameras": {
        "batch": 3, "lengths": [9, 4, 6], "masks": [[True, True], [False, True], [True, False]],
    },
}  # fmt: skip


def inputs_of(case: dict[str, Any], side: int) -> PolicyInputs:
    options = dict(case)
    padding = options.pop("_padding", 0)
    inputs = make_inputs(side=side, **options)
    inputs.tokens = torch.nn.functional.pad(inputs.tokens, (0, padding), value=1)
    inputs.token_mask = torch.nn.functional.pad(inputs.token_mask, (0, padding))
    return inputs


@torch.no_grad()
def step_by_step(model: SmolVLA, inputs: PolicyInputs, noise: torch.Tensor) -> torch.Tensor:
    """The Euler steps written out; each one reads the prefix anew, so nothing is kept from step to step."""
    steps = model.config.num_steps
    for i in range(steps):
        time = torch.full((len(noise),), 1.0 + i * (-1.0 / steps), dtype=torch.float32)
        noise = noise + (-1.0 / steps) * model.velocity(noise, time, model.read_prefix(inputs))
    return noise


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_is_equal_to_the_last_bit_and_fast_within_the_tolerance(name: str) -> None:
    config = make_config(**CONFIGS[name])
    model = make_model(config)
    exact, fast = PlainNetwork(model), FastNetwork(model, CPU, torch.float32)
    for case, options in INPUTS.items():
        assert config.resize_imgs_with_padding is not None
        inputs = inputs_of(options, config.resize_imgs_with_padding[0])
        noise = make_noise(len(inputs))
        plain = model.sample(inputs, noise)
        assert (plain - noise).abs().max() > 0.5, "chunks equal to the noise would prove nothing"
        assert torch.equal(run(exact, inputs, noise, config.num_steps), plain), case
        assert torch.equal(step_by_step(model, inputs, noise), plain), case
        chunk = run(fast, inputs, noise, config.num_steps)
        assert (chunk - plain).abs().max() < TOLERANCE, case
        assert not torch.equal(chunk, plain), "fast sums in another order: equal bits would mean that it is not used"


@pytest.mark.parametrize("cameras", [1, 3])
def test_other_numbers_of_cameras(cameras: int) -> None:
    config = make_config(cameras)
    model = make_model(config)
    inputs, noise = make_inputs(cameras=cameras), make_noise()
    plain = model.sample(inputs, noise)
    assert torch.equal(run(PlainNetwork(model), inputs, noise), plain)
    assert (run(FastNetwork(model, CPU, torch.float32), inputs, noise) - plain).abs().max() < TOLERANCE


def test_one_context_serves_many_states_and_stays_what_it_was() -> None:
    model = make_model(make_config())
    first, second = make_inputs(), make_inputs(seed=5)
    noise = make_noise()
    network: Any
    for network in (PlainNetwork(model), FastNetwork(model, CPU, torch.float32)):
        tokens = network.vision(first.images[0])[None]
        context = network.context(tokens, first.image_masks, first.tokens, first.token_mask)
        chunks = [
            network.denoise(context, state, noise, 10, None) for state in (first.state, second.state, first.state)
        ]
        assert torch.equal(chunks[0], chunks[2])
        assert (chunks[0] - chunks[1]).abs().max() > 1e-2


def test_fast_needs_no_plain_network_and_counts_its_memory() -> None:
    model = make_model(make_config())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    inputs, noise = make_inputs(), make_noise()
    plain = model.sample(inputs, noise)
    fast = FastNetwork(model, CPU, torch.float32)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert (run(fast, inputs, noise) - plain).abs().max() < TOLERANCE
    # What nobody reads is not there: the rest of the last text layer, keys and values of cross-attention twice.
    assert 0.7 < fast.memory_bytes / (4 * parameters) < 1.1
    assert run(FastNetwork(make_model(make_config()), CPU, torch.bfloat16), inputs, noise).dtype == torch.float32


def test_bfloat16_stays_near() -> None:
    model = make_model(make_config())
    inputs, noise = make_inputs(), make_noise()
    plain = model.sample(inputs, noise)
    narrow = run(FastNetwork(model, CPU, torch.bfloat16), inputs, noise)
    assert (narrow - plain).abs().max() < 0.1
    assert (narrow - plain).abs().max() > 1e-5


@pytest.mark.parametrize("network", [PlainNetwork, lambda model: FastNetwork(model, CPU, torch.float32)])
def test_special_tokens_without_ids_and_oblong_pictures_are_refused(network: Callable[..., Any]) -> None:
    with pytest.raises(TransformError, match="names no image tokens"):
        network(make_model(make_config(add_image_special_tokens=True)))
    with pytest.raises(TransformError, match="images of 64x32 pixels"):
        network(make_model(make_config())).vision(torch.zeros(1, 3, 32, 64))
