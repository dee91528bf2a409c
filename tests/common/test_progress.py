"""Work over two seconds says what it does; short work is silent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.common import progress
from smolpilot.common.progress import working

TINY = ["--preset", "tiny", "--from-scratch", "--batch-size", "4", "--chunk-size", "4", "--eval-frames", "4",
        "--device", "cpu", "--steps", "1"]  # fmt: skip


def test_it_speaks_once_it_takes_long_and_only_the_outer_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with working("short work"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "SAY_AFTER_S", 0.05)
    with working("long work"), working("its part"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "long work ...\n"

    @working("a function")
    def slow() -> int:
        time.sleep(0.2)
        return 3

    assert slow() == 3
    assert slow() == 3
    assert capsys.readouterr().err == "a function ...\na function ...\n"
    monkeypatch.setenv("RANK", "1")
    with working("another process"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_the_parts_of_a_training_say_what_they_do(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SAY_AFTER_S", 0.0)
    run = tmp_path / "run"
    assert main(["train", "--dataset", str(tiny_dataset), *TINY, "--out", str(run)]) == 0
    said = capsys.readouterr().err
    for part in ("opening the dataset and the policy", "how much memory", "first step", "scoring held-out frames",
                 "saving the checkpoint"):  # fmt: skip
        assert part in said
    assert main(["bundle", str(run)]) == 0
    assert "opening the policy" in capsys.readouterr().err
    assert main(["dataset", "info", str(tiny_dataset)]) == 0
    assert "opening the dataset" in capsys.readouterr().err
