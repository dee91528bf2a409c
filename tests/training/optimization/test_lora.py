"""LoRA training: the bundle is plain and equals the adapter network, a stopped run goes on with the same bits."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smolpilot.common.errors import CheckpointError, TrainingError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.training import TrainingStoppedError, TrainOptions, train
from smolpilot.training.optimization.lora import TARGETS, add_lora, base_weights, matching
from smolpilot.training.options.train_options import check
from smolpilot.training.run.checkpoints import load_state
from smolpilot.training.run.exported_weights import ExportedWeights
from smolpilot.training.run.metrics_log import read_metrics
from smolpilot.training.run.run_folder import load_config
from smolpilot.training.run.setup import prepare_resumed

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def parent(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    frozen = {"chunk_size": 5, "n_action_steps": 5, "train_expert_only": True, "freeze_vision_encoder": True}
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=1, device="cpu", overrides=frozen)
    return save_bundle(policy, tmp_path_factory.mktemp("parent") / "policy")


def options(dataset: Path, parent: Path, out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        dataset=dataset, out=out, policy=str(parent), steps=4, batch_size=4, lr=1e-2, log_every=1, eval_every=2,
        save_every=2, eval_frames=4, device="cpu", lora=4, lora_alpha=8.0, ema=0.9,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def finished(tiny_dataset: Path, parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tiny_dataset, parent, tmp_path_factory.mktemp("lora") / "run"))


def files(run: Path) -> dict[str, torch.Tensor]:
    last = run / "checkpoints" / "last"
    return load_file(last / "model.safetensors") | load_file(last / "training_state" / "tensors.safetensors")


def test_adapters_and_projections_are_trained_and_nothing_else(tiny_dataset: Path, parent: Path) -> None:
    model = load_policy(parent, device="cpu").model
    names = add_lora(model, rank=4, alpha=8, targets=None, seed=0)
    assert len(names) == 7 * len(model.expert.layers)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name in trained if ".lora_" in name}
    assert len(adapters) == 2 * len(names)
    assert {name.split(".")[0] for name in trained - adapters} == {
        "state_proj", "action_in_proj", "action_out_proj", "action_time_mlp_in", "action_time_mlp_out",
    }  # fmt: skip
    assert not model.context_is_trained


def test_fresh_adapters_change_nothing_and_the_seed_decides_them(tiny_dataset: Path, parent: Path) -> None:
    plain, torch_state = load_policy(parent, device="cpu"), torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        adapted = load_policy(parent, device="cpu")
        add_lora(adapted.model, rank=4, alpha=8, targets=None, seed=seed)
        drawn.append(torch.cat([v.flatten() for n, v in adapted.model.state_dict().items() if ".lora_A" in n]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), torch_state)
    frame, noise = open_dataset(tiny_dataset)[3], torch.zeros(5, 32)
    assert torch.equal(adapted.predict_chunk(frame, noise), plain.predict_chunk(frame, noise))


def test_the_bundle_is_plain_and_equals_the_adapter_network(finished: Path, tiny_dataset: Path) -> None:
    last = finished / "checkpoints" / "last"
    bundle = load_policy(last, device="cpu")
    assert not [name for name in load_file(last / "model.safetensors") if "lora" in name or "base_layer" in name]
    assert bundle.lineage["lora"] == {"rank": 4, "alpha": 8.0, "layers": 28}
    # The network in training, with the averaged adapters in it.
    prepared = prepare_resumed(load_config(finished), last)
    _, tensors = load_state(last)
    model = prepared.policy.model
    values: dict[str, Any] = {"average": dict(model.named_parameters()), "base": base_weights(model)}
    with torch.no_grad():
        for name, value in tensors.items():
            kind, _, own = name.partition("/")
            if kind in values:
                values[kind][own].copy_(value)
    dataset = open_dataset(tiny_dataset)
    frames = [dataset[row] for row in (0, 30, 60)]
    noise = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    expected = prepared.policy.predict_chunks(frames, noise)
    assert torch.allclose(bundle.predict_chunks(frames, noise), expected, atol=1e-5)
    moved = load_policy(finished / "checkpoints" / "step_000002", device="cpu").predict_chunks(frames, noise)
    assert not torch.allclose(moved, expected, atol=1e-4)


@pytest.mark.parametrize("ema", [0.9, None])
def test_a_stopped_run_resumes_with_the_same_bits(
    finished: Path,
    tiny_dataset: Path,
    parent: Path,
    tmp_path: Path,
    interrupted_after: Callable[..., AbstractContextManager[None]],
    ema: float | None,
) -> None:
    whole = finished if ema else train(options(tiny_dataset, parent, tmp_path / "whole", ema=None))
    run = tmp_path / "run"
    with interrupted_after(3), pytest.raises(TrainingStoppedError, match="Stopped after step"):
        train(options(tiny_dataset, parent, run, ema=ema))
    train(TrainOptions(out=run, resume=True))
    expected, found = files(whole), files(run)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    scores = [
        [x["score"] for x in read_metrics(r / "metrics.jsonl") if x["kind"] == "validation"] for r in (whole, run)
    ]
    assert scores[0] == scores[1]


def test_a_state_of_another_run_is_refused(finished: Path) -> None:
    policy = load_policy(finished / "checkpoints" / "last", device="cpu")
    add_lora(policy.model, rank=4, alpha=8, targets=None, seed=0)
    with pytest.raises(CheckpointError, match=r"0 raw \(non-EMA or LoRA\) weights"):
        ExportedWeights(policy, None).load({})
    trained = {f"trained/{name}": p.detach() for name, p in policy.model.named_parameters() if p.requires_grad}
    with pytest.raises(CheckpointError, match="0 weights under LoRA adapters"):
        ExportedWeights(policy, None).load(trained)


def test_contradictory_options(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong to --lora"):
        check(options(tmp_path, parent, tmp_path, lora=None))
    with pytest.raises(UsageError, match="--from-scratch are random"):
        check(options(tmp_path, parent, tmp_path, policy=None, preset="tiny", from_scratch=True))
    model = load_policy(parent, device="cpu").model
    with pytest.raises(UsageError, match="matches no linear layer") as caught:
        matching(model, "nothing")
    assert "expert.layers.0.self_attn.q_proj" in caught.value.expected
    with pytest.raises(UsageError, match="no regular expression"):
        matching(model, "(")


def test_a_rank_beyond_a_layer_is_refused(parent: Path) -> None:
    model = load_policy(parent, device="cpu").model
    smallest = min(min(model.get_parameter(f"{name}.weight").shape) for name in matching(model, TARGETS))
    with pytest.raises(UsageError, match=rf"--lora is {smallest + 1}, beyond the layer expert\.") as caught:
        add_lora(model, rank=smallest + 1, alpha=None, targets=None, seed=0)
    assert f"--lora {smallest}" in caught.value.fix
    add_lora(model, rank=smallest, alpha=None, targets=None, seed=0)  # as the fix says


def test_without_peft_it_is_named(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match="--lora needs peft") as caught:
        add_lora(load_policy(parent, device="cpu").model, rank=4, alpha=8, targets=None, seed=0)
    assert "pip install" in caught.value.fix


def test_the_core_does_not_import_peft() -> None:
    code = (
        "import sys, smolpilot.training.run.run; sys.exit(' '.join({'peft', 'transformers'} & sys.modules.keys()) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
