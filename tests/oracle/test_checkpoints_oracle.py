"""Checkpoints in both directions: the same action in robot units from the same raw frame and noise."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from smolpilot.common.errors import CheckpointError
from smolpilot.robots.layout import FrameLayout
from smolpilot.smolvla import Policy, load_policy, localize, new_policy, save_bundle

from .conftest import lerobot_policy

pytestmark = pytest.mark.oracle

TASK = "pick up the cube"


def statistics(state: int, action: int, seed: int = 0) -> dict[str, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)

    def feature(dim: int) -> dict[str, Tensor]:
        mean, std = 30 * torch.randn(dim, generator=g), 0.1 + 20 * torch.rand(dim, generator=g)
        return {"mean": mean, "std": std, "min": mean - 2 * std, "max": mean + 2 * std}

    return {"observation.state": feature(state), "action": feature(action)}


def raw_frame(config: Any, seed: int = 5, rename: dict[str, str] | None = None) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    frame: dict[str, Any] = {"task": TASK}
    for key, feature in config.input_features.items():
        if "empty_camera" not in key:
            value = torch.rand(feature.shape, generator=g)
            frame[(rename or {}).get(key, key)] = value if len(feature.shape) == 3 else 40 * value - 20
    return frame


def lerobot_saves(policy: Any, stats: Any, folder: Path, **overrides: Any) -> Path:
    """A checkpoint folder as lerobot-train leaves it."""
    from lerobot.policies.factory import make_pre_post_processors

    pre, post = make_pre_post_processors(policy.config, dataset_stats=stats, **overrides)
    policy.save_pretrained(folder)
    pre.save_pretrained(folder)
    post.save_pretrained(folder)
    return folder


def lerobot_loads(folder: Path, *, strict: bool = False) -> tuple[Any, Any, Any]:
    from lerobot.policies.factory import make_pre_post_processors
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

    with contextlib.redirect_stdout(io.StringIO()):
        policy = SmolVLAPolicy.from_pretrained(folder, strict=strict)
        pre, post = make_pre_post_processors(policy.config, str(folder))
    return policy, pre, post


def lerobot_chunk(parts: tuple[Any, Any, Any], frame: dict[str, Any], noise: Tensor) -> Tensor:
    policy, pre, post = parts
    batch = pre(dict(frame))
    return post(policy.predict_action_chunk(batch, noise=noise[None]))[0]


def noise_for(policy: Policy) -> Tensor:
    shape = (policy.config.chunk_size, policy.config.max_action_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(9))


def assert_same(ours: Tensor, theirs: Tensor, stats: Any) -> None:
    """Within 1e-5 of each joint's scale."""
    scale = torch.as_tensor(np.asarray(stats["action"]["std"])).float().clamp_min(1e-3)
    assert ours.shape == theirs.shape
    assert ((ours - theirs).abs() / scale).max() < 1e-5


CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "min_max": {"normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}},
    "public_base": {
        "num_expert_layers": 0,
        "prefix_length": 0,
        "pad_language_to": "max_length",
        "cameras": 3,
        "load_vlm_weights": False,
    },
    "empty_camera": {"empty_cameras": 1},
    "special_tokens": {"add_image_special_tokens": True},
    "dims": {"state": 26, "action": 16},
    "no_normalization": {"normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "IDENTITY"}},
}


@pytest.mark.parametrize("case", CASES)
def test_lerobots_checkpoint_here(case: str, vlm_folder: Path, tmp_path: Path) -> None:
    theirs = lerobot_policy(vlm_folder, **CASES[case])
    stats = statistics(
        theirs.config.input_features["observation.state"].shape[0], theirs.config.action_feature.shape[0]
    )
    folder = lerobot_saves(theirs, stats, tmp_path / "checkpoint")
    ours = load_policy(folder, device="cpu")
    frame, noise = raw_frame(theirs.config), noise_for(ours)
    expected = lerobot_chunk(lerobot_loads(folder), frame, noise)
    if case == "no_normalization":
        stats = {"action": {"std": torch.ones(6)}}
    assert_same(ours.predict_chunk(frame, noise), expected, stats)
    assert ours.report.missing == []
    assert ours.report.kind == "LeRobot checkpoint"
    assert ours.n_action_steps == theirs.config.n_action_steps


@pytest.mark.parametrize("case", ["default", "public_base", "empty_camera", "special_tokens"])
def test_lerobots_checkpoint_as_our_bundle_in_lerobot_again(case: str, vlm_folder: Path, tmp_path: Path) -> None:
    theirs = lerobot_policy(vlm_folder, **CASES[case])
    stats = statistics(6, 6)
    folder = lerobot_saves(theirs, stats, tmp_path / "checkpoint")
    ours = load_policy(folder, device="cpu")
    bundle = save_bundle(ours, tmp_path / "bundle")
    localize(bundle)
    frame, noise = raw_frame(theirs.config), noise_for(ours)
    again = lerobot_loads(bundle, strict=True)
    assert_same(lerobot_chunk(again, frame, noise), lerobot_chunk(lerobot_loads(folder), frame, noise), stats)
    assert set(load_file(bundle / "model.safetensors")) == set(load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("special", [False, True])
def test_our_bundle_in_lerobot(special: bool, tiny_dataset: Path, tmp_path: Path) -> None:
    from smolpilot.datasets import open_dataset
    from smolpilot.datasets.statistics.operating_limits import demonstrated_by

    dataset = open_dataset(tiny_dataset, chunk_size=12)
    ours = new_policy("tiny", meta=dataset.meta, seed=1, device="cpu", overrides={"add_image_special_tokens": special})
    assert ours.profile is not None
    # As training does: a file more in the folder, which LeRobot does not know.
    ours.demonstrated = demonstrated_by(dataset, FrameLayout.of_dataset(dataset.meta), ours.profile)
    bundle = save_bundle(ours, tmp_path / "bundle")
    assert (bundle / "operating_limits.json").is_file()
    localize(bundle)
    theirs = lerobot_loads(bundle, strict=True)
    sample = dataset[7]
    frame = {key: sample[key] for key in sample if key.startswith("observation.") or key == "task"}
    noise = noise_for(ours)
    assert_same(ours.predict_chunk(frame, noise), lerobot_chunk(theirs, frame, noise), ours.statistics)
    assert theirs[0].config.n_action_steps == 10


def test_camera_map_becomes_lerobots_rename_step_and_back(vlm_folder: Path, tmp_path: Path) -> None:
    theirs = lerobot_policy(vlm_folder)
    stats = statistics(6, 6)
    folder = lerobot_saves(theirs, stats, tmp_path / "checkpoint")
    mapped = load_policy(folder, device="cpu", camera_map={"wrist": "camera1", "front": "camera2"})
    rename = {"observation.images.camera1": "observation.images.wrist",
              "observation.images.camera2": "observation.images.front"}  # fmt: skip
    frame, noise = raw_frame(theirs.config, rename=rename), noise_for(mapped)
    expected = lerobot_chunk(lerobot_loads(folder), raw_frame(theirs.config), noise)
    assert_same(mapped.predict_chunk(frame, noise), expected, stats)

    bundle = save_bundle(mapped, tmp_path / "bundle")
    localize(bundle)
    assert_same(lerobot_chunk(lerobot_loads(bundle), frame, noise), expected, stats)
    (bundle / "smolpilot.json").unlink()  # now only LeRobot's own files say how the cameras are named
    assert_same(load_policy(bundle, device="cpu").predict_chunk(frame, noise), expected, stats)


def test_native_mixed_dtypes_become_one(vlm_folder: Path, tmp_path: Path) -> None:
    """As LeRobot builds the public model: bfloat16 text layers and expert, the rest float32."""
    theirs = lerobot_policy(vlm_folder)
    for name, parameter in theirs.named_parameters():
        if "text_model" in name or "lm_expert" in name:
            parameter.data = parameter.data.bfloat16()
    folder = lerobot_saves(theirs, statistics(6, 6), tmp_path / "checkpoint")
    ours = load_policy(folder, device="cpu")
    assert {parameter.dtype for parameter in ours.model.parameters()} == {torch.float32}
    assert ours.report.found_dtypes["text"] == "bfloat16"
    assert ours.report.found_dtypes["vision"] == "float32"
    theirs.float()
    _, pre, post = lerobot_loads(folder)
    frame, noise = raw_frame(theirs.config), noise_for(ours)
    assert_same(ours.predict_chunk(frame, noise), lerobot_chunk((theirs, pre, post), frame, noise), statistics(6, 6))
    half = load_policy(folder, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}


class TestOldLayouts:
    """Statistics that older LeRobot versions kept elsewhere."""

    @pytest.fixture
    def checkpoint(self, vlm_folder: Path, tmp_path: Path) -> tuple[Path, Any]:
        theirs = lerobot_policy(vlm_folder)
        return lerobot_saves(theirs, statistics(6, 6), tmp_path / "checkpoint"), theirs

    def expected(self, checkpoint: tuple[Path, Any]) -> tuple[dict[str, Any], Tensor, Tensor]:
        folder, theirs = checkpoint
        noise = noise_for(load_policy(folder, device="cpu"))
        frame = raw_frame(theirs.config)
        return frame, noise, lerobot_chunk(lerobot_loads(folder), frame, noise)

    def test_buffers_inside_the_weights(self, checkpoint: tuple[Path, Any]) -> None:
        frame, noise, expected = self.expected(checkpoint)
        folder, _ = checkpoint
        weights, stats = load_file(folder / "model.safetensors"), statistics(6, 6)
        for name in ("mean", "std"):
            weights[f"normalize_inputs.buffer_observation_state.{name}"] = stats["observation.state"][name]
            for prefix in ("normalize_targets", "unnormalize_outputs"):
                weights[f"{prefix}.buffer_action.{name}"] = stats["action"][name].clone()
        save_file(weights, folder / "model.safetensors")
        for path in folder.glob("policy_*"):
            path.unlink()
        policy = load_policy(folder, device="cpu")
        assert_same(policy.predict_chunk(frame, noise), expected, stats)
        assert len(policy.report.normalization) == 6

    @pytest.mark.parametrize("prefix", ["so100.buffer", "so100-red.buffer", "so100"])
    def test_other_keys(self, checkpoint: tuple[Path, Any], prefix: str) -> None:
        frame, noise, expected = self.expected(checkpoint)
        folder, _ = checkpoint
        rename_statistics(folder, lambda key: f"{prefix}.{key}")
        policy = load_policy(folder, device="cpu")
        assert_same(policy.predict_chunk(frame, noise), expected, statistics(6, 6))
        assert prefix in policy.report.statistics["action"]

    def test_several_candidates_are_an_error_not_a_guess(self, checkpoint: tuple[Path, Any]) -> None:
        folder, _ = checkpoint
        for path in folder.glob("policy_*.safetensors"):
            entries = load_file(path)
            both = {f"so100.buffer.{key}": value for key, value in entries.items()}
            save_file({**both, **{f"so101.buffer.{key}": value + 1 for key, value in entries.items()}}, path)
        with pytest.raises(CheckpointError, match="several statistics") as caught:
            load_policy(folder, device="cpu")
        assert "--policy-stats-from" in str(caught.value)
        assert "so101.buffer.observation.state" in str(caught.value)

    def test_none_that_fit_are_an_error(self, checkpoint: tuple[Path, Any]) -> None:
        folder, _ = checkpoint
        for path in folder.glob("policy_*.safetensors"):
            save_file({key: torch.cat([value, value]) for key, value in load_file(path).items()}, path)
        with pytest.raises(CheckpointError, match="--policy-stats-from"):
            load_policy(folder, device="cpu")


def rename_statistics(folder: Path, rename: Any) -> None:
    for path in folder.glob("policy_*.safetensors"):
        save_file({rename(key): value for key, value in load_file(path).items()}, path)


@pytest.mark.real
def test_public_base_config_with_a_tiny_model(vlm_folder: Path, tmp_path: Path, real_data: Path) -> None:
    """config.json and processors of lerobot/smolvla_base as published, around a tiny vision-language model."""
    from lerobot.policies.factory import make_pre_post_processors

    public = real_data.parent / "models" / "smolvla_base"
    if not public.is_dir():
        pytest.skip("no public config here")
    folder = tmp_path / "base"
    theirs = lerobot_policy(vlm_folder, cameras=3, num_expert_layers=0, prefix_length=0, pad_language_to="max_length")
    lerobot_saves(theirs, statistics(6, 6), folder)
    values = json.loads((public / "config.json").read_text())
    steps = json.loads((public / "policy_preprocessor.json").read_text())
    small = {"vlm_model_name": str(vlm_folder), "num_vlm_layers": 4, "resize_imgs_with_padding": [32, 32],
             "chunk_size": 7, "n_action_steps": 5}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**values, **small}))
    (folder / "policy_preprocessor.json").write_text(json.dumps(steps))
    (folder / "policy_postprocessor.json").write_text((public / "policy_postprocessor.json").read_text())
    rename_statistics(folder, lambda key: f"so100.buffer.{key}")
    ours = load_policy(folder, device="cpu")
    frame = raw_frame(theirs.config)
    noise = noise_for(ours)
    # LeRobot itself leaves these actions normalized; with the statistics under their proper name it agrees with us.
    rename_statistics(folder, lambda key: key.removeprefix("so100.buffer."))
    steps["steps"][3]["config"]["tokenizer_name"] = str(vlm_folder)
    steps["steps"][4]["config"]["device"] = "cpu"
    (folder / "policy_preprocessor.json").write_text(json.dumps(steps))
    processors = make_pre_post_processors(theirs.config, str(folder))
    expected = lerobot_chunk((theirs, *processors), frame, noise)
    assert_same(ours.predict_chunk(frame, noise), expected, statistics(6, 6))
    assert ours.config.pad_language_to == "max_length"
