"""A batch that cannot fit is split or refused, before the system ends the process."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from smolpilot.cli.main import main
from smolpilot.common.errors import TrainingError
from smolpilot.common.machine import available_memory
from smolpilot.training.optimization import memory as fitting
from smolpilot.training.optimization.memory import memory_errors
from smolpilot.training.run import batch_setup as feed

TINY = ["--preset", "tiny", "--from-scratch", "--chunk-size", "4", "--eval-frames", "4", "--held-out", "0",
        "--device", "cpu", "--steps", "1"]  # fmt: skip


def test_a_batch_whose_samples_alone_do_not_fit_is_refused(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["train", "--dataset", str(tiny_dataset), *TINY, "--out", str(tmp_path / "run")]
    monkeypatch.setattr(fitting, "available_memory", lambda: 500_000_000)
    for more in (["--batch-size", "60000"], ["--batch-size", "60000", "--micro-batch", "4"]):
        assert main([*args, *more]) == 2
        said = capsys.readouterr().err
        assert "--batch-size 60000 does not fit into the memory" in said
        assert "at most --batch-size" in said
        assert "0.0 GB" not in said
    assert not (tmp_path / "run").exists()


def test_a_batch_that_fits_in_parts_is_split_and_a_stated_part_refused(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["train", "--dataset", str(tiny_dataset), *TINY, "--batch-size", "16"]
    assert main([*args, "--out", str(tmp_path / "whole")]) == 0
    assert "micro-batch" not in capsys.readouterr().out
    # As on a machine that has less left: enough for the weights and a few samples.
    monkeypatch.setattr(fitting, "available_memory", lambda: 17_000_000)
    assert main([*args, "--out", str(tmp_path / "split")]) == 0
    said = capsys.readouterr().out
    settled = yaml.safe_load((tmp_path / "split" / "config.yaml").read_text())["micro_batch"]
    assert 1 <= settled < 16
    assert f"micro-batch: {settled} of 16 samples at once" in said
    whole, split = (
        load_file(tmp_path / name / "checkpoints" / "last" / "model.safetensors") for name in ("whole", "split")
    )
    assert all(torch.allclose(whole[name], split[name], atol=1e-4) for name in whole)
    assert main([*args, "--micro-batch", "16", "--out", str(tmp_path / "stated")]) == 2
    said = capsys.readouterr().err
    assert "--micro-batch 16 does not fit" in said
    assert f"--micro-batch {settled}" in said
    assert "--micro-batch auto" in said
    monkeypatch.setattr(fitting, "available_memory", lambda: 5_000_000)
    assert main([*args, "--out", str(tmp_path / "none")]) == 2
    assert "Not even one sample" in capsys.readouterr().err


def test_decoded_frames_that_do_not_fit_are_refused(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "available_memory", lambda: 1_000_000)
    args = ["train", "--dataset", str(tiny_dataset), *TINY, "--batch-size", "2", "--frames-gb", "100"]
    assert main([*args, "--out", str(tmp_path / "run")]) == 2
    assert "leave --frames-gb out" in capsys.readouterr().err


def test_memory_that_runs_out_on_the_way_is_no_traceback() -> None:
    with pytest.raises(TrainingError, match="for 8 samples at once") as caught, memory_errors(8):
        torch.empty(2**55)
    assert "--micro-batch" in caught.value.fix
    with pytest.raises(RuntimeError, match="size"), memory_errors(8):
        torch.ones(2) @ torch.ones(3)


def test_what_is_free_is_at_most_what_the_machine_or_the_container_has() -> None:
    import psutil

    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_main_memory_is_reported_inside_a_limit(tmp_path: Path) -> None:
    """A limit of the system: Python's own allocation fails, and the command line says so."""
    code = (
        "import sys\nimport smolpilot.cli.main as m\nimport smolpilot.selftest.machine_checks as machine\n"
        "machine.run_checks = lambda *args: bytearray(2**40)\nsys.exit(m.main(['doctor']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "The memory does not suffice" in done.stderr
    assert "Traceback" not in done.stderr
