"""Real-time chunking in the engine: the overlap of two chunks, in robot units, in every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.contracts import Leftover
from smolpilot.inference import prepare
from smolpilot.inference.backends.guidance import gains, make_guidance, prefix_weights
from smolpilot.smolvla import Policy
from smolpilot.smolvla.network.flow_matching import integrate

Frames = list[dict[str, Any]]


def test_weights_by_schedule() -> None:
    assert prefix_weights(2, 5, 7, "ones").tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert prefix_weights(2, 5, 7, "zeros").tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert prefix_weights(2, 5, 7, "linear").tolist() == pytest.approx([1, 1, 0.75, 0.5, 0.25, 0, 0])
    falling = prefix_weights(2, 5, 7, "exp")
    assert falling[:2].tolist() == [1, 1]
    assert 0 < falling[4] < falling[3] < falling[2] < 1
    assert prefix_weights(9, 5, 7, "linear").tolist() == [1, 1, 1, 1, 1, 0, 0]
    with pytest.raises(UsageError, match="Did you mean 'linear'"):
        prefix_weights(0, 1, 2, "linaer")  # type: ignore[arg-type]


def test_gains_are_finite_and_bounded() -> None:
    for steps in (1, 4, 10):
        found = gains(steps, 10.0)
        assert found.shape == (steps,)
        assert torch.isfinite(found).all()
        assert found.max() <= 10
    assert gains(10)[0] == 10


def test_without_guidance_the_steps_are_the_plain_ones() -> None:
    noise = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    velocity = lambda x: torch.sin(3 * x)  # noqa: E731
    x, dt = noise, -1.0 / 7
    for _ in range(7):
        x = x + dt * velocity(x)
    assert torch.equal(integrate(lambda i, x: velocity(x), noise, 7), x)
    nothing = make_guidance(noise, chunk_size=5, action_dim=4, steps=7, delay=0, schedule="zeros")
    assert torch.equal(integrate(lambda i, x: velocity(x), noise, 7, nothing.guide), integrate(
        lambda i, x: velocity(x), noise, 7))  # fmt: skip


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_chunk_keeps_to_what_will_be_executed(mode: Any, policy: Policy, frames: Frames, tmp_path: Path) -> None:
    engine = prepare(policy, engine=mode, frame=frames[0], cache_dir=tmp_path)
    last = engine.predict_chunk(frames[2], seed=7)
    leftover = last[4:]  # four actions were executed
    free = engine.predict_chunk(frames[0], seed=1)
    bound = engine.predict_chunk(frames[0], seed=1, leftover=leftover, delay=3)
    scale = (free[:8] - leftover).abs().mean()
    assert (bound[:3] - leftover[:3]).abs().max() < 0.05 * scale
    assert (bound[8:] - free[8:]).abs().max() > 0, "later steps hear of it through attention"
    near = engine.predict_chunk(frames[0], seed=1, leftover=leftover, delay=1, horizon=2)
    assert (near[:8] - leftover).abs().mean() > (bound[:8] - leftover).abs().mean()
    # Late state takes the same left-over; numpy does as well as torch.
    engine.begin(frames[0])
    previous = Leftover(leftover.numpy(), delay=3)
    late = engine.finish(frames[0]["observation.state"], seed=1, previous=previous)
    assert torch.equal(late, bound)
    assert np.array_equal(engine.predict([frames[0]], seeds=[1], previous=previous)[0], bound.numpy())


def test_modes_agree_under_guidance(policy: Policy, frames: Frames, tmp_path: Path) -> None:
    leftover = policy.predict_chunk(frames[1], torch.zeros(12, 32))[5:]
    found = [
        prepare(policy, engine=mode, frame=frames[0], cache_dir=tmp_path).predict_chunk(
            frames[0], seed=2, leftover=leftover, delay=2, schedule="exp", max_gain=5.0
        )
        for mode in ("exact", "fast")
    ]
    assert (found[0] - found[1]).abs().max() < 1e-5


def test_a_leftover_that_does_not_fit_is_told(policy: Policy, frames: Frames, tmp_path: Path) -> None:
    engine = prepare(policy, engine="fast", check=False, cache_dir=tmp_path)
    options: Any
    for leftover, options, error, message in [
        (torch.zeros(13, 3), {}, UsageError, "left-over has 13 steps"),
        (torch.zeros(0, 3), {}, UsageError, "left-over has 0 steps"),
        (torch.zeros(5, 4), {}, TransformError, "'action' has 4 values"),
        (torch.full((5, 3), float("nan")), {}, TransformError, "'action' is NaN"),
        (torch.zeros(5), {}, TransformError, "actions have shape"),
        (torch.zeros(5, 3), {"delay": -1}, UsageError, "delay is -1"),
        (torch.zeros(5, 3), {"horizon": 0}, UsageError, "horizon 0"),
    ]:
        with pytest.raises(error, match=message):
            engine.predict_chunk(frames[0], leftover=leftover, **options)
