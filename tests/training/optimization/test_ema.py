"""Running average of the weights and early stop: arithmetic, validation, bundle, and that resuming keeps them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smolpilot.cli.main import main
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.smolvla import load_policy
from smolpilot.training import TrainingStoppedError, TrainOptions, train
from smolpilot.training.optimization.ema import Ema
from smolpilot.training.options.train_options import check
from smolpilot.training.run.exported_weights import ExportedWeights
from smolpilot.training.run.metrics_log import read_metrics
from smolpilot.training.status import run_status

_UNTIMED = {"samples_per_s", "data_wait", "memory_gb"}


def options(dataset: Path, out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        dataset=dataset, out=out, preset="tiny", from_scratch=True, steps=6, batch_size=4, chunk_size=5,
        n_action_steps=5, log_every=2, eval_every=3, save_every=3, eval_frames=6, device="cpu", ema=0.9,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def bundle(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "model.safetensors")


def state(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "training_state" / "tensors.safetensors")


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in _UNTIMED} for line in lines]


@pytest.fixture(scope="module")
def averaged(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tiny_dataset, tmp_path_factory.mktemp("ema") / "run"))


def test_the_average_follows_its_formula() -> None:
    layer = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.zeros_(layer.weight)
    ema, expected = Ema(layer, 0.5), 0.0
    for step in (1, 2, 30):
        with torch.no_grad():
            layer.weight += 1
        ema.update(step)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * layer.weight[0, 0].item()
    assert ema.average["weight"] == pytest.approx(torch.full((2, 2), expected))


def test_frozen_weights_are_not_averaged() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    assert list(Ema(layer, 0.9).average) == ["weight"]


def test_training_is_the_same_with_and_without_an_average(averaged: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    plain = train(options(tiny_dataset, tmp_path / "plain", ema=None))
    trained = {key.removeprefix("trained/"): value for key, value in state(averaged).items() if "trained/" in key}
    weights = dict(load_policy(plain / "checkpoints" / "last", device="cpu").model.named_parameters())
    assert trained
    assert all(torch.equal(value, weights[name]) for name, value in trained.items())
    assert [line["loss"] for line in metrics(plain) if "loss" in line] == [
        line["loss"] for line in metrics(averaged) if "loss" in line
    ]


def test_the_bundle_holds_the_average_and_validation_scores_it(averaged: Path, tiny_dataset: Path) -> None:
    from smolpilot.training.run.distributed import DistributedContext
    from smolpilot.training.run.run import build_trainer
    from smolpilot.training.run.run_folder import load_config
    from smolpilot.training.run.setup import prepare_resumed

    last = averaged / "checkpoints" / "last"
    policy = load_policy(last, device="cpu")
    trained = state(averaged)
    name = "action_out_proj.weight"
    average = dict(policy.model.named_parameters())[name]
    assert not torch.equal(average, trained[f"trained/{name}"])
    assert torch.allclose(average, trained[f"trained/{name}"], atol=0.05)
    assert policy.lineage["ema"] == 0.9
    validator = build_trainer(prepare_resumed(load_config(averaged), last), DistributedContext()).validator
    assert validator is not None
    line = [line for line in metrics(averaged) if line["kind"] == "validation"][-1]
    result = validator.run(policy)
    assert result is not None
    assert result.score == pytest.approx(line["score"], abs=1e-7)


@pytest.mark.parametrize("stop", [2, 4])
def test_a_stopped_run_resumes_with_weights_and_average(
    averaged: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    interrupted_after: Callable[..., AbstractContextManager[None]],
    stop: int,
) -> None:
    run = tmp_path / "run"
    with interrupted_after(stop), pytest.raises(TrainingStoppedError, match="Stopped after step"):
        train(options(tiny_dataset, run))
    train(TrainOptions(out=run, resume=True))
    for read in (bundle, state):
        expected, found = read(averaged), read(run)
        assert expected.keys() == found.keys()
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert metrics(run) == metrics(averaged)


def test_a_state_without_the_weights_is_refused(averaged: Path) -> None:
    policy = load_policy(averaged / "checkpoints" / "last", device="cpu")
    with pytest.raises(CheckpointError, match=r"0 raw \(non-EMA or LoRA\) weights"):
        ExportedWeights(policy, Ema(policy.model, 0.9)).load({"rng/noise": torch.zeros(1)})


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_a_decay_out_of_range_is_refused(decay: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--ema"):
        check(options(tmp_path, tmp_path / "out", ema=decay))


# -- early stop --------------------------------------------------------------------------------------------------------


def ruinous(dataset: Path, out: Path, **changes: Any) -> TrainOptions:
    """A rate that ruins the policy: the first validation stays the best."""
    values = {"ema": None, "steps": 20, "eval_every": 2, "save_every": 7, "keep": 20, "lr": 0.5, "decay_lr": 0.5,
              "clip": 1e6, "patience": 3}  # fmt: skip
    return options(dataset, out, **(values | changes))


@pytest.fixture(scope="module")
def ended(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(ruinous(tiny_dataset, tmp_path_factory.mktemp("ended") / "run"))


def test_a_run_without_gain_ends_early_and_says_so(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ended
    scores = {line["step"]: line["score"] for line in metrics(run) if line["kind"] == "validation"}
    best = min(scores, key=lambda step: scores[step])
    end = best + 2 * 3
    assert list(scores) == list(range(2, end + 1, 2))
    assert end < 20
    assert metrics(run)[-1] == {"step": end, "kind": "stopped_early", "best_step": best, "patience": 3}
    assert (run / "checkpoints" / "last").readlink().name == f"step_{end:06d}"
    assert (run / "checkpoints" / "best").readlink().name == f"step_{best:06d}"
    status = run_status(run)
    assert (status.state, status.early, status.patience) == ("finished", end, "3 of 3")
    capsys.readouterr()
    main(["status", str(run)])
    assert f"finished early, at step {end}" in capsys.readouterr().out
    before = (run / "metrics.jsonl").read_text()
    train(TrainOptions(out=run, resume=True))
    assert (run / "metrics.jsonl").read_text() == before


def test_patience_survives_a_stop(
    ended: Path, tiny_dataset: Path, tmp_path: Path, interrupted_after: Callable[..., AbstractContextManager[None]]
) -> None:
    run, end = tmp_path / "run", metrics(ended)[-1]["step"]
    with interrupted_after(end - 1), pytest.raises(TrainingStoppedError, match="Stopped after step"):
        train(ruinous(tiny_dataset, run))
    saved = json.loads((run / "checkpoints" / "last" / "training_state" / "state.json").read_text())
    assert saved["without_gain"] == 2
    train(TrainOptions(out=run, resume=True))
    assert metrics(run) == metrics(ended)


def test_patience_needs_held_out_episodes(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--held-out 0"):
        train(ruinous(tiny_dataset, tmp_path / "run", held_out=0.0))
    with pytest.raises(UsageError, match="no episode is held out"):
        train(ruinous(tiny_dataset, tmp_path / "run", episodes="2"))
