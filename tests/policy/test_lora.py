"""LoRA adapters merged on load: files as peft writes them, built by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.datasets import open_dataset
from smolpilot.errors import CheckpointError
from smolpilot.policy import load_policy, new_policy, save_bundle

Q = "model.vlm_with_expert.lm_expert.layers.0.self_attn.q_proj"
V = "model.vlm_with_expert.lm_expert.layers.1.self_attn.v_proj"
HEAD = "model.action_out_proj"


@pytest.fixture(scope="module")
def base(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("base") / "bundle")


def write_adapter(folder: Path, base: Path, more: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    """Rank 4 on a query, rank 2 on a value projection, and a whole new output layer."""
    g = torch.Generator().manual_seed(0)
    weights = load_file(base / "model.safetensors")
    tensors: dict[str, torch.Tensor] = {}
    for module, rank in ((Q, 4), (V, 2)):
        out, inp = weights[f"{module}.weight"].shape
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(rank, inp, generator=g)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, rank, generator=g)
    for part in ("weight", "bias"):
        shape = weights[f"{HEAD}.{part}"].shape
        tensors[f"base_model.model.{HEAD}.{part}"] = torch.randn(shape, generator=g)
    folder.mkdir()
    save_file({**tensors, **(more or {})}, folder / "adapter_model.safetensors")
    values = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "r": 4,
        "lora_alpha": 16,
        "rank_pattern": {"layers.1.self_attn.v_proj": 2},
        "alpha_pattern": {"layers.1.self_attn.v_proj": 6},
        "modules_to_save": ["action_out_proj"],
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(values))
    shutil.copy(base / "config.json", folder)
    for path in base.glob("policy_*"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("rslora", [False, True])
def test_merged_weights(base: Path, tmp_path: Path, rslora: bool) -> None:
    folder = write_adapter(tmp_path / "adapter", base, use_rslora=rslora)
    policy = load_policy(folder, device="cpu")
    before, adapter = load_file(base / "model.safetensors"), load_file(folder / "adapter_model.safetensors")
    after = load_file(save_bundle(policy, tmp_path / "merged") / "model.safetensors")
    for module, rank, alpha in ((Q, 4, 16), (V, 2, 6)):
        scale = alpha / (math.sqrt(rank) if rslora else rank)
        a, b = (adapter[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
        torch.testing.assert_close(after[f"{module}.weight"], before[f"{module}.weight"] + scale * b @ a)
    changed = {f"{Q}.weight", f"{V}.weight", f"{HEAD}.weight", f"{HEAD}.bias"}
    assert torch.equal(after[f"{HEAD}.bias"], adapter[f"base_model.model.{HEAD}.bias"])
    assert all(torch.equal(after[name], before[name]) == (name not in changed) for name in before)
    assert policy.report.kind == "LoRA adapter"
    assert str(base) in "\n".join(policy.report.notes)


def test_modules_to_save_under_pefts_longer_name(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", base)
    tensors = load_file(folder / "adapter_model.safetensors")
    for part in ("weight", "bias"):
        tensors[f"base_model.model.{HEAD}.modules_to_save.{part}"] = tensors.pop(f"base_model.model.{HEAD}.{part}")
    save_file(tensors, folder / "adapter_model.safetensors")
    expected = tensors[f"base_model.model.{HEAD}.modules_to_save.bias"]
    assert torch.equal(load_policy(folder, device="cpu").model.action_out_proj.bias, expected)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"lora_bias": True}, "lora_bias"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "/nowhere/at/all"),
    ],
)
def test_what_is_refused_is_named(base: Path, tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_policy(write_adapter(tmp_path / "adapter", base, **config), device="cpu")


def test_adapter_of_another_network(base: Path, tmp_path: Path) -> None:
    pair = {
        "base_model.model.model.other.lora_A.weight": torch.ones(2, 2),
        "base_model.model.model.other.lora_B.weight": torch.ones(2, 2),
    }
    with pytest.raises(CheckpointError, match=r"model\.other"):
        load_policy(write_adapter(tmp_path / "adapter", base, more=pair), device="cpu")
    half = {"base_model.model.model.state_proj.lora_A.weight": torch.ones(2, 2)}
    with pytest.raises(CheckpointError, match="only one of"):
        load_policy(write_adapter(tmp_path / "half", base, more=half), device="cpu")
    wrong = {
        "base_model.model.model.state_proj.lora_A.weight": torch.ones(2, 5),
        "base_model.model.model.state_proj.lora_B.weight": torch.ones(2, 2),
    }
    with pytest.raises(CheckpointError, match="state_proj"):
        load_policy(write_adapter(tmp_path / "wrong", base, more=wrong), device="cpu")


def test_base_beside_the_adapter(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "beside")
    folder = write_adapter(tmp_path / "adapter", base, base_model_name_or_path="../beside")
    assert load_policy(folder, device="cpu").report.kind == "LoRA adapter"
