"""`smolpilot rollout` beside its floors, and compared with what was rolled out before."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.environments import make_environment
from smolpilot.environments import shipped as environments
from smolpilot.environments.tabletop.recording import record
from smolpilot.evaluation.rollout import floor_cache, floors
from smolpilot.policies import shipped as policies
from smolpilot.smolvla import new_policy, save_bundle

WORLD = "tests.evaluation.helpers_world"
Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is kept of floors here is nobody else's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "smolpilot" / "floors"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A rollout's results.json, and what was printed under `said`."""

    def run(*words: str, env: str = "tabletop", out: str = "out", episodes: int = 12) -> dict[str, Any]:
        capsys.readouterr()
        given = ["rollout", *words, "--env", env, "--episodes", str(episodes), "--seed", "1", "--video-episodes", "0"]
        assert main([*given, "--out", str(tmp_path / out)]) == 0
        found: dict[str, Any] = json.loads((tmp_path / out / "results.json").read_text())
        return found | {"said": capsys.readouterr().out}

    return run


def test_a_policy_beside_its_floors_and_the_expert(run: Run, tmp_path: Path) -> None:
    record(tmp_path / "data", 4)
    policy = new_policy("tiny", meta=open_dataset(tmp_path / "data").meta, device="cpu")
    bundle = save_bundle(policy, tmp_path / "bundle")
    found = run(str(bundle), episodes=6)
    assert [row["name"] for row in found["floors"]] == ["no-op", "random", "hold-state", "expert"]
    assert [row["kind"] for row in found["floors"]] == ["floor", "floor", "floor", "ceiling"]
    assert found["floors"][3]["successes"] == 6
    for row in found["floors"]:
        assert row["episodes"] == sum(row["paired"][cell] for cell in ("both", "only_policy", "only_other", "neither"))
        assert row["facts"].keys() == {"distance_m"}
    assert found["facts"]["distance_m"] > 0
    assert found["verdict"]["against"] in {"no-op", "random", "hold-state"}
    assert found["verdict"]["decision"] == "not told apart"
    for text in ("same seeds", "expert", "policy:it", found["verdict"]["text"], "mean distance_m: the policy"):
        assert text in found["said"]


