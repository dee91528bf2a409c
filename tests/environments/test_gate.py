"""The gate: the expert of an environment succeeds with its settings, and fails with those that break it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.environments.gate import check_gate

pytest.importorskip("gym_aloha")


def test_aloha_passes_and_says_with_what() -> None:
    told: list[tuple[str, int, int]] = []
    gate = check_gate("aloha", {"task": "transfer_cube"}, episodes=3, jobs=2, progress=lambda *one: told.append(one))
    assert (gate.verdict, gate.successes, gate.episodes, gate.failed_seeds) == ("passed", 3, 3, [])
    assert gate.text.startswith("aloha's expert succeeds in 3 of 3 episodes, at least 95 %")
    assert gate.simulation["physics"]["multiccd"] is False
    assert gate.simulation["packages"].keys() >= {"gym-aloha", "mujoco"}
    assert sorted(done for _, done, _ in told) == [1, 2, 3]


def test_contacts_at_several_points_jam_the_peg(capsys: pytest.CaptureFixture[str]) -> None:
    """As MuJoCo 3.8 has them: about half of the episodes fail, and so does the command."""
    words = ["env", "check", "aloha", "--env-settings", "task=insertion", "multiccd=true", "--episodes", "4", "--json"]
    assert main(words) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["episodes"]) == ("failed", 4)
    assert found["failed_seeds"] == [1, 3]
    assert "no score of a policy means anything" in found["text"]


def test_without_an_expert_there_is_no_gate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "check", "pusht"]) == 0
    assert "not gated: pusht is not gated: it has no expert" in capsys.readouterr().out


@pytest.mark.parametrize("settings", [{}, {"target": "green", "colors": "red,green,blue"}])
def test_the_tabletop_passes(settings: dict[str, str]) -> None:
    gate = check_gate("tabletop", settings, episodes=12)
    assert (gate.verdict, gate.successes, gate.episodes) == ("passed", 12, 12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["alhoa"], "Did you mean 'aloha'?"),
        (["aloha", "--env-settings", "task=stack"], "'transfer_cube' or 'insertion'"),
        (["aloha", "--env-python", "nowhere"], "There is no Python interpreter at nowhere"),
    ],
)
def test_misuse(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "check", *words]) == 2
    assert message in capsys.readouterr().err
