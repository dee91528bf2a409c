"""Rollouts in worker processes, and resumed after a kill: the same episodes, counted once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.environments import worker_pool
from tests.environments.test_worker_pool import FRAGILE

WORDS = ["rollout", "hold-state", "--env", "tabletop", "--seed", "1", "--episodes", "8", "--video-episodes", "0"]


def results(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    for run in found["runs"]:
        run.pop("planning_s")
    return found


def test_the_number_of_processes_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for jobs in ([], ["--jobs", "1"], ["--jobs", "3"]):
        assert main([*WORDS, *jobs, "--out", str(tmp_path / f"out{len(jobs)}{jobs[-1:]}")]) == 0
    here, one, three = (results(path)["runs"] for path in sorted(tmp_path.glob("out*")))
    assert here == one == three
    assert [run["seed"] for run in here] == list(range(1, 9))
    lines = [json.loads(line) for line in (tmp_path / "out0[]" / "episodes.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == list(range(1, 9))


def test_a_crashed_episode_counts_as_failed_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setattr(worker_pool, "HOST", [sys.executable, str(tmp_path / "fragile.py")])
    assert main([*WORDS, "--jobs", "2", "--out", str(tmp_path / "out")]) == 0
    found = results(tmp_path / "out")
    crashed = {run["seed"]: run["error"] for run in found["runs"] if run["label"] == "crashed"}
    assert crashed.keys() == {3, 5}
    assert "the block fell through the table" in crashed[3]
    assert "exit code 9" in crashed[5]
    assert (found["episodes"], found["failures"]["crashed"]) == (8, 2)
    assert any("2 of 8 episodes" in warning for warning in found["warnings"])
    assert "2 of 8 episodes" in capsys.readouterr().out
    assert main([*WORDS, "--out", str(tmp_path / "sound")]) == 0
    sound = {run["seed"]: run for run in results(tmp_path / "sound")["runs"]}
    for run in found["runs"]:
        if run["label"] != "crashed":
            assert run == sound[run["seed"]]


def test_a_killed_rollout_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial" / "episodes.jsonl"
    words = [*WORDS, "--episodes", "60", "--parallel", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "smolpilot", *words, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 100
    while time.monotonic() < until and not (partial.exists() and partial.read_bytes().count(b"\n") >= 5):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = [json.loads(line) for line in partial.read_text().splitlines() if line.endswith("}")]
    assert 5 <= len(before) < 60
    with partial.open("a") as file:
        file.write('{"seed": 1, "instr')  # as a kill in the middle of a line leaves it
    assert not out.exists()
    assert main([*words, "--seed", "2", "--out", str(out)]) == 2
    assert "holds episodes of another rollout: its seed is 1, now 2" in capsys.readouterr().err
    assert main([*words, "--out", str(out)]) == 0
    assert f"Resuming: {len(before)} episodes of before" in capsys.readouterr().err
    assert not partial.parent.exists()
    found = {run["seed"]: run for run in results(out)["runs"]}
    assert sorted(found) == list(range(1, 61))
    for run in before:
        run.pop("planning_s")
        assert found[run["seed"]] == run
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert results(tmp_path / "whole")["runs"] == results(out)["runs"]


def test_an_interrupted_rollout_says_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C: no results, nothing half-written beside the episodes that have ended."""
    from smolpilot.evaluation.rollout import closed_loop

    ended: list[int] = []

    def interrupt(runs: Any, *given: Any, **more: Any) -> Any:
        for run in plays(runs, *given, **more):
            ended.append(run.seed)
            if len(ended) == 4:
                raise KeyboardInterrupt
            yield run

    plays = closed_loop._Episodes.play
    with monkeypatch.context() as patched:
        patched.setattr(closed_loop._Episodes, "play", interrupt)
        assert main([*WORDS, "--out", str(tmp_path / "out")]) == 130
    said = capsys.readouterr().err
    assert f"3 episodes of this rollout are kept in {tmp_path / 'out.partial'}: the same command resumes there." in said
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    assert main([*WORDS, "--out", str(tmp_path / "out")]) == 0
    assert "Resuming: 3 episodes of before" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interpreter_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rollout", "hold-state", "--env", "pusht", "--env-python", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "There is no Python interpreter at" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == []
