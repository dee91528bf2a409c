"""The network against LeRobot 0.6.1: same weights, noise and time -> same loss, every gradient, same chunks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smolpilot.common.errors import UsageError
from smolpilot.smolvla.checkpoint import weight_names as names
from smolpilot.smolvla.config import PolicyConfig, VLMConfig
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA

from .conftest import FAKE_IMAGE, GLOBAL_IMAGE, TEXT, VISION, lerobot_policy, write_vlm_folder

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-5


def our_model(theirs: Any, folder: Path, tmp_path: Path) -> SmolVLA:
    """Our network with LeRobot's config and weights, through the files that LeRobot writes."""
    theirs.config._save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    vlm = VLMConfig.from_json(json.loads((folder / "config.json").read_text()))
    tokens = {"fake_image_token_id": FAKE_IMAGE, "global_image_token_id": GLOBAL_IMAGE}
    model = SmolVLA(PolicyConfig.from_lerobot(values, vlm, **tokens))
    weights = {names.from_lerobot(name) or "": value for name, value in theirs.state_dict().items()}
    unknown = [name for name in theirs.state_dict() if names.from_lerobot(name) is None]
    assert unknown == list(names.UNUSED)
    weights.pop("", None)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model


def make_batch(policy: Any, *, batch: int, mask_cameras: bool, seed: int = 1) -> dict[str, Tensor]:
    """A normalized batch as LeRobot's pre-processor leaves it: instructions of different length, padded chunk ends."""
    g = torch.Generator().manual_seed(seed)
    config = policy.config
    lengths = torch.tensor([9, 5, 12])[:batch]
    width = 16 if config.pad_language_to == "max_length" else int(lengths.max())
    language_mask = torch.arange(width)[None] < lengths[:, None]
    data: dict[str, Tensor] = {
        "observation.state": torch.randn(batch, config.input_features["observation.state"].shape[0], generator=g),
        "observation.language.tokens": torch.randint(0, 250, (batch, width), generator=g) * language_mask,
        "observation.language.attention_mask": language_mask,
        "action": torch.randn(batch, config.chunk_size, config.action_feature.shape[0], generator=g),
        "action_is_pad": torch.arange(config.chunk_size)[None] >= torch.tensor([7, 4, 6])[:batch, None],
    }
    real = [key for key in config.image_features if "empty_camera" not in key]
    for i, key in enumerate(real):
        data[key] = torch.rand(batch, 3, 24, 40, generator=g)
        if mask_cameras:
            data[f"{key}_padding_mask"] = torch.tensor([(row + i) % len(real) != 0 for row in range(batch)])
    return data


def our_inputs(policy: Any, data: dict[str, Tensor]) -> PolicyInputs:
    images, masks = policy.prepare_images(data)
    return PolicyInputs(
        images=torch.stack(images, dim=1),
        image_masks=torch.stack(masks, dim=1),
        tokens=data["observation.language.tokens"],
        token_mask=data["observation.language.attention_mask"],
        state=policy.prepare_state(data),
        actions=policy.prepare_action(data),
        action_is_pad=data["action_is_pad"],
    )


CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "self_attention_every_4": {"self_attn_every_n_layers": 4},
    "self_attention_every_3": {"self_attn_every_n_layers": 3},
    "all_self_attention": {"attention_mode": "self_attn"},
    "all_cross_attention": {"self_attn_every_n_layers": 0},
    "fewer_expert_layers": {"self_attn_every_n_layers": 0, "num_expert_layers": 2},
    "one_expert_layer": {"self_attn_every_n_layers": -1, "num_expert_layers": 1},
    "all_text_layers": {"num_vlm_layers": 0},
    "masked_cameras": {"cameras": 3, "_mask_cameras": True},
    "empty_camera": {"empty_cameras": 1},
    "empty_cameras_and_special_tokens": {"empty_cameras": 2, "add_image_special_tokens": True},
    "special_tokens": {"add_image_special_tokens": True, "cameras": 3, "_mask_cameras": True},
    "prefix_length": {"prefix_length": 90},
    "prefix_length_too_short": {"prefix_length": 4},
    "batch_1": {"_batch": 1},
    "dims_2": {"state": 2, "action": 2},
    "dims_16": {"state": 16, "action": 16},
    "dims_26": {"state": 26, "action": 26},
    "dims_differ": {"state": 9, "action": 7},
    "wider_projections": {"state": 40, "action": 34, "max_state_dim": 40, "max_action_dim": 40},
    "public_base": {"num_expert_layers": 0, "prefix_length": 0, "pad_language_to": "max_length", "cameras": 3},
    "train_all": {"train_expert_only": False, "freeze_vision_encoder": False},
    "train_all_but_vision": {"train_expert_only": False, "freeze_vision_encoder": True},
    "train_all_fewer_expert_layers": {
        "train_expert_only": False,
        "freeze_vision_encoder": False,
        "self_attn_every_n_layers": 0,
        "num_expert_layers": 2,
    },
    "frozen_state_projection": {"train_state_proj": False},
    "other_periods_and_steps": {"min_period": 1e-2, "max_period": 2.0, "num_steps": 4},
    "other_image_size": {"resize_imgs_with_padding": (24, 24)},
}


@pytest.mark.parametrize("case", CASES)
def test_loss_gradients_and_chunks_equal_lerobot(case: str, vlm_folder: Path, tmp_path: Path) -> None:
    options = dict(CASES[case])
    batch = options.pop("_batch", 3)
    mask_cameras = options.pop("_mask_cameras", False)
    theirs = lerobot_policy(vlm_folder, **options).float()
    ours = our_model(theirs, vlm_folder, tmp_path)
    data = make_batch(theirs, batch=batch, mask_cameras=mask_cameras)
    inputs = our_inputs(theirs, data)
    assert inputs.actions is not None
    noise = torch.randn(inputs.actions.shape, generator=torch.Generator().manual_seed(2))
    time = torch.tensor([0.03, 0.5, 0.97])[:batch]

    their_loss, _ = theirs.forward({key: value.clone() for key, value in data.items()}, noise, time)
    our_loss = ours.loss(inputs, noise, time)
    assert abs(our_loss.item() - their_loss.item()) < TOLERANCE

    their_loss.backward()
    our_loss.backward()
    compare_gradients(theirs, ours)

    their_chunk = theirs.predict_action_chunk({k: v.clone() for k, v in data.items()}, noise)
    our_chunk = ours.eval().sample(inputs, noise)[..., : theirs.config.action_feature.shape[0]]
    assert their_chunk.abs().max() > 0.1, "chunks near zero would prove nothing"
    assert (our_chunk - their_chunk).abs().max() < TOLERANCE


def compare_gradients(theirs: Any, ours: SmolVLA) -> None:
    """The same parameters are trained, and each gradient differs by less than the tolerance of its scale."""
    ours_by_name = {names.to_lerobot(name): parameter for name, parameter in ours.named_parameters()}
    compared = 0
    for name, their in theirs.named_parameters():
        if name in names.UNUSED:
            continue
        our = ours_by_name[name]
        assert our.requires_grad == their.requires_grad, name
        their_grad = torch.zeros_like(their) if their.grad is None else their.grad
        our_grad = torch.zeros_like(our) if our.grad is None else our.grad
        scale = max(1.0, float(their_grad.abs().max()))
        assert (our_grad - their_grad).abs().max() < TOLERANCE * scale, name
        compared += int(their_grad.abs().max() > 0)
    assert compared >= 20


def test_native_mixed_dtypes_are_close(tmp_path: Path) -> None:
    """LeRobot as built holds text layers and expert in bfloat16 (8 bits of mantissa): chunks agree to 0.05."""
    text = {**TEXT, "dtype": "bfloat16"}
    folder = write_vlm_folder(tmp_path / "vlm", text=text, vision=VISION, scale_factor=2)
    theirs = lerobot_policy(folder)
    assert len({parameter.dtype for parameter in theirs.parameters()}) == 2
    ours = our_model(theirs, folder, tmp_path)
    data = make_batch(theirs, batch=3, mask_cameras=False)
    inputs = our_inputs(theirs, data)
    assert inputs.actions is not None
    noise = torch.randn(inputs.actions.shape, generator=torch.Generator().manual_seed(2))
    time = torch.tensor([0.03, 0.5, 0.97])
    their_loss, _ = theirs.forward({key: value.clone() for key, value in data.items()}, noise, time)
    assert ours.loss(inputs, noise, time).item() == pytest.approx(their_loss.item(), rel=0.02)
    their_chunk = theirs.predict_action_chunk(data, noise)
    our_chunk = ours.eval().sample(inputs, noise)[..., :6]
    assert (our_chunk - their_chunk).abs().max() < 0.05 * their_chunk.abs().max()


