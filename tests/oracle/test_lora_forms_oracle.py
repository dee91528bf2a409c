"""Every form of LoRA that peft writes for a LeRobot policy: the actions of peft itself, or a refusal by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from smolpilot.common.errors import CheckpointError
from smolpilot.smolvla import load_policy

from .conftest import lerobot_policy
from .test_checkpoints_oracle import (
    assert_same,
    lerobot_chunk,
    lerobot_loads,
    lerobot_saves,
    noise_for,
    raw_frame,
    statistics,
)

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

EXPERT = r"model\.vlm_with_expert\.lm_expert\..*\.(q|v)_proj"
PROJECTIONS = r"model\.(state_proj|action_in_proj)"
BOTH = f"({EXPERT}|{PROJECTIONS})"

EQUAL: dict[str, dict[str, Any]] = {
    "all_linear": {"target_modules": "all-linear"},
    "all_linear_by_name": {"target_modules": ["q_proj", "lm_head", "state_proj"]},
    "bias_all": {"target_modules": BOTH, "bias": "all"},
    "bias_all_and_a_whole_module": {"target_modules": BOTH, "bias": "all", "modules_to_save": ["action_out_proj"]},
    "bias_lora_only": {"target_modules": BOTH, "bias": "lora_only"},
    "whole_modules": {"target_modules": EXPERT, "modules_to_save": ["state_proj", "lm_head"]},
    "pissa": {"target_modules": BOTH, "init_lora_weights": "pissa"},
    "olora_rslora": {"target_modules": BOTH, "init_lora_weights": "olora", "use_rslora": True, "lora_alpha": 3},
    "gaussian": {"target_modules": BOTH, "init_lora_weights": "gaussian"},
    "orthogonal": {"target_modules": BOTH, "init_lora_weights": "orthogonal"},
    "eva": {"target_modules": BOTH, "init_lora_weights": "eva"},
    "mica": {"target_modules": BOTH, "init_lora_weights": "mica"},
    "random": {"target_modules": BOTH, "init_lora_weights": False},
    "some_layers": {"target_modules": ["k_proj"], "layers_to_transform": [1, 3], "layers_pattern": "layers"},
    "without_some": {"target_modules": BOTH, "exclude_modules": r".*layers\.2\..*"},
    "several_patterns_match": {
        "target_modules": BOTH,
        "rank_pattern": {r"layers\.0\.self_attn\.q_proj": 2, "q_proj": 3, r"model\.state_proj": 5},
        "alpha_pattern": {"q_proj": 3, r"layers\.0\.self_attn\.q_proj": 11, "state_proj": 6, "proj": 20},
    },
    "rank_beyond_a_layer": {"target_modules": PROJECTIONS, "r": 80},
    "words": {"target_modules": r".*text_model\.embed_tokens"},
    "pixels": {"target_modules": ["patch_embedding"]},
}


class Base(NamedTuple):
    """A policy of LeRobot's, saved and loaded, with a frame, a noise and the chunk that it predicts without adapter."""

    folder: Path
    parts: tuple[Any, Any, Any]
    frame: dict[str, Any]
    noise: torch.Tensor
    plain: torch.Tensor

    def policy(self) -> Any:
        return copy.deepcopy(self.parts[0])


@pytest.fixture(scope="module")
def base(vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    pytest.importorskip("peft")
    folder = lerobot_saves(lerobot_policy(vlm_folder), statistics(6, 6), tmp_path_factory.mktemp("forms") / "base")
    parts, ours = lerobot_loads(folder), load_policy(folder, device="cpu")
    frame, noise = raw_frame(parts[0].config), noise_for(ours)
    return Base(folder, parts, frame, noise, ours.predict_chunk(frame, noise))


def write(base: Base, folder: Path, seed: int = 3, **options: Any) -> Path:
    """A trained adapter as LeRobot leaves it: peft's files beside config.json and the processors."""
    import peft

    wrapped = peft.get_peft_model(base.policy(), peft.LoraConfig(**{"r": 4, "lora_alpha": 8, **options}))
    generator = torch.Generator().manual_seed(seed)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    wrapped.peft_config["default"].base_model_name_or_path = str(base.folder)
    wrapped.save_pretrained(str(folder))
    policy, pre, post = base.parts
    policy.config._save_pretrained(folder)
    pre.save_pretrained(folder)
    post.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", EQUAL)
def test_equal_to_peft(case: str, base: Base, tmp_path: Path) -> None:
    import peft

    folder = write(base, tmp_path / "adapter", **EQUAL[case])
    theirs = peft.PeftModel.from_pretrained(base.policy(), folder).eval()
    expected = lerobot_chunk((theirs, *base.parts[1:]), base.frame, base.noise)
    assert_same(load_policy(folder, device="cpu").predict_chunk(base.frame, base.noise), expected, statistics(6, 6))
    assert (expected - base.plain).abs().max() > 0.01


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, "use_dora"),
    "lora_bias": ({"lora_bias": True, "target_modules": PROJECTIONS}, "lora_bias"),
    "pissa_by_random_svd": ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
    "parameters": ({"target_parameters": ["model.state_proj.weight"], "target_modules": EXPERT}, "target_parameters"),
    "tokens": ({"trainable_token_indices": {"embed_tokens": [1, 2]}}, "trainable_token_indices"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name_with_a_way_out(case: str, base: Base, tmp_path: Path) -> None:
    options, name = REFUSED[case]
    folder = write(base, tmp_path / "adapter", **{"target_modules": BOTH, **options})
    with pytest.raises(CheckpointError, match=name) as caught:
        load_policy(folder, device="cpu")
    assert "merge_and_unload" in caught.value.fix


def test_the_way_out_of_a_refusal_works(base: Base, tmp_path: Path) -> None:
    """merge_and_unload, then save_pretrained, as the fix says: a plain checkpoint with the adapter's actions."""
    import peft

    folder = write(base, tmp_path / "adapter", target_modules=BOTH, use_dora=True)
    loaded = peft.PeftModel.from_pretrained(base.policy(), folder).eval()
    expected = lerobot_chunk((loaded, *base.parts[1:]), base.frame, base.noise)
    merged = tmp_path / "merged"
    loaded.merge_and_unload().save_pretrained(merged)
    for processor in base.parts[1:]:
        processor.save_pretrained(merged)
    assert_same(load_policy(merged, device="cpu").predict_chunk(base.frame, base.noise), expected, statistics(6, 6))
