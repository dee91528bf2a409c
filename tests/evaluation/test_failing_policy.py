"""A policy whose predictions are no numbers fails: its report is written, and the exit code says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import new_policy, save_bundle


@pytest.fixture(scope="module")
def overflowing(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finite weights whose sums are not."""
    sizes = {"chunk_size": 4, "n_action_steps": 4}
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu", overrides=sizes)
    with torch.no_grad():
        policy.model.action_out_proj.weight.fill_(9e19)
        policy.model.expert.norm.weight.fill_(9e19)  # what that is multiplied with
    return save_bundle(policy, tmp_path_factory.mktemp("bundle") / "policy")


def test_eval_exits_with_1_and_writes_its_report(
    overflowing: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "eval"
    words = ["eval", str(overflowing), "--dataset", str(tiny_dataset), "--episodes", "0", "--max-frames", "2"]
    assert main([*words, "--out", str(out)]) == 1
    assert "The policy fails: predictions hold NaN or infinite values" in capsys.readouterr().out
    assert json.loads((out / "metrics.json").read_text())["verdict"]["fails"] is True
    assert (out / "report.html").is_file()


def test_bench_exits_with_1(overflowing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(overflowing), "--engine", "plain", "--repeats", "1", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert "the policy fails" in row["note"]
