"""Properties of the network that hold without a reference."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.smolvla.checkpoint import weight_names as names
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.network.flow_matching import draw_time, integrate, point_on_path
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA


def tiny_config(**overrides: object) -> PolicyConfig:
    return preset("tiny", image_shapes={"top": (3, 64, 64), "side": (3, 64, 64)}, **overrides)


def make_model(config: PolicyConfig | None = None, seed: int = 0) -> SmolVLA:
    model = SmolVLA(config or tiny_config())
    model.initialize(torch.Generator().manual_seed(seed))
    # Fresh weights are small; wider ones make every input matter, so that a dropped path shows.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 5
    return model.eval()


def make_inputs(batch: int = 2, side: int = 64, seed: int = 0) -> PolicyInputs:
    g = torch.Generator().manual_seed(seed)
    return PolicyInputs(
        images=torch.rand(batch, 2, 3, side, side, generator=g) * 2 - 1,
        image_masks=torch.ones(batch, 2, dtype=torch.bool),
        tokens=torch.randint(0, 256, (batch, 8), generator=g),
        token_mask=torch.arange(8)[None] < torch.tensor([8, 5])[:batch, None],
        state=torch.randn(batch, 32, generator=g),
        actions=torch.randn(batch, 12, 32, generator=g),
        action_is_pad=torch.arange(12)[None] >= torch.tensor([12, 7])[:batch, None],
    )


def noise_for(inputs: PolicyInputs) -> torch.Tensor:
    return torch.randn(len(inputs), 12, 32, generator=torch.Generator().manual_seed(3))


def changed(inputs: PolicyInputs, **values: Any) -> PolicyInputs:
    return dataclasses.replace(inputs, **values)


def test_tiny_is_well_under_two_million_parameters_and_smolvla_is_the_public_size() -> None:
    assert sum(p.numel() for p in SmolVLA(tiny_config()).parameters()) < 1_000_000
    with torch.device("meta"):
        model = SmolVLA(preset("smolvla"))
    head = 49280 * 960  # the language head, in the file but not in the network
    assert sum(p.numel() for p in model.parameters()) + head == pytest.approx(450.046e6, abs=1e3)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == pytest.approx(99.881e6, abs=1e3)


def test_every_input_reaches_the_chunk() -> None:
    model, inputs = make_model(), make_inputs()
    noise = noise_for(inputs)
    base = model.sample(inputs, noise)
    other = make_inputs(seed=9)
    for name in ("images", "tokens", "state"):
        moved = model.sample(changed(inputs, **{name: getattr(other, name)}), noise)
        assert (moved - base).abs().amax(dim=(1, 2)).min() > 1e-3, name
    assert (model.sample(inputs, noise + 0.1) - base).abs().max() > 1e-3


def test_padded_tokens_and_masked_cameras_change_nothing() -> None:
    model, inputs = make_model(), make_inputs()
    noise = noise_for(inputs)
    masks = torch.tensor([[True, False], [True, True]])
    inputs = changed(inputs, image_masks=masks)
    base = model.sample(inputs, noise)
    images = inputs.images.clone()
    images[0, 1] = 0.7
    tokens = torch.where(inputs.token_mask, inputs.tokens, 99)
    moved = model.sample(changed(inputs, images=images, tokens=tokens), noise)
    torch.testing.assert_close(moved, base, rtol=0, atol=1e-6)
    # Masked for the whole batch, the camera is not even computed, with the same result.
    only_first = changed(inputs, image_masks=torch.tensor([[True, False], [True, False]]))
    one_camera = changed(inputs, images=inputs.images[:, :1], image_masks=torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(model.sample(only_first, noise), model.sample(one_camera, noise), rtol=0, atol=1e-6)


def test_images_and_instruction_do_not_see_the_state() -> None:
    # No padding here: what a padded token sees is garbage that nobody reads.
    model, inputs = make_model(), make_inputs(batch=1)
    base = model.encode_prefix(inputs)
    moved = model.encode_prefix(changed(inputs, state=inputs.state + 1))
    for (keys, values), (moved_keys, moved_values) in zip(base.keys_values, moved.keys_values, strict=True):
        assert torch.equal(keys[:, :-1], moved_keys[:, :-1])
        assert torch.equal(values[:, :-1], moved_values[:, :-1])
        assert not torch.equal(values[:, -1], moved_values[:, -1])


def test_action_tokens_are_causal() -> None:
    model, inputs = make_model(tiny_config(attention_mode="self_attn")), make_inputs()
    noisy, time = noise_for(inputs), torch.tensor([0.4, 0.8])
    prefix = model.encode_prefix(inputs)
    base = model.velocity(noisy, time, prefix)
    later = noisy.clone()
    later[:, 6:] += 1
    moved = model.velocity(later, time, prefix)
    torch.testing.assert_close(moved[:, :6], base[:, :6], rtol=0, atol=1e-6)
    assert (moved[:, 6:] - base[:, 6:]).abs().max() > 1e-3


def test_loss_ignores_padded_dimensions_and_steps_after_the_episode() -> None:
    model, inputs = make_model(), make_inputs()
    noise, time = noise_for(inputs), torch.tensor([0.4, 0.8])
    errors = model.losses(inputs, noise, time)
    assert errors.shape == (2, 12, 6)
    expected = (errors[0].sum() + errors[1, :7].sum()) / (19 * 6)
    assert model.loss(inputs, noise, time).item() == pytest.approx(expected.item(), rel=1e-6)


def test_no_step_inside_the_episode_gives_zero_not_nan() -> None:
    model, inputs = make_model(), make_inputs()
    padded = changed(inputs, action_is_pad=torch.ones(2, 12, dtype=torch.bool))
    assert model.loss(padded).item() == 0.0


def test_same_noise_same_chunk_and_initialize_is_reproducible() -> None:
    inputs = make_inputs()
    noise = noise_for(inputs)
    first, second, other = make_model(seed=1), make_model(seed=1), make_model(seed=2)
    assert torch.equal(first.sample(inputs, noise), second.sample(inputs, noise))
    assert not torch.equal(first.sample(inputs, noise), other.sample(inputs, noise))


def test_images_that_make_no_square_of_patches_are_refused_with_the_fix() -> None:
    model, inputs = make_model(), make_inputs()
    with pytest.raises(TransformError, match=r"images of 32x64 pixels\.\nExpected: square") as caught:
        model.sample(changed(inputs, images=inputs.images[..., :32]))
    assert caught.value.fix == "set resize_imgs_with_padding to a square"
    with pytest.raises(TransformError, match=r"images of 3x3 pixels\.\nExpected: at least one patch"):
        model.sample(changed(inputs, images=inputs.images[..., :3, :3]))


def test_a_loss_needs_actions() -> None:
    with pytest.raises(TransformError, match="no actions"):
        make_model().loss(changed(make_inputs(), actions=None))


def test_time_is_beta_distributed_within_its_range() -> None:
    time = draw_time(20_000, generator=torch.Generator().manual_seed(0))
    assert time.min() >= 0.001
    assert time.max() <= 1.0
    # Beta(1.5, 1): mean 0.6, variance 0.06857
    scaled = (time - 0.001) / 0.999
    assert scaled.mean().item() == pytest.approx(0.6, abs=0.005)
    assert scaled.var().item() == pytest.approx(0.06857, abs=0.002)


def test_integrating_the_true_velocity_returns_the_actions() -> None:
    g = torch.Generator().manual_seed(0)
    actions, noise = torch.randn(2, 5, 3, generator=g), torch.randn(2, 5, 3, generator=g)
    _, velocity = point_on_path(actions, noise, torch.tensor([0.2, 0.9]))
    for steps in (1, 10):
        torch.testing.assert_close(integrate(lambda step, x: velocity, noise, steps), actions, atol=1e-5, rtol=0)


def test_weight_names_map_one_to_one() -> None:
    ours = list(make_model().state_dict())
    theirs = [names.to_lerobot(name) for name in ours]
    assert len(set(theirs)) == len(ours)
    assert [names.from_lerobot(name) for name in theirs] == ours
    assert names.from_lerobot("model.vlm_with_expert.vlm.lm_head.weight") is None


def test_what_is_trained_follows_the_config() -> None:
    def trained(**options: object) -> set[str]:
        model = SmolVLA(tiny_config(**options))
        return {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}

    head = {"expert", "action_in_proj", "action_out_proj", "action_time_mlp_in", "action_time_mlp_out"}
    assert trained(train_expert_only=True) == head | {"state_proj"}
    assert trained(train_expert_only=True, train_state_proj=False) == head
    assert trained() == head | {"state_proj", "vision", "connector", "text"}
    assert trained(freeze_vision_encoder=True) == head | {"state_proj", "connector", "text"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_expert_layers": 2}, "num_expert_layers"),
        ({"num_expert_layers": 3}, "does not divide"),
        ({"n_action_steps": 13}, "n_action_steps"),
        ({"resize_imgs_with_padding": (64, 48)}, "square"),
        ({"image_shapes": {"depth": (1, 64, 64)}}, "depth"),
    ],
)
def test_configs_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset("tiny", **options)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        preset("tinny")
