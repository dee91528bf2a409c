"""What no policy is made of: processors that contradict each other, vocabularies that do not fit, odd settings."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.common.errors import CheckpointError, SmolpilotError, TransformError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.smolvla.config import TextConfig, VisionConfig, VLMConfig
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_tokenizer
from smolpilot.smolvla.transforms.instruction import InstructionTransform

from .helpers_transforms import tiny_config, transforms

PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
MODULES = [f"model.vlm_with_expert.lm_expert.layers.{i}.self_attn.q_proj" for i in range(2)]


@pytest.fixture(scope="module")
def made(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("refusals") / "bundle")


@pytest.fixture
def checkpoint(made: Path, tmp_path: Path) -> Path:
    """LeRobot's files alone, without what a bundle adds."""
    folder = Path(shutil.copytree(made, tmp_path / "checkpoint"))
    (folder / "smolpilot.json").unlink()
    return folder


def edit(path: Path, step: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the config of one step of a processor file."""
    document = json.loads(path.read_text())
    (found,) = [one for one in document["steps"] if one["registry_name"] == step]
    change(found["config"])
    path.write_text(json.dumps(document))


def loaded(folder: Path) -> Any:
    return load_policy(folder, device="cpu", tokenizer_dir=folder / "vlm")


def test_actions_normalized_one_way_and_back_another_are_refused(checkpoint: Path) -> None:
    """Such a policy would move the robot by something else than what it was trained to do."""
    assert loaded(checkpoint).report.kind
    edit(checkpoint / POST, "unnormalizer_processor", lambda config: config["norm_map"].update(ACTION="MIN_MAX"))
    with pytest.raises(CheckpointError, match=r"MEAN_STD.* MIN_MAX"):
        loaded(checkpoint)


@pytest.mark.parametrize(
    ("step", "change", "words"),
    [
        ("rename_observations_processor", lambda c: c.update(rename_map={
            "observation.images.a": "observation.images.front", "observation.state": "observation.images.b"}),
         "renames 'observation.state' to 'observation.images.b'"),
        ("rename_observations_processor", lambda c: c.update(rename_map={"observation.images.a": "action"}),
         "renames 'observation.images.a' to 'action'"),
        ("tokenizer_processor", lambda c: c.update(padding_side="left"), "left"),
        ("tokenizer_processor", lambda c: c.update(task_key="goal"), "goal"),
    ],
)  # fmt: skip
def test_processors_that_would_read_something_else(
    checkpoint: Path, step: str, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit(checkpoint / PRE, step, change)
    with pytest.raises(CheckpointError, match=words):
        loaded(checkpoint)


def test_every_camera_of_a_renaming_is_read(checkpoint: Path) -> None:
    renamed = {"observation.images.a": "observation.images.front", "observation.images.b": "observation.images.wrist"}
    edit(checkpoint / PRE, "rename_observations_processor", lambda config: config.update(rename_map=renamed))
    assert loaded(checkpoint).transforms.config.camera_map == {"a": "front", "b": "wrist"}


def test_a_step_of_somebody_elses_is_refused_also_behind_one_that_is_switched_off(checkpoint: Path) -> None:
    document = json.loads((checkpoint / PRE).read_text())
    off = {"registry_name": "their_smoother", "config": {"enabled": False}}
    document["steps"] += [off, {**off, "registry_name": "their_crop"}]
    (checkpoint / PRE).write_text(json.dumps(document))
    notes = "\n".join(loaded(checkpoint).report.notes)
    assert "'their_smoother' is switched off" in notes
    assert "'their_crop' is switched off" in notes
    document["steps"][-1]["config"] = {}
    (checkpoint / PRE).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="has the step 'their_crop'"):
        loaded(checkpoint)


# -- the instruction ---------------------------------------------------------------------------------------------------


def test_a_tokenizer_larger_than_the_vocabulary_is_refused() -> None:
    config = tiny_config()
    tokenizer = byte_level_tokenizer(config.vlm)
    exact = dataclasses.replace(config.vlm.text, vocab_size=tokenizer.vocab_size)
    fits = dataclasses.replace(config, vlm=dataclasses.replace(config.vlm, text=exact))
    InstructionTransform(fits, tokenizer, [], None)
    less = dataclasses.replace(exact, vocab_size=tokenizer.vocab_size - 1)
    small = dataclasses.replace(config, vlm=dataclasses.replace(config.vlm, text=less))
    with pytest.raises(TransformError, match=rf"tokenizer has {tokenizer.vocab_size} tokens"):
        InstructionTransform(small, tokenizer, [], None)


def test_padding_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SmolpilotError, match=r"pad_language_to'? is 'shortest'"):
        transforms(tiny_config(pad_language_to="shortest"))


# -- the adapter -------------------------------------------------------------------------------------------------------


def adapter(folder: Path, base: Path, **config: Any) -> Path:
    weights, tensors = load_file(base / "model.safetensors"), {}
    generator = torch.Generator().manual_seed(0)
    for module in MODULES:
        out, width = weights[f"{module}.weight"].shape
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(4, width, generator=generator)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, 4, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "lora_alpha": 16, **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    for path in [base / "config.json", *base.glob("policy_*")]:
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize(
    ("patterns", "alphas"),
    [
        # PEFT takes the first that matches the end of a name, however exact the others are.
        ({"q_proj": 2, r"layers\.0\.self_attn\.q_proj": 6}, (2, 2)),
        ({r"layers\.0\.self_attn\.q_proj": 6, "q_proj": 2}, (6, 2)),
        ({"v_proj": 2, "0.self_attn.q_proj": 6}, (6, 16)),
        ({"self_attn": 2}, (16, 16)),
        ({}, (16, 16)),
    ],
)
def test_the_first_of_several_patterns_counts(
    made: Path, tmp_path: Path, patterns: dict[str, float], alphas: tuple[float, float]
) -> None:
    folder = adapter(tmp_path / "adapter", made, alpha_pattern=patterns)
    before, parts = load_file(made / "model.safetensors"), load_file(folder / "adapter_model.safetensors")
    after = load_file(save_bundle(load_policy(folder, device="cpu"), tmp_path / "merged") / "model.safetensors")
    for module, alpha in zip(MODULES, alphas, strict=True):
        a, b = (parts[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
        torch.testing.assert_close(after[f"{module}.weight"], before[f"{module}.weight"] + alpha / 4 * b @ a)


def test_the_first_pattern_is_a_rank_too(made: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", made, r=8, rank_pattern={"q_proj": 4, "self_attn.q_proj": 8})
    assert load_policy(folder, device="cpu").report.kind == "LoRA adapter"
    folder = adapter(tmp_path / "other", made, r=8, rank_pattern={"self_attn.q_proj": 8, "q_proj": 4})
    with pytest.raises(CheckpointError, match=r"with rank 4 .* says 8"):
        load_policy(folder, device="cpu")


# -- the network -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [False, True])
def test_every_tensor_is_made_on_the_device_of_the_inputs(special: bool) -> None:
    """What forgets its device would be made on the CPU while the network is on a GPU.

    Here it is the other way round: the network is on the CPU, and what forgets its device is made on `meta`.
    """
    config = dataclasses.replace(
        preset("tiny", image_shapes={"top": (3, 64, 64), "side": (3, 64, 64)}),
        add_image_special_tokens=special, fake_image_token_id=5, global_image_token_id=6,
    )  # fmt: skip
    model = SmolVLA(config)
    model.initialize(torch.Generator().manual_seed(0))
    inputs = PolicyInputs(
        images=torch.rand(2, 2, 3, 64, 64),
        image_masks=torch.tensor([[True, True], [True, False]]),
        tokens=torch.zeros(2, 8, dtype=torch.long),
        token_mask=torch.ones(2, 8, dtype=torch.bool),
        state=torch.randn(2, 32),
        actions=torch.randn(2, 12, 32),
        action_is_pad=torch.zeros(2, 12, dtype=torch.bool),
    )
    noise, when = torch.randn(2, 12, 32), torch.rand(2)
    expected = model.loss(inputs, noise, when), model.sample(inputs, noise)
    with torch.device("meta"):
        found = model.loss(inputs, noise, when), model.sample(inputs, noise)
    assert [value.device.type for value in found] == ["cpu", "cpu"]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_image_tokens_that_the_tokenizer_does_not_name() -> None:
    config = preset("tiny", image_shapes={"top": (3, 64, 64)}, add_image_special_tokens=True)
    model = SmolVLA(config)
    inputs = PolicyInputs(
        images=torch.rand(1, 1, 3, 64, 64),
        image_masks=torch.ones(1, 1, dtype=torch.bool),
        tokens=torch.zeros(1, 4, dtype=torch.long),
        token_mask=torch.ones(1, 4, dtype=torch.bool),
        state=torch.zeros(1, 32),
    )
    known: Any
    for known in ({}, {"fake_image_token_id": 5}, {"global_image_token_id": 6}):
        model.config = dataclasses.replace(config, **known)
        with pytest.raises(TransformError, match="the tokenizer names no image tokens"):
            model.embed_prefix(inputs)


# -- the configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_action_steps": 13}, "n_action_steps is 13"),
        ({"n_action_steps": 0}, "n_action_steps is 0"),
        ({"n_obs_steps": 2}, "n_obs_steps is 2"),
        ({"adapt_to_pi_aloha": True}, "adapt_to_pi_aloha"),
        ({"use_delta_joint_actions_aloha": True}, "use_delta_joint_actions_aloha"),
        ({"resize_imgs_with_padding": [64, 48]}, "resize_imgs_with_padding is 64x48"),
        ({"num_expert_layers": 3, "self_attn_every_n_layers": 0}, "num_expert_layers 3 does not divide"),
        ({"num_expert_layers": 1}, "num_expert_layers 1 < "),
        ({"input_features": {}}, "names the inputs"),
    ],
)
def test_settings_that_no_network_has(checkpoint: Path, changes: dict[str, Any], words: str) -> None:
    values = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(SmolpilotError, match=words):
        loaded(checkpoint)


def test_a_depth_camera_is_refused(checkpoint: Path) -> None:
    values = json.loads((checkpoint / "config.json").read_text())
    # The second camera: the first is as it should be.
    values["input_features"]["observation.images.wrist"]["shape"] = [1, 48, 64]
    (checkpoint / "config.json").write_text(json.dumps(values))
    with pytest.raises(SmolpilotError, match="Camera 'wrist' has shape"):
        loaded(checkpoint)


def test_another_vision_language_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="of type 'llava'"):
        VLMConfig.from_json({"model_type": "llava"})
    # What transformers takes where the file says nothing.
    bare = VLMConfig.from_json({"model_type": "smolvlm"})
    assert (bare.vision, bare.scale_factor) == (VisionConfig(1152, 12, 16, 3072, 224, 32, 1e-6), 2)
    assert bare.text == TextConfig(
        width=2048, layers=32, heads=32, kv_heads=32, head_dim=64, mlp_width=11008, vocab_size=32000, eps=1e-6
    )
    assert math.isclose(VLMConfig().text.eps, 1e-5)


@pytest.mark.parametrize(
    ("multiplier", "width", "mlp"), [(0.75, 720, 2048), (0.5, 480, 1280), (1.0, 960, 2560), (0.4, 384, 1024)]
)
def test_widths_of_the_expert(multiplier: float, width: int, mlp: int) -> None:
    """Two thirds of four times the width, up to the next multiple of 256, as LeRobot makes it."""
    config = dataclasses.replace(preset("smolvla", image_shapes={}), expert_width_multiplier=multiplier)
    assert (config.expert_width, config.expert_mlp_width) == (width, mlp)
