"""--track: the real wandb, offline, where installed; a missing package is named; nothing is imported without asking."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import TrainingError
from smolpilot.training import TrainOptions, train
from smolpilot.training.run.tracking import open_tracker, require


def options(dataset: Path, out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        dataset=dataset, out=out, preset="tiny", from_scratch=True, steps=2, batch_size=2, chunk_size=4, log_every=1,
        eval_every=2, save_every=2, eval_frames=2, device="cpu",
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_writes_offline_into_the_run_folder(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    run = train(options(tiny_dataset, tmp_path / "run", track="wandb"))
    number = json.loads((run / "tracking.json").read_text())["id"]
    (record,) = (run / "wandb").glob(f"offline-run-*-{number}/run-{number}.wandb")
    content = record.read_bytes()
    for tag in (b"train/loss", b"validation/score", b"batch_size"):
        assert tag in content, tag
    # TensorBoard is always there.
    assert list((run / "tensorboard").iterdir())


def test_a_package_that_is_missing_stops_before_anything_is_built(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(TrainingError, match="--track trackio needs trackio, which is not installed") as caught:
        train(options(tiny_dataset, tmp_path / "run", track="trackio"))
    assert "pip install trackio" in caught.value.fix
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("no room\nin here")

    monkeypatch.setitem(sys.modules, "trackio", types.SimpleNamespace(init=fail))
    with pytest.raises(TrainingError, match="trackio does not start: no room"):
        open_tracker("trackio", tmp_path, {})
    assert require("trackio").init is fail


def test_nothing_is_imported_without_asking() -> None:
    code = "import sys, smolpilot.training.run.run; sys.exit(' '.join({'trackio', 'wandb'} & sys.modules.keys()) or 0)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
