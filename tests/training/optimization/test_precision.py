"""Mixed precision: near float32, overflow left out and counted, the scale of the loss kept over a stop; --compile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.training import TrainingStoppedError, TrainOptions, train
from smolpilot.training.optimization.precision import Precision, clip_gradients
from smolpilot.training.run.metrics_log import read_metrics

CPU = torch.device("cpu")


def options(dataset: Path, out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        dataset=dataset, out=out, preset="tiny", from_scratch=True, steps=4, batch_size=4, chunk_size=5,
        log_every=1, eval_every=4, save_every=4, eval_frames=4, device="cpu",
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "train"]


def state(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "training_state" / "tensors.safetensors")


@pytest.fixture(scope="module")
def exact(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses(train(options(tiny_dataset, tmp_path_factory.mktemp("exact") / "run")))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_losses_stay_near_those_of_float32(dtype: str, exact: list[float], tiny_dataset: Path, tmp_path: Path) -> None:
    run = train(options(tiny_dataset, tmp_path / "run", dtype=dtype, micro_batch=2))
    found = losses(run)
    assert found != exact
    # float16's first steps overflow and are left out: only the first loss is that of the same weights.
    same = 1 if dtype == "float16" else 4
    assert found[:same] == pytest.approx(exact[:same], rel=0.03)
    weights = load_file(run / "checkpoints" / "last" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert ("scaler/scale" in state(run)) == (dtype == "float16")


def test_float16_resumes_with_its_loss_scale(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupted_after: Callable[..., AbstractContextManager[None]],
) -> None:
    # So large a scale that the first steps overflow, on both sides of the stop.
    ordinary = Precision.__init__

    def init(self: Precision, dtype: Any, device: torch.device) -> None:
        ordinary(self, dtype, device)
        assert self._scaler is not None
        self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": 2.0**33})

    monkeypatch.setattr(Precision, "__init__", init)
    whole = train(options(tiny_dataset, tmp_path / "whole", dtype="float16"))
    run = tmp_path / "run"
    with interrupted_after(2), pytest.raises(TrainingStoppedError, match="Stopped after step"):
        train(options(tiny_dataset, run, dtype="float16"))
    train(TrainOptions(out=run, resume=True))
    expected, found = state(whole), state(run)
    assert expected["scaler/scale"] < 2.0**33
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "train"]
    assert lines[0]["skipped_steps"] == 1
    assert lines[0]["grad_norm"] == 0
    assert losses(run) == losses(whole)


def test_gradients_that_always_overflow_stop_the_run() -> None:
    precision, weight = Precision("float16", CPU), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], fused=True)
    before = weight.detach().clone()
    for _ in range(60):
        optimizer.zero_grad()
        precision.backward(weight.sum() * float("inf"))
        precision.clip(optimizer, [weight], 1.0)
        precision.step(optimizer)
    assert torch.equal(weight, before)
    with pytest.raises(TrainingError, match="overflow float16 at every step"):
        precision.refuse_collapse(60)


def test_an_arithmetic_that_the_device_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="--dtype float16 cannot be used on meta"):
        Precision("float16", torch.device("meta"))


def test_without_a_compiler_compile_is_refused(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    torch._dynamo.reset()
    with pytest.raises(UsageError, match="--compile cannot be used here"):
        train(options(tiny_dataset, tmp_path / "run", compile=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("scale", [0.01, 0.2, 5.0, float("nan")])
def test_clipping_is_that_of_torch(scale: float) -> None:
    drawn = [torch.randn(3, 4), torch.randn(5)]
    ours, theirs = ([torch.zeros_like(each) for each in drawn] for _ in range(2))
    for ours_one, theirs_one, each in zip(ours, theirs, drawn, strict=True):
        ours_one.grad, theirs_one.grad = each * scale, each * scale
    norms = clip_gradients(ours, 1.0), torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    torch.testing.assert_close(*norms, rtol=0, atol=0, equal_nan=True)
    for ours_one, theirs_one in zip(ours, theirs, strict=True):
        torch.testing.assert_close(ours_one.grad, theirs_one.grad, rtol=0, atol=0, equal_nan=True)
