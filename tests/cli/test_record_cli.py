"""`smolpilot record`: what it writes and says, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset


def test_record_says_what_it_wrote_and_the_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demos"
    assert main(["record", "--out", str(out), "--episodes", "2", "--colors", "red", "blue"]) == 0
    text = capsys.readouterr().out
    assert "2 episodes" in text
    assert f"smolpilot train --dataset {out} --robot tabletop" in text
    dataset = open_dataset(out)
    assert len(dataset.meta.episodes) == 2
    assert set(dataset.meta.tasks.values()) <= {"touch the red block", "touch the blue block"}


def test_json_and_the_same_seed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = []
    for name in ("a", "b"):
        assert main(["record", "--out", str(tmp_path / name), "--episodes", "2", "--seed", "5", "--json"]) == 0
        facts.append(json.loads(capsys.readouterr().out))
    assert {**facts[0], "path": ""} == {**facts[1], "path": ""}
    assert facts[0]["episodes"] == 2
    first, second = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "b")
    assert (first.states == second.states).all()
    assert (first.actions == second.actions).all()


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "demos")
    assert main(["record", "--out", out, "--episodes", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert main(["record", "--out", out, "--noise", "2"]) == 2
    assert main(["record", "--out", out, "--episodes", "1", "--colors", "red", "pink"]) == 2
    assert "no pink block" in capsys.readouterr().err
    assert main(["record", "--out", out, "--episodes", "1", "--colours", "red", "blue"]) == 2  # its name before
    assert "Did you mean '--colors'?" in capsys.readouterr().err
    assert main(["record", "--out", str(tmp_path), "--episodes", "1"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_environment() -> None:
    code = "import sys, smolpilot.cli.record; sys.exit(any(name in sys.modules for name in ('gymnasium', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
