"""Settings by the size of the memory, and the micro-batch that fits, found by trying."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.cli.parsing.options import from_yaml, parse
from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.common.option_types import AUTO
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import new_policy
from smolpilot.training import TrainOptions
from smolpilot.training.data.batches import Batches
from smolpilot.training.optimization import memory
from smolpilot.training.optimization.memory import largest_that_fits, probe
from smolpilot.training.optimization.precision import Precision
from smolpilot.training.options.memory_presets import PRESETS
from smolpilot.training.options.train_options import check, resolve
from smolpilot.training.run.run_folder import load_config


def resolved(**changes: Any) -> TrainOptions:
    return resolve(dataclasses.replace(TrainOptions(policy="somewhere", steps=10), **changes))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_what_is_open(name: Any) -> None:
    found = resolved(memory=name)
    assert {key: getattr(found, key) for key in PRESETS[name]} == PRESETS[name]
    assert found.batch_size is not None
    assert found.micro_batch is not None
    assert found.micro_batch <= found.batch_size


def test_what_is_given_wins_over_the_preset() -> None:
    found = resolved(memory="24", batch_size=4, dtype="float32")
    assert (found.batch_size, found.micro_batch, found.dtype) == (4, 4, "float32")
    assert (resolved().batch_size, resolved().micro_batch, resolved().dtype) == (8, None, "float32")


def test_auto_keeps_a_stated_batch() -> None:
    found = resolved(batch_size=AUTO)
    assert (found.batch_size, found.micro_batch) == (64, AUTO)
    assert resolved(batch_size=AUTO, micro_batch=4).micro_batch == 4
    tiny = resolve(TrainOptions(preset="tiny", from_scratch=True, steps=10, batch_size=AUTO))
    assert tiny.batch_size == 32


def test_auto_on_the_command_line_and_in_yaml(tmp_path: Path) -> None:
    parsed = parse(TrainOptions, ["--batch-size", "auto", "--micro-batch", "4"], verb="train")
    assert (parsed.batch_size, parsed.micro_batch) == (AUTO, 4)
    (tmp_path / "run.yaml").write_text("batch_size: auto\nmicro_batch: 2\n")
    read = from_yaml(TrainOptions, tmp_path / "run.yaml")
    assert (read.batch_size, read.micro_batch) == (AUTO, 2)
    (tmp_path / "run.yaml").write_text("batch_size: many\n")
    with pytest.raises(UsageError, match="batch_size"):
        from_yaml(TrainOptions, tmp_path / "run.yaml")
    with pytest.raises(UsageError, match="--batch-size is -1"):
        check(TrainOptions(dataset=tmp_path, out=tmp_path, policy="p", steps=1, batch_size=-1))


def test_the_search_doubles_and_never_tries_what_would_surely_not_fit() -> None:
    tried: list[int] = []

    def need(size: int) -> float | None:
        tried.append(size)
        return None if size > 40 else 10.0 * size

    assert largest_that_fits(need, 64, 1000) == (32, 320.0)
    assert tried == [1, 2, 4, 8, 16, 32, 64]
    tried.clear()
    assert largest_that_fits(need, 64, 100) == (8, 80.0)
    assert tried == [1, 2, 4, 8]
    assert largest_that_fits(need, 5, 1000) == (5, 50.0)
    with pytest.raises(TrainingError, match="Not even one sample"):
        largest_that_fits(need, 8, 5)


def test_the_probe_leaves_weights_and_numbers_alone(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(tiny_dataset)
    policy = new_policy("tiny", meta=dataset.meta, seed=1, device="cpu")
    rows = list(range(8))
    batches = Batches(dataset, policy.transforms, policy.device, chunk_size=policy.config.chunk_size)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    numbers = torch.get_rng_state()
    size, said = probe(policy, batches.batch(rows), Precision("float32", policy.device), copies=2)
    assert 1 <= size <= 8
    assert said.startswith(f"micro-batch: {size} of 8 samples at once")
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    assert all(p.grad is None for p in policy.model.parameters())
    assert torch.equal(torch.get_rng_state(), numbers)
    # With room for the optimizer and little else, fewer go at once; without that room, none.
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    monkeypatch.setattr(memory, "_free", lambda device: trained * 4.0)
    with pytest.raises(TrainingError, match="Not even one sample"):
        probe(policy, batches.batch(rows), Precision("float32", policy.device), copies=2)


def test_a_run_with_auto_says_and_keeps_what_it_found(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["--preset", "tiny", "--from-scratch", "--steps", "1", "--chunk-size", "4", "--held-out", "0"]
    assert main(["train", "--dataset", str(tiny_dataset), "--out", str(run), *words, "--batch-size", "auto",
                 "--device", "cpu"]) == 0  # fmt: skip
    assert "of 32 samples at once" in capsys.readouterr().out
    kept = load_config(run)
    assert kept.batch_size == 32
    assert kept.micro_batch is not None
    assert 1 <= kept.micro_batch <= 32
