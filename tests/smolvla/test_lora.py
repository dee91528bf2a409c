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

from smolpilot.common.errors import CheckpointError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import load_policy, new_policy, save_bundle

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
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"init_lora_weights": "lora_ga"}, "lora_ga"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({"init_lora_weights": "of_next_year"}, "of_next_year"),
        ({"of_next_year": {"a": 1}}, "of_next_year"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"peft_type": "LOKR"}, "LOKR"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
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


def test_options_that_are_not_used_are_no_reason_to_refuse(base: Path, tmp_path: Path) -> None:
    """What peft 0.21 writes for plain LoRA."""
    unused: dict[str, Any] = {
        "megatron_core": "megatron.core", "qalora_group_size": 16, "use_dora": False, "corda_config": None,
        "loftq_config": {}, "kasa_config": None, "ensure_weight_tying": False, "use_bdlora": None, "bias": "none",
        "lora_dropout": 0.1, "init_lora_weights": True, "task_type": None, "peft_version": "0.21.2",
    }  # fmt: skip
    assert load_policy(write_adapter(tmp_path / "adapter", base, **unused), device="cpu").report.kind == "LoRA adapter"


def test_parts_that_no_action_depends_on_are_left_out_and_said(base: Path, tmp_path: Path) -> None:
    head = "model.vlm_with_expert.vlm.lm_head"
    cut = "model.vlm_with_expert.vlm.model.text_model.layers.30.mlp.up_proj"
    more = {f"base_model.model.{name}.lora_{part}.weight": torch.ones(4, 4) for name in (head, cut) for part in "AB"}
    plain = load_policy(write_adapter(tmp_path / "plain", base), device="cpu")
    policy = load_policy(write_adapter(tmp_path / "adapter", base, more=more), device="cpu")
    expected = plain.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in policy.model.state_dict().items())
    (note,) = (note for note in policy.report.notes if "left out" in note)
    assert head in note
    assert cut in note


def test_numbers_that_are_not_finite_are_found_in_the_adapter(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", base)
    tensors = load_file(folder / "adapter_model.safetensors")
    name = f"base_model.model.{Q}.lora_B.weight"
    tensors[name][1, 1] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name}: 1 NaN of .*adapter_model\.safetensors"):
        load_policy(folder, device="cpu")
    tensors[name] = tensors[name].nan_to_num().to(torch.int8)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=rf"int8 \({name}\)"):
        load_policy(folder, device="cpu")


def test_files_of_different_trainings(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"rank 4 \(lora_A\) and 4 \(lora_B\); .* says 8"):
        load_policy(write_adapter(tmp_path / "adapter", base, r=8), device="cpu")


def test_a_folder_with_adapter_and_whole_weights_is_what_lerobots_config_says(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", base)
    shutil.copy(base / "model.safetensors", folder)
    config = json.loads((folder / "config.json").read_text())
    for use, kind in ((True, "LoRA adapter"), (False, "LeRobot checkpoint")):
        (folder / "config.json").write_text(json.dumps({**config, "use_peft": use}))
        assert load_policy(folder, device="cpu", tokenizer_dir=base / "vlm").report.kind == kind