def test_the_next_rollout_on_these_seeds_pays_nothing(
    run: Run, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("hold-state")
    assert [row["name"] for row in first["floors"]] == ["no-op", "random", "expert"]  # not against itself
    assert len(list(own_cache.iterdir())) == 3

    def opened(*given: Any) -> None:
        raise AssertionError("nothing is left to play")

    with monkeypatch.context() as patched:
        patched.setattr(floors, "_demonstrations", opened)
        patched.setattr(floors, "play", opened)
        assert run("hold-state", out="again")["floors"] == first["floors"]
    for file in own_cache.iterdir():
        file.write_text("torn")
    assert run("hold-state", out="torn")["floors"] == first["floors"]
    assert all(json.loads(file.read_text())["format"] == floor_cache.FORMAT for file in own_cache.iterdir())
    other = run("hold-state", "--env-settings", "target=red", out="other")
    assert len(list(own_cache.iterdir())) == 6  # other settings, other episodes
    assert other["floors"] != first["floors"]


@pytest.mark.parametrize("more", [["--jobs", "2"], ["--swap-instruction"], ["--swap-instruction", "--jobs", "1"]])
def test_in_processes_and_swapped_they_are_the_same(run: Run, own_cache: Path, more: list[str]) -> None:
    there = run("hold-state", *more)
    for file in own_cache.iterdir():
        file.unlink()
    here = run("hold-state", *[one for one in more if one == "--swap-instruction"], out="here")
    assert there["floors"] == here["floors"]
    assert there["floors"][-1]["successes"] == 12


def test_without_floors(run: Run, own_cache: Path) -> None:
    found = run("hold-state", "--no-floors")
    assert found["floors"] == []
    assert found["verdict"]["against"] is None
    assert "it was not compared with a floor" in found["said"]
    assert "same seeds" not in found["said"]
    assert not own_cache.exists()


def test_a_floor_that_cannot_be_played_is_a_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(policies.SHIPPED, "random", "tests.cli.test_floors_cli:nobody")
    found = run("hold-state", episodes=2)
    assert [row["name"] for row in found["floors"]] == ["no-op", "expert"]
    assert found["warnings"] == ["The floor random is missing: There is nobody."]


def nobody(*given: Any) -> Any:
    from smolpilot.common.errors import UsageError

    raise UsageError("There is nobody.")


def test_an_interrupt_among_the_floors_costs_no_episode(
    run: Run, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    words = ["rollout", "hold-state", "--env", "tabletop", "--episodes", "12", "--seed", "1", "--video-episodes", "0"]
    with monkeypatch.context() as patched:
        patched.setattr(floors, "_demonstrations", interrupt)
        assert main([*words, "--out", str(tmp_path / "out")]) == 130
    assert "12 episodes of this rollout are kept" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert len(list(own_cache.iterdir())) == 2  # no-op and random are done
    assert run("hold-state")["floors"][-1]["successes"] == 12


def test_long_words_of_an_environment_leave_the_numbers_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "62")
    said = run("hold-state", "--no-floors", "--env-settings", "colors=red,blue")["said"]
    assert "no success: other 0, none 12" in said
    monkeypatch.setenv("COLUMNS", "120")
    assert "no success:" not in run("hold-state", "--no-floors", out="wide")["said"]


def test_what_others_made_is_not_kept(run: Run, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code may change without a version."""
    from smolpilot.contracts.registry import ENVIRONMENTS

    monkeypatch.setattr(
        ENVIRONMENTS, "get", {"line": __import__(WORLD, fromlist=["Line"]).Line, "tabletop": make_environment}.get
    )
    monkeypatch.setitem(policies.SHIPPED, "driver", f"{WORLD}:open_driver")
    assert "line" not in environments.SHIPPED
    found = run("driver", env="line")
    assert [row["name"] for row in found["floors"]] == ["no-op", "random", "hold-state"]
    assert (found["successes"], found["verdict"]["against"]) == (12, "random")
    assert not own_cache.exists()


class TestAgainst:
    def test_another_rollout_on_the_same_seeds(self, run: Run, tmp_path: Path) -> None:
        run("random", "--no-floors", out="first")
        found = run("no-op", "--no-floors", "--against", str(tmp_path / "first"), out="second")
        about = found["against"]
        assert (about["name"], about["kind"], about["episodes"]) == ("random", "rollout", 12)
        assert about["only_policy"] == 0
        assert about["test"] == "McNemar, exact"
        assert about["text"] in found["said"]

    def test_lerobots_file(self, run: Run, tmp_path: Path) -> None:
        task = {"task_group": "tabletop", "task_id": 0, "metrics": {"successes": [True] * 20}}
        (tmp_path / "eval_info.json").write_text(json.dumps({"per_task": [task]}))
        found = run("no-op", "--no-floors", "--against", str(tmp_path / "eval_info.json"))
        page = (tmp_path / "out" / "report.html").read_text()
        assert "Compared with another result" in page
        assert found["against"]["text"] in html.unescape(page)
        for note in found["against"]["notes"]:
            assert note in html.unescape(page)
        assert found["against"]["decision"] == "worse"
        assert "The policy is worse than lerobot-eval with 0 of 12 against 20 of 20" in found["said"]

    def test_another_world_is_refused_before_anything_is_played(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("no-op", "--no-floors", "--env-settings", "target=red", out="first", episodes=1)
        words = ["rollout", "no-op", "--env", "tabletop", "--against", str(tmp_path / "first")]
        assert main([*words, "--out", str(tmp_path / "second")]) == 2
        said = capsys.readouterr().err
        assert "The rollouts are of different worlds: env_settings.target is None in this rollout, 'red' in" in said
        assert not (tmp_path / "second").exists()
        assert main([*words[:-1], str(tmp_path / "nowhere"), "--out", str(tmp_path / "second")]) == 2
        assert "nowhere holds neither results.json nor eval_info.json" in capsys.readouterr().err
        assert not (tmp_path / "second").exists()


def test_floors_in_pusht_and_aloha(run: Run) -> None:
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
    found = run("hold-state", "--env-settings", "max_steps=20", env="pusht", episodes=2)
    assert [row["name"] for row in found["floors"]] == ["no-op", "random", "replay"]  # it has no expert, but people
    assert found["verdict"]["against"] in ("no-op", "random")
    assert found["floors"][0]["facts"].keys() == {"coverage", "max_coverage"}


def test_alohas_expert_is_the_ceiling(run: Run) -> None:
    pytest.importorskip("gym_aloha")
    found = run("hold-state", "--env-settings", "end_on_success=true", env="aloha", episodes=1)
    rows = {row["name"]: row for row in found["floors"]}
    assert rows["expert"]["successes"] == 1
    assert rows["expert"]["facts"]["max_reward"] == 4
    assert rows["no-op"]["successes"] == rows["random"]["successes"] == 0
