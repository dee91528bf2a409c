"""A transform that somebody adds reaches the engine in each of its calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smolpilot.common.errors import TransformError
from smolpilot.contracts import Leftover
from smolpilot.inference import Engine, prepare
from smolpilot.inference.backends.guidance import make_guidance
from smolpilot.smolvla import Policy
from smolpilot.smolvla.network.flow_matching import integrate

from ..smolvla.helpers_new_transforms import DeltaActions, Politely, UpsideDown, with_extra

Frames = list[dict[str, Any]]


@pytest.fixture(scope="module")
def changed(policy: Policy) -> Policy:
    return with_extra(policy, DeltaActions(), UpsideDown("front"), Politely())


@pytest.fixture(scope="module", params=["exact", "fast"])
def engine(
    request: pytest.FixtureRequest, changed: Policy, frames: Frames, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engines")
    with prepare(changed, engine=request.param, device="cpu", frame=frames[0], cache_dir=folder) as engine:
        yield engine


def noise(seed: int) -> Tensor:
    return torch.randn(12, 32, generator=torch.Generator().manual_seed(seed))


def tolerance(engine: Engine) -> float:
    return 0.0 if engine.settings.mode == "exact" else 1e-5


def test_chunks_batches_and_late_states_are_those_of_the_policy(
    engine: Engine, changed: Policy, policy: Policy, frames: Frames
) -> None:
    for i, frame in enumerate(frames):
        expected = changed.predict_chunk(frame, noise(i))
        assert (engine.predict_chunk(frame, noise(i)) - expected).abs().max() <= tolerance(engine)
        assert (policy.predict_chunk(frame, noise(i)) - expected).abs().max() > 1e-3
    together = engine.predict_chunks(frames, torch.stack([noise(i) for i in range(3)]))
    expected = changed.predict_chunks(frames, torch.stack([noise(i) for i in range(3)]))
    assert (together - expected).abs().max() <= tolerance(engine)
    engine.begin(frames[0])
    late = {**frames[0], "observation.state": frames[1]["observation.state"]}
    found = engine.finish(frames[1]["observation.state"], noise=noise(1))
    assert (found - changed.predict_chunk(late, noise(1))).abs().max() <= tolerance(engine)


def test_a_leftover_is_seen_from_the_state_of_now(engine: Engine, changed: Policy, frames: Frames) -> None:
    """A left-over is in robot units; what guides the network are its differences from the newest state."""
    frame, leftover = frames[0], engine.predict_chunk(frames[2], seed=7)[4:]
    inputs = changed.transforms.inputs([{k: v for k, v in frame.items() if k not in ("action", "action_is_pad")}])
    apart = torch.nn.functional.pad((leftover - torch.as_tensor(frame["observation.state"])) / 0.5, (0, 29))
    guidance = make_guidance(apart[None], chunk_size=12, action_dim=32, steps=10, delay=3)
    prefix = changed.model.read_prefix(inputs)
    with torch.no_grad():
        sampled = integrate(
            lambda i, x: changed.model.velocity(x, torch.full((1,), 1 - i / 10), prefix),
            noise(1)[None],
            10,
            guidance.guide,
        )
    expected = 0.5 * sampled[0, :, :3] + frame["observation.state"]
    bound = engine.predict_chunk(frame, noise(1), leftover=leftover, delay=3)
    torch.testing.assert_close(bound, expected, rtol=1e-4, atol=1e-4)
    assert (bound - engine.predict_chunk(frame, noise(1))).abs().max() > 1e-3
    engine.begin(frame)
    found = engine.finish(frame["observation.state"], noise=noise(1), previous=Leftover(leftover.numpy(), delay=3))
    assert (found - bound).abs().max() <= tolerance(engine)


def test_the_network_alone_cannot_be_judged_without_the_state(changed: Policy, frames: Frames, tmp_path: Path) -> None:
    engine = prepare(changed, engine="fast", device="cpu", cache_dir=tmp_path)
    inputs = changed.transforms.inputs([{k: v for k, v in frames[0].items() if k not in ("action", "action_is_pad")}])
    with pytest.raises(TransformError, match="'delta_actions' needs the state"):
        engine.predict_normalized(inputs)
