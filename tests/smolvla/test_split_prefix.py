"""The split prefix (context without gradients, then the one state token) equals running the prefix at once."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA

CASES = {
    "as the public model": {},
    "self-attention only": {"attention_mode": "self_attn"},
    "cross-attention only": {"self_attn_every_n_layers": 0},
    "prefix padded": {"prefix_length": 70},
    "state projection frozen": {"train_state_proj": False},
}


def tiny(**overrides: object) -> PolicyConfig:
    frozen = {"train_expert_only": True, "freeze_vision_encoder": True}
    shapes = {"top": (3, 64, 64), "side": (3, 64, 64)}
    return preset("tiny", image_shapes=shapes, **{**frozen, **overrides})


def build(config: PolicyConfig) -> SmolVLA:
    model = SmolVLA(config)
    model.initialize(torch.Generator().manual_seed(1))
    return model


def inputs(seed: int = 0) -> PolicyInputs:
    """Three samples: instructions of different length, a masked camera, a chunk that ends early."""
    g = torch.Generator().manual_seed(seed)
    return PolicyInputs(
        images=torch.rand(3, 2, 3, 64, 64, generator=g) * 2 - 1,
        image_masks=torch.tensor([[True, True], [True, False], [False, True]]),
        tokens=torch.randint(0, 256, (3, 9), generator=g),
        token_mask=torch.arange(9)[None] < torch.tensor([9, 4, 6])[:, None],
        state=torch.randn(3, 32, generator=g),
        actions=torch.randn(3, 12, 32, generator=g),
        action_is_pad=torch.arange(12)[None] >= torch.tensor([12, 7, 12])[:, None],
    )


def loss_at_once(model: SmolVLA, batch: PolicyInputs, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    plain = SmolVLA.read_prefix
    try:
        SmolVLA.read_prefix = SmolVLA.encode_prefix  # type: ignore[method-assign]
        return model.loss(batch, noise, time)
    finally:
        SmolVLA.read_prefix = plain  # type: ignore[method-assign]


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_loss_and_every_gradient_over_several_steps(overrides: dict[str, object]) -> None:
    config = tiny(**overrides)
    models = [build(config), build(config)]
    optimizers = [torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-3) for m in models]
    for step in range(3):
        batch = inputs(step)
        g = torch.Generator().manual_seed(step)
        noise, time = torch.randn(3, 12, 32, generator=g), torch.rand(3, generator=g)
        losses = [models[0].loss(batch, noise, time), loss_at_once(models[1], batch, noise, time)]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=1e-6)
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        named = dict(models[1].named_parameters())
        for name, parameter in models[0].named_parameters():
            other = named[name].grad
            assert (parameter.grad is None) == (other is None), name
            if parameter.grad is not None and other is not None:
                scale = float(other.abs().max())
                torch.testing.assert_close(parameter.grad, other, rtol=0, atol=2e-5 * scale + 1e-9, msg=name)
        for optimizer in optimizers:
            optimizer.step()


def test_nothing_of_a_frozen_context_is_kept_for_the_gradient() -> None:
    model = build(tiny())
    assert not model.context_is_trained
    prefix = model.read_prefix(inputs())
    context = model.encode_context(inputs())
    assert not any(part.requires_grad for pair in context.keys_values for part in pair)
    assert any(part.requires_grad for pair in prefix.keys_values for part in pair)  # by the state token


def test_a_trained_context_gets_its_gradients() -> None:
    model = build(tiny(train_expert_only=False, freeze_vision_encoder=False))
    assert model.context_is_trained
    model.loss(inputs(), torch.zeros(3, 12, 32), torch.full((3,), 0.5)).backward()
    for name in ("vision.embeddings.patch_embedding.weight", "text.layers.0.self_attn.q_proj.weight"):
        gradient = dict(model.named_parameters())[name].grad
        assert gradient is not None
        assert float(gradient.abs().max()) > 0


def test_one_context_serves_many_states() -> None:
    model, batch = build(tiny()).eval(), inputs()
    context = model.encode_context(batch)
    moved = dataclasses.replace(batch, state=batch.state + 1)
    with torch.no_grad():
        for case in (batch, moved):
            split, whole = model.join_state(context, case.state), model.encode_prefix(case)
            assert torch.equal(split.mask, whole.mask)
            for left, right in zip(split.keys_values, whole.keys_values, strict=True):
                for a, b in zip(left, right, strict=True):
                    seen = split.mask[..., None, None]
                    torch.testing.assert_close(a * seen, b * seen, rtol=1e-5, atol=1e-5)
