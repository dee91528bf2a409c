"""`smolpilot rollout` and the gate: what stands in the results, and that a failed one refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.environments import shipped as environments
from smolpilot.policies import shipped as policies
from tests.evaluation import helpers_world

WORDS = ["rollout", "driver", "--env", "line", "--episodes", "2", "--video-episodes", "0"]


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A world and a policy of somebody else's, by their names; a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(environments.SHIPPED, "line", "tests.evaluation.helpers_world:Line")
    monkeypatch.setitem(policies.SHIPPED, "driver", "tests.evaluation.helpers_world:open_driver")


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[int]]:
    """Gives that world an expert that succeeds with the seeds below a number; the list of those it has played."""

    def gated(below: float) -> list[int]:
        played: list[int] = []

        def expert_succeeds(seed: int, **settings: object) -> bool:
            played.append(seed)
            return seed < below

        monkeypatch.setattr(helpers_world.Line, "expert_succeeds", staticmethod(expert_succeeds), raising=False)
        return played

    return gated


def test_a_world_without_demonstrations_is_scored_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--out", str(tmp_path / "out")]) == 0
    assert "Gate: not gated. line is not gated: it has no expert" in capsys.readouterr().out
    gate = json.loads((tmp_path / "out" / "results.json").read_text())["gate"]
    assert (gate["verdict"], gate["episodes"], gate["overridden"]) == ("not gated", 0, False)


def test_a_gate_that_passes_is_asked_once(
    gated: Callable[[float], list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played = gated(19)
    assert main([*WORDS, "--out", str(tmp_path / "one")]) == 0
    assert "Gate: passed. line's expert succeeds in 19 of 20 episodes" in capsys.readouterr().out
    assert played == list(range(20))
    assert main([*WORDS, "--ungated", "--out", str(tmp_path / "two")]) == 0
    assert played == list(range(20))
    assert main([*WORDS, "--env-settings", "reach=0.6", "--out", str(tmp_path / "three")]) == 0
    assert len(played) == 40, "another world"
    gates = [json.loads((tmp_path / name / "results.json").read_text())["gate"] for name in ("one", "two")]
    assert gates[0] == gates[1]
    assert (gates[0]["verdict"], gates[0]["successes"], gates[0]["overridden"]) == ("passed", 19, False)
    assert "line&#39;s expert succeeds in 19 of 20" in (tmp_path / "one" / "report.html").read_text()


def test_a_gate_that_fails_refuses_and_leaves_nothing(
    gated: Callable[[float], list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gated(18)
    out = tmp_path / "reports" / "out"
    assert main([*WORDS, "--env-settings", "reach=0.6", "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: No policy is scored in line, whose gate fails: line's expert succeeds in 18 of")
    assert "`smolpilot env check line --env-settings reach=0.6` passes; --ungated scores all the same" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not [*out.parent.glob("*")]


def test_ungated_overrides_it_and_is_said_everywhere(
    gated: Callable[[float], list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gated(18)
    out = tmp_path / "out"
    assert main([*WORDS, "--ungated", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "warning: --ungated: scored although the gate fails. line's expert succeeds in 18 of 20" in said.err
    assert "Gate: failed. line's expert succeeds in 18 of 20 episodes, below 95 %" in said.out
    document = json.loads((out / "results.json").read_text())
    assert (document["gate"]["verdict"], document["gate"]["overridden"]) == ("failed", True)
    assert "The environment's gate fails, and was overridden." in document["warnings"]
    assert "It was scored all the same (--ungated)." in (out / "report.html").read_text()


def test_a_misfit_is_said_before_demonstrations_are_played(gated: Callable[[float], list[int]], tmp_path: Path) -> None:
    played = gated(20)
    assert main([*WORDS, "--env", "tabletop", "--out", str(tmp_path / "out")]) == 2
    assert main(["rollout", "hold-state", "--env", "lyne", "--out", str(tmp_path / "out")]) == 2
    assert played == []
    assert not (tmp_path / "cache").exists()


def test_what_is_kept_of_an_interrupted_rollout_outlives_a_refusal(
    gated: Callable[[float], list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--seed", "3", "--parallel", "1", "--env-settings", "broken=4", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    kept = tmp_path / "out.partial" / "episodes.jsonl"
    assert kept.read_bytes().count(b"\n") == 1
    before = kept.read_bytes()
    gated(0)
    capsys.readouterr()
    assert main(words) == 1
    assert "No policy is scored" in capsys.readouterr().err
    assert kept.read_bytes() == before
    assert main([*words, "--ungated"]) == 1
    assert "Resuming: 1 episode of before" in capsys.readouterr().err


def test_a_rollout_does_not_resume_in_another_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers_world.Line, "facts", {"physics": {"mujoco": "3.8.1"}}, raising=False)
    words = [*WORDS, "--seed", "3", "--parallel", "1", "--env-settings", "broken=4", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    monkeypatch.setattr(helpers_world.Line, "facts", {"physics": {"mujoco": "3.9.0"}}, raising=False)
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "holds episodes of another rollout: its simulation is" in said
    assert "3.8.1" in said
    assert "3.9.0" in said
