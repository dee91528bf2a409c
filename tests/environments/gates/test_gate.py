"""The gate: demonstrations succeed in an environment with its settings, and fail with those that break it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import SimulationError, SmolpilotError, UsageError
from smolpilot.environments import shipped
from smolpilot.environments.gates.gate import check_gate, compared, spread
from smolpilot.environments.gates.gate_workers import Ask, GateWorkers
from tests.evaluation import helpers_world

# gym-pusht places the block first and then turns it, which moves it. The recorder did the same.
PLACED, TURNED = "self.block.position = list(state[2:4])\n", "self.block.angle = state[4]\n"


@pytest.fixture
def aloha() -> None:
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")


@pytest.fixture
def pusht() -> None:
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")


@pytest.mark.usefixtures("aloha")
def test_aloha_passes_and_says_with_what() -> None:
    told: list[tuple[str, int, int]] = []
    gate = check_gate("aloha", {"task": "transfer_cube"}, episodes=3, jobs=2, progress=lambda *one: told.append(one))
    assert (gate.verdict, gate.successes, gate.episodes, gate.failed_seeds) == ("passed", 3, 3, [])
    assert gate.text.startswith("aloha's expert succeeds in 3 of 3 episodes, at least 95 %")
    assert gate.simulation["physics"]["multiccd"] is False
    assert gate.simulation["packages"].keys() >= {"gym-aloha", "mujoco"}
    assert sorted(done for _, done, _ in told) == [1, 2, 3]


@pytest.mark.usefixtures("aloha")
def test_settings_with_which_the_expert_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """Within 200 steps nobody hands over a cube."""
    words = ["env", "check", "aloha", "--env-settings", "max_steps=200", "--episodes", "3", "--json"]
    assert main(words) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["episodes"]) == ("failed", 3)
    assert found["failed_seeds"] == [0, 1, 2]
    assert "no score of a policy means anything" in found["text"]


@pytest.mark.usefixtures("aloha")
def test_the_peg_goes_in_with_either_kind_of_contacts() -> None:
    """An expert whose wrists flip jams with MuJoCo 3.8's contacts at several points; this one's do not."""
    for multiccd in (False, True):
        gate = check_gate("aloha", {"task": "insertion", "multiccd": multiccd}, episodes=3, seed=1, jobs=2)
        assert (gate.verdict, gate.successes) == ("passed", 3), multiccd


@pytest.mark.usefixtures("pusht")
def test_pusht_replays_what_people_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "check", "pusht", "--episodes", "6", "--jobs", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["successes"], found["episodes"]) == ("replay-exact", 6, 6)
    assert found["facts"]["block_px"] < 1e-3
    assert found["facts"]["max_coverage"] == pytest.approx(found["facts"]["recorded_coverage"], abs=1e-5)
    assert found["facts"]["best_coverage"] > found["facts"]["max_coverage"], "the last action's result is not recorded"
    assert "6 of 6 recorded episodes with the block within 0.1 px" in found["text"]
    assert main(["env", "check", "pusht", "--episodes", "2"]) == 0
    assert "people: success in " in capsys.readouterr().out


@pytest.mark.usefixtures("pusht")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PLACED, f"self.block.angle = state[4]\n        {PLACED}"),  # turned, placed, and turned again: no move
        ("self.k_p, self.k_v = 100, 20", "self.k_p, self.k_v = 100, 21"),
    ],
)
def test_another_simulation_is_not_replay_exact(
    old: str, new: str, other_pusht: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    python = other_pusht(old, new)
    assert main(["env", "check", "pusht", "--episodes", "4", "--env-python", str(python)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("failed: pusht replays ")
    assert "no score of a policy means anything with these settings and packages" in said
    assert "failed: recorded episode " in said


def test_the_gate_runs_in_the_interpreter_that_will_be_used(
    tmp_path: Path, other_pusht: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rollout", "hold-state", "--env", "pusht", "--env-settings", "max_steps=4", "--episodes", "2",
             "--video-episodes", "0"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "here")]) == 0
    assert json.loads((tmp_path / "here" / "results.json").read_text())["gate"]["verdict"] == "replay-exact"
    python = other_pusht("self.k_p, self.k_v = 100, 20", "self.k_p, self.k_v = 90, 20")
    capsys.readouterr()
    assert main([*words, "--env-python", str(python), "--jobs", "2", "--out", str(tmp_path / "there")]) == 1
    assert "No policy is scored in pusht, whose gate fails: pusht replays 0 of 20" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


def test_coverage_alone_can_fail() -> None:
    """A simulation with the same motion and another measure."""
    episode: dict[str, Any] = {
        "block_px": 1e-5, "max_coverage": 0.8, "recorded_coverage": 0.82, "best_coverage": 0.9, "success": False,
    }  # fmt: skip
    gate = compared("it replays", {3: episode, 7: episode}, {})
    assert (gate.verdict, gate.successes, gate.failed_seeds) == ("failed", 2, [])
    assert compared("it replays", {3: {**episode, "max_coverage": 0.811}}, {}).verdict == "replay-exact"


@pytest.mark.parametrize(
    ("instead", "said"),
    [("raise RuntimeError('the block is gone')", "RuntimeError: the block is gone"),
     ("import os; os._exit(9)", "has ended (exit code 9)")],
)  # fmt: skip
def test_a_simulation_that_breaks_fails_the_gate(
    instead: str, said: str, other_pusht: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    python = other_pusht("acceleration = self.k_p", f"{instead}; acceleration = self.k_p")
    words = ["env", "check", "pusht", "--env-python", str(python), "--episodes", "5", "--jobs", "2", "--json"]
    assert main(words) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["successes"], found["episodes"], found["errors"]) == ("failed", 0, 5, 5)
    assert said in found["text"]


def test_an_episode_whose_simulation_breaks_is_no_success_and_is_said() -> None:
    error = SimulationError("The environment pusht broke: the block is gone.")
    gate = compared("it replays", {0: error, 1: error}, {})
    assert (gate.verdict, gate.successes, gate.episodes, gate.failed_seeds) == ("failed", 0, 2, [0, 1])
    assert gate.text.endswith("The simulation failed in 2 of them: The environment pusht broke: the block is gone.")


def test_without_demonstrations_there_is_no_gate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(shipped.SHIPPED, "line", "tests.evaluation.helpers_world:Line")
    assert main(["env", "check", "line"]) == 0
    assert "not gated: line is not gated: it has no expert, and no demonstrations" in capsys.readouterr().out


def test_an_expert_of_somebody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shipped.SHIPPED, "line", "tests.evaluation.helpers_world:Line")
    for share, verdict in ((20, "passed"), (19, "passed"), (18, "failed")):
        monkeypatch.setattr(helpers_world.Line, "expert_succeeds", lambda seed, n=share: seed < n, raising=False)
        gate = check_gate("line", {})
        assert (gate.verdict, gate.successes, gate.episodes) == (verdict, share, 20)
    monkeypatch.setattr(helpers_world.Line, "expert_succeeds", lambda seed: 1 / 0, raising=False)
    with pytest.raises(SmolpilotError, match="'line' fails in expert_succeeds: ZeroDivisionError"):
        check_gate("line", {})


def test_an_expert_that_plays_whole_episodes_is_a_gate_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shipped.SHIPPED, "line", "tests.evaluation.test_floors:ExpertLine")
    assert check_gate("line", {}).verdict == "passed"
    gate = check_gate("line", {"broken": "3"}, episodes=3)
    assert (gate.verdict, gate.episodes) == ("passed", 3)
    with pytest.raises(SmolpilotError, match="'line' fails in demonstrate: ZeroDivisionError"):
        check_gate("line", {"broken": "3"})


@pytest.mark.usefixtures("pusht")
def test_what_fails_ends_the_other_processes_at_once() -> None:
    asked: list[int] = []

    def play(ask: Ask, number: int) -> int:
        asked.append(number)
        if number == 0:
            raise UsageError("Nobody can play this.")
        time.sleep(0.2)
        return number

    with GateWorkers("pusht", {}, 2, None) as workers, pytest.raises(UsageError, match="Nobody can play"):
        workers.each(range(40), play)
    assert len(asked) < 10


@pytest.mark.parametrize("settings", [{}, {"target": "green", "colors": "red,green,blue"}])
def test_the_tabletop_passes(settings: dict[str, str]) -> None:
    gate = check_gate("tabletop", settings, episodes=12)
    assert (gate.verdict, gate.successes, gate.episodes) == ("passed", 12, 12)


def test_episodes_are_spread_over_a_recording() -> None:
    assert spread(206, 3) == [0, 102, 205]
    assert spread(206, 1) == [0]
    assert spread(4, 9) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["alhoa"], "Did you mean 'aloha'?"),
        (["aloha", "--env-settings", "task=stack"], "'transfer_cube' or 'insertion'"),
        (["aloha", "--env-python", "nowhere"], "There is no Python interpreter at nowhere"),
    ],
)
def test_misuse(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "check", *words]) == 2
    assert message in capsys.readouterr().err
