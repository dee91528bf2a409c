"""What stands in a run folder and is no number, no object, or without end: `status` says what it knows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("steps: 100\nbatch_size: 4\n")
    lines = [json.dumps({"kind": "train", "step": step, "loss": 2.0, "samples_per_s": 8.0}) for step in (10, 20)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    "line",
    [
        f'{{"kind": "train", "step": 30, "loss": {DEEP}}}',
        '{"kind": "train", "step": 20, "loss": 1' + "0" * 400 + "}",
        '{"kind": "train", "step": "30", "loss": 1.0}',
        '{"kind": "validation", "step": 20, "score": "low", "unit": [1]}',
        '{"kind": "train", "step": 20, "loss": "\\ud800", "epoch": {}}',
        "[]",
    ],
)
def test_lines_of_metrics_that_are_none(line: str, run: Path, capsys: Any) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n{{}}\n")
    assert main(["status", str(run), "--json"]) in (0, 1)  # 1: it warns
    document = json.loads(capsys.readouterr().out)
    assert (document["step"], document["state"]) == (20, "stopped")


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"pid": 1e400, "created": 0}', '{"pid": 1' + "0" * 400 + ', "created": 0}', '{"pid": []}', "5", "\0"],
)
def test_notes_of_a_process_that_is_none(text: str, run: Path, capsys: Any) -> None:
    (run / "process.json").write_text(text)
    (run / "environment.json").write_text(text)
    assert main(["status", str(run), "--json"]) in (0, 1)  # 1: it warns
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"


def test_metrics_of_gigabytes_are_not_read(run: Path, capsys: Any) -> None:
    os.truncate(run / "metrics.jsonl", 5 * 2**30)
    assert main(["status", str(run)]) == 1
    assert "5.37 GB" in capsys.readouterr().err


def test_a_preparation_of_many_steps(run: Path, capsys: Any) -> None:
    (run / "config.yaml").unlink()
    (run / "preparing.json").write_text('{"steps": ["many"], "pid": 1e400}')
    assert main(["status", str(run), "--json"]) in (0, 1)  # 1: it warns
    assert json.loads(capsys.readouterr().out)["steps"] == 0
