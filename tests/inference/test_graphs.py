"""CUDA graphs without a GPU: a recorder that calls instead of recording shows places, buckets, eviction and results.

What only a GPU can show (that the calls can be recorded at all) is in benchmarks/gpu/inference.sh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from smolpilot.inference.backends.cuda_graphs import Graphed, Replay
from smolpilot.inference.backends.fast import FastNetwork
from smolpilot.inference.backends.guidance import make_guidance
from smolpilot.inference.backends.plain import PlainNetwork
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA

from .helpers_engine import make_config, make_inputs, make_model, make_noise, padded, run

CPU = torch.device("cpu")
TOLERANCE = 1e-5
# A longer bucket changes the shapes of products and with them the order of sums.
ACROSS_BUCKETS = 1e-5


@pytest.fixture(scope="module")
def model() -> SmolVLA:
    return make_model(make_config())


def eager_recorder(call: Callable[[], Any], alone: bool = True) -> tuple[Any, Replay]:
    """Records nothing: a replay is the call itself, its result written into the first one's place."""
    output = call()
    return output, lambda: _copy(output, call())


def _copy(old: Any, new: Any) -> None:
    """Write the tensors of a result into the places of an earlier one."""
    if isinstance(old, Tensor):
        old.copy_(new)
    elif isinstance(old, list | tuple):
        for a, b in zip(old, new, strict=True):
            _copy(a, b)
    elif hasattr(old, "__dict__"):
        for name in vars(old):
            _copy(getattr(old, name), getattr(new, name))


def exact(model: SmolVLA, **options: Any) -> Graphed:
    return Graphed(PlainNetwork(model), recorder=eager_recorder, **options)


def fast(model: SmolVLA, **options: Any) -> Graphed:
    return Graphed(FastNetwork(model, CPU, torch.float32), recorder=eager_recorder, **options)


def chunk(graphed: Graphed, inputs: PolicyInputs, noise: Tensor, steps: int = 10, guidance: Any = None) -> Tensor:
    return graphed.chunk(inputs, noise, steps, guidance)


def test_exact_equals_the_plain_network_padded_to_the_bucket_in_every_bit(model: SmolVLA) -> None:
    graphed = exact(model)
    for length, bucket in ((5, 8), (8, 8), (9, 16), (23, 24), (60, 60)):
        inputs, noise = make_inputs(lengths=[length], seed=length), make_noise(seed=length)
        found = chunk(graphed, inputs, noise)
        assert torch.equal(found, model.sample(padded(inputs, bucket), noise)), length
        assert (found - model.sample(inputs, noise)).abs().max() < ACROSS_BUCKETS
    assert graphed.recorded == 4, "lengths 5 and 8 share a graph"


def test_fast_leaves_padding_out(model: SmolVLA) -> None:
    graphed = fast(model)
    inputs, noise = make_inputs(lengths=[6]), make_noise()
    plain = model.sample(inputs, noise)
    for width in (6, 11, 30):
        assert (chunk(graphed, padded(inputs, width), noise) - plain).abs().max() < TOLERANCE
    assert graphed.recorded == 1


@pytest.mark.parametrize("make", [exact, fast])
def test_new_inputs_reach_the_recorded_places(model: SmolVLA, make: Callable[..., Graphed]) -> None:
    graphed = make(model)
    results = []
    for seed in range(3):
        inputs, noise = make_inputs(lengths=[8], seed=seed), make_noise(seed=seed)
        results.append((chunk(graphed, inputs, noise), model.sample(inputs, noise)))
    assert graphed.recorded == 1
    for found, plain in results:  # compared at the end: a chunk handed out is not overwritten by the next
        assert (found - plain).abs().max() < TOLERANCE
    assert (results[0][0] - results[1][0]).abs().max() > 1e-2


@pytest.mark.parametrize("make", [exact, fast])
def test_calls_that_come_apart(model: SmolVLA, make: Callable[..., Graphed]) -> None:
    graphed = make(model)
    for seed in range(2):
        inputs, noise = make_inputs(lengths=[7], seed=seed), make_noise(seed=seed)
        assert (run(graphed, inputs, noise) - model.sample(inputs, noise)).abs().max() < TOLERANCE
        # The same context serves a second state.
        tokens = graphed.vision(inputs.images[0])[None]
        context = graphed.context(tokens, inputs.image_masks, inputs.tokens, inputs.token_mask)
        for shift in (0.0, 1.0):
            state = inputs.state + shift
            moved = PolicyInputs(inputs.images, inputs.image_masks, inputs.tokens, inputs.token_mask, state)
            found = graphed.denoise(context, state, noise, 10, None)
            assert (found - model.sample(moved, noise)).abs().max() < TOLERANCE
    assert graphed.recorded == 3


@pytest.mark.parametrize("make", [exact, fast])
def test_masked_cameras_batches_steps_and_guidance_have_graphs_of_their_own(
    model: SmolVLA, make: Callable[..., Graphed]
) -> None:
    graphed = make(model)
    network = graphed.network
    one, two = make_inputs(masks=[[False, True]]), make_inputs(batch=2)
    pull = make_guidance(torch.ones(1, 6, 3), chunk_size=12, action_dim=32, steps=4, delay=2)
    for inputs, steps, guidance in ((one, 10, None), (two, 10, None), (one, 4, None), (one, 4, pull)):
        noise = make_noise(len(inputs))
        expected = run(network, inputs, noise, steps, guidance)
        for _ in range(2):
            assert (chunk(graphed, inputs, noise, steps, guidance) - expected).abs().max() < TOLERANCE
    assert graphed.recorded == 4


def test_samples_that_show_different_cameras_run_without_a_graph(model: SmolVLA) -> None:
    graphed = exact(model)
    inputs = make_inputs(batch=2, lengths=[8, 5], masks=[[True, True], [True, False]])
    noise = make_noise(2)
    assert torch.equal(chunk(graphed, inputs, noise), model.sample(inputs, noise))
    assert (run(graphed, inputs, noise) - model.sample(inputs, noise)).abs().max() < TOLERANCE
    assert graphed.recorded == 1, "only the vision tower, which knows no mask"
    ragged = make_inputs(batch=2, lengths=[8, 5])
    narrow = fast(model)
    assert (chunk(narrow, ragged, noise) - model.sample(ragged, noise)).abs().max() < TOLERANCE
    assert narrow.recorded == 0, "fast has no graph for instructions of different length in one batch"


def test_the_oldest_graph_goes_first_and_takes_its_denoising_along(model: SmolVLA) -> None:
    graphed = fast(model, max_graphs=3)
    noise = make_noise()
    inputs = {length: make_inputs(lengths=[length], seed=length) for length in (4, 5, 6, 7)}
    expected = {length: chunk(graphed, inputs[length], noise) for length in (4, 5, 6)}
    assert graphed.recorded == 3
    chunk(graphed, inputs[4], noise)  # now 5 is the oldest
    chunk(graphed, inputs[7], noise)
    chunk(graphed, inputs[4], noise)
    assert graphed.recorded == 4
    assert torch.equal(chunk(graphed, inputs[5], noise), expected[5])
    assert graphed.recorded == 5
    for _ in range(3):
        for length, one in inputs.items():
            found = run(graphed, one, noise)
            assert (found - model.sample(one, noise)).abs().max() < TOLERANCE, length
            assert len(graphed._graphs) <= 3
    assert graphed.memory_bytes > graphed.network.memory_bytes
    graphed.close()
    assert not graphed._graphs