@pytest.mark.parametrize(
    "options",
    [
        {"num_expert_layers": 2},
        {"num_expert_layers": 2, "self_attn_every_n_layers": 4},
        {"num_expert_layers": 2, "attention_mode": "self_attn"},
        {"num_expert_layers": 3},
    ],
)
def test_combinations_lerobot_cannot_run_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="num_expert_layers"):
        PolicyConfig(num_vlm_layers=4, **options)


@pytest.mark.parametrize("side", [4, 8, 16, 19, 25, 29, 31, 32, 38, 40])
@pytest.mark.parametrize("trained_side", [8, 25, 29, 32])
def test_patch_positions_equal_the_reference(side: int, trained_side: int) -> None:
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionEmbeddings

    from smolpilot.smolvla.network.vision import patch_positions

    settings: dict[str, Any] = {"hidden_size": 1, "image_size": 2 * trained_side, "patch_size": 2}
    reference: Any = SmolVLMVisionEmbeddings(SmolVLMVisionConfig(**settings))
    reference.patch_embedding.weight.data.zero_()
    reference.patch_embedding.bias.data.zero_()
    reference.position_embedding.weight.data = torch.arange(trained_side**2, dtype=torch.float32)[:, None]
    mask = torch.ones(1, side, side, dtype=torch.bool)
    found = reference(torch.zeros(1, 3, 2 * side, 2 * side), mask)[0, :, 0]
    assert torch.equal(found.long(), patch_positions(side, trained_side, torch.device("cpu")))


@pytest.mark.full_size
def test_full_size_model_equals_lerobot(tmp_path: Path) -> None:
    """The public 450 M architecture with random weights; opt in with SMOLPILOT_FULL_SIZE=1 (12 GB, some minutes)."""
    if os.environ.get("SMOLPILOT_FULL_SIZE") != "1":
        pytest.skip("set SMOLPILOT_FULL_SIZE=1 to build the 450 M model")
    defaults = VLMConfig().to_json()
    folder = write_vlm_folder(
        tmp_path / "vlm", text=defaults["text_config"], vision=defaults["vision_config"], scale_factor=4
    )
    sizes: dict[str, Any] = {"resize_imgs_with_padding": (512, 512), "num_vlm_layers": 16, "chunk_size": 50}
    theirs = lerobot_policy(folder, small=True, **sizes).float()
    assert sum(parameter.numel() for parameter in theirs.parameters()) == pytest.approx(450.046e6, abs=1e3)
    ours = our_model(theirs, folder, tmp_path)
    assert sum(p.numel() for p in ours.parameters() if p.requires_grad) == pytest.approx(99.881e6, abs=1e3)
    data = make_batch(theirs, batch=2, mask_cameras=False)
    inputs = our_inputs(theirs, data)
    assert inputs.actions is not None
    noise = torch.randn(inputs.actions.shape, generator=torch.Generator().manual_seed(2))
    time = torch.tensor([0.03, 0.6])
    their_loss, _ = theirs.forward({key: value.clone() for key, value in data.items()}, noise, time)
    our_loss = ours.loss(inputs, noise, time)
    assert abs(our_loss.item() - their_loss.item()) < TOLERANCE
    their_loss.backward()
    our_loss.backward()
    compare_gradients(theirs, ours)
    their_chunk = theirs.predict_action_chunk(data, noise)
    assert (ours.eval().sample(inputs, noise)[..., :6] - their_chunk).abs().max() < TOLERANCE
