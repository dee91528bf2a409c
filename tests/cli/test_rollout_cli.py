"""`smolpilot rollout` and `eval` with policies and environments of any kind, by their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.environments import shipped as environments
from smolpilot.policies import shipped as policies
from smolpilot.smolvla import new_policy, save_bundle

WORLD = "tests.evaluation.helpers_world"
Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world and a policy of somebody else's, by their names."""
    monkeypatch.setitem(environments.SHIPPED, "line", f"{WORLD}:Line")
    monkeypatch.setitem(policies.SHIPPED, "driver", f"{WORLD}:open_driver")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A rollout's results.json."""

    def run(*words: str) -> dict[str, Any]:
        assert main(["rollout", *words, "--out", str(tmp_path / "out"), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a refused command says; nothing is left behind."""

    def refused(verb: str, *words: str, code: int = 2) -> str:
        assert main([verb, *words, "--out", str(tmp_path / "out")]) == code
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    return refused


def test_a_strangers_policy_drives_in_a_strangers_world(run: Run, tmp_path: Path) -> None:
    found = run("driver:right", "--env", "line", "--env-settings", "reach=0.6", "--episodes", "4", "--seed", "0",
                "--video-episodes", "1")  # fmt: skip
    assert (found["env"], found["env_settings"], found["successes"]) == ("line", {"reach": "0.6"}, 2)
    assert found["failures"] == {"other end": 2, "timeout": 0}
    assert {run["steps"] for run in found["runs"]} == {3}
    assert (found["bundle"]["name"], found["bundle"]["path"]) == ("driver", "driver:right")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "episodes.jsonl",
        "episodes.robostats.jsonl",
        "eval_info.json",
        "plots",
        "report.html",
        "results.json",
        "video.mp4",
        "videos",
    ]


def test_its_table_has_the_worlds_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rollout", "driver:right", "--env", "line", "--episodes", "2", "--video-episodes", "0"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    for text in ("end left", "end right", "other end", "timeout", "succeeded in 1 of 2 fresh episodes of line"):
        assert text in said


def test_swapping_is_the_worlds_business(run: Run) -> None:
    found = run("driver", "--env", "line", "--episodes", "2", "--swap-instruction", "--video-episodes", "0")
    assert [row["instruction"] for row in found["runs"]] == ["drive to the right end", "drive to the left end"]
    assert found["successes"] == 2


def test_hold_state_in_pusht(run: Run) -> None:
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
    found = run("hold-state", "--env", "pusht", "--env-settings", "max_steps=12", "--episodes", "2",
                "--video-episodes", "0")  # fmt: skip
    assert (found["successes"], found["failures"]) == (0, {"timeout": 2})
    assert [row["steps"] for row in found["runs"]] == [12, 12]
    assert all(0 <= row["facts"]["max_coverage"] < 0.95 for row in found["runs"])
    assert (found["bundle"]["kind"], found["bundle"]["robot"], len(found["by_group"])) == ("baseline", "pusht", 2)


def test_hold_state_and_the_mean_action_beside_the_rows_that_every_report_has(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, key in (("hold-state", "hold"), ("mean-action", "mean_action")):
        words = ["eval", name, "--dataset", str(tiny_dataset), "--episodes", "0", "--max-frames", "4", "--json"]
        assert main([*words, "--out", str(tmp_path / name)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["mean_over_joints"]["mae"] == pytest.approx(found["baselines"][key]["mae"], rel=1e-4)
        assert found["latency"]["chunk"]["count"] > 0
        assert (found["bundle"]["name"], found["bundle"]["robot"]) == (name, None)


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["hold-state", "--env", "lyne"], "Unknown environment 'lyne'.\n  Fix: Did you mean 'line'?"),
            (["hold-stat", "--env", "line"], "Did you mean 'hold-state'?"),
            (["driver", "--env", "line", "--env-settings", "raech=1"], "Did you mean 'reach'?"),
            (["driver", "--env", "line", "--env-settings", "reach=far"], "'reach' of the environment 'line'"),
            (["driver", "--env", "line", "--colours", "red", "blue"], "--env-settings colors=red,blue"),
            (["driver", "--env", "line", "--colors", "red"], "--env-settings colors=red"),
            (["driver", "--env", "line", "--untrained"], "--untrained is given, but the driver has no such option"),
            (["driver", "--env", "line", "--n-action-steps", "9"], "execution horizon n_action_steps is 9"),
            (["driver"], "does not fit the environment tabletop: its state has 1 values, the environment's 3"),
        ],
    )
    def test_rollout(self, refused: Callable[..., str], words: list[str], message: str) -> None:
        said = refused("rollout", *words, "--episodes", "1", "--video-episodes", "0")
        assert said.startswith("error: ")
        assert message in said

    def test_a_bundle_of_another_robot(self, refused: Callable[..., str], tiny_dataset: Path, tmp_path: Path) -> None:
        policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu")
        bundle = save_bundle(policy, tmp_path / "bundle")
        said = refused("rollout", str(bundle), "--env", "line", "--episodes", "1")
        assert (
            "The environment line's state has 1 joint (place), the policy's has 3 joints (pan, lift, gripper)" in said
        )

    def test_a_defect_of_the_world_is_one_error(self, refused: Callable[..., str]) -> None:
        said = refused("rollout", "driver", "--env", "line", "--env-settings", "broken=4", "--seed", "3",
                       "--episodes", "3", "--video-episodes", "0", code=1)  # fmt: skip
        assert "The environment line fails in the episode of seed 4, at step 2: ZeroDivisionError" in said
        assert "Traceback" not in said


@pytest.fixture(scope="module")
def recipe(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `train --seeds`."""
    out = tmp_path_factory.mktemp("recipe") / "runs"
    words = ["--preset", "tiny", "--from-scratch", "--batch-size", "4", "--chunk-size", "4", "--eval-frames", "4"]
    words += ["--dataset", str(tiny_dataset), "--steps", "1", "--device", "cpu", "--cache", "none"]
    assert main(["train", *words, "--seeds", "0,1,2", "--out", str(out)]) == 0
    return out


class TestARecipe:
    """`rollout` of the folder of `train --seeds`, by a policy of somebody else's in place of each checkpoint."""

    @pytest.fixture(autouse=True)
    def drivers(self, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The world's own policy opens each checkpoint: that of seed 1 goes the wrong way."""
        from smolpilot import policies as room
        from smolpilot.policies import open_policy
        from smolpilot.policies.floor_policies import FLOORS

        def opened(source: str, *rest: Any, **more: Any) -> Any:
            if source in FLOORS:
                return open_policy(source, *rest, **more)
            assert Path(source).name.startswith("step_")
            return open_policy("driver:left" if "seed_1" in source else "driver:right", *rest, **more)

        monkeypatch.setattr(room, "open_policy", opened)

    words = ("--env", "line", "--episodes", "6", "--seed", "0", "--video-episodes", "0")

    def test_it_is_each_seed_on_the_same_episodes(self, recipe: Path, run: Run, tmp_path: Path) -> None:
        found = run(str(recipe), *self.words)
        assert json.loads((tmp_path / "out" / "results.json").read_text()) == found
        assert [one["training_seed"] for one in found["seeds"]] == [0, 1, 2]
        each = [json.loads((tmp_path / "out" / f"seed_{seed}" / "results.json").read_text()) for seed in range(3)]
        assert [one["seed"] for one in each[0]["runs"]] == [one["seed"] for one in each[1]["runs"]] == list(range(6))
        assert [one["successes"] for one in found["seeds"]] == [one["successes"] for one in each]
        assert found["recipe"]["mean"] == pytest.approx(sum(one["success_rate"] for one in each) / 3)
        assert "over 3 training seeds" in found["text"]

    def test_it_goes_on_where_it_was_killed(
        self, recipe: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["rollout", str(recipe), *self.words, "--out", str(tmp_path / "out")]
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "The recipe succeeded in" in said
        first = tmp_path / "out" / "seed_0" / "results.json"
        written = first.stat().st_mtime_ns
        (tmp_path / "out" / "results.json").unlink()
        assert main([*words[:3], "line", "--episodes", "7", *words[6:]]) == 2
        assert "holds rollouts of other options; these differ: episodes" in capsys.readouterr().err
        assert main(words) == 0
        assert first.stat().st_mtime_ns == written
        assert main(words) == 2  # whole results are never written over
        assert "exists already" in capsys.readouterr().err

    def test_seeds_of_different_simulations_are_no_recipe(
        self, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["rollout", str(recipe), *self.words, "--out", str(tmp_path / "out")]
        assert main(words) == 0
        for seed, version in ((0, "3.8.1"), (1, "3.9.0"), (2, "3.9.0")):
            path = tmp_path / "out" / f"seed_{seed}" / "results.json"
            document = json.loads(path.read_text())
            path.write_text(json.dumps(document | {"simulation": {"physics": {"mujoco": version}}}))
        (tmp_path / "out" / "results.json").unlink()
        capsys.readouterr()
        assert main(words) == 2
        assert "different worlds: physics.mujoco is '3.8.1' in" in capsys.readouterr().err
        assert not (tmp_path / "out" / "results.json").exists()

    def test_what_cannot_be(self, recipe: Path, refused: Callable[..., str], tmp_path: Path) -> None:
        assert "tell a recipe's seeds apart" in refused("rollout", str(recipe), "--env", "line", "--untrained")
        assert "Unknown environment 'linr'" in refused("rollout", str(recipe), "--env", "linr")
        import shutil

        torn = tmp_path / "torn"
        shutil.copytree(recipe, torn, symlinks=True)
        shutil.rmtree(torn / "seed_2")
        assert "Seed 2 of the recipe" in refused("rollout", str(torn), "--env", "line")
