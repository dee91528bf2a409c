"""Rollouts compared: paired on the same seeds, never across different worlds; LeRobot's file beside ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.contracts import PolicyFacts
from smolpilot.evaluation import rollout, write_rollout_report
from smolpilot.evaluation.rollout.comparing import compare_against, compare_rollouts, read_side
from smolpilot.evaluation.rollout.eval_info import eval_info, read_eval_info, write_eval_info
from smolpilot.evaluation.rollout.robostats_lines import robostats_lines

from .helpers_world import Driver, Line, obedient

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A rollout's folder in the world of the line; `changes`: of its document."""

    def make(name: str, aim: Callable[[str], float], *, seed: int = 0, episodes: int = 20, **changes: Any) -> Path:
        result = rollout(
            Driver(aim, facts=PolicyFacts(source=f"runs/{name}", kind="test")), Line, episodes=episodes, seed=seed
        )
        simulation = {"render": {"shadows": True, "msaa": 4}, "physics": {"mujoco": "3.8.1"},
                      "packages": {"numpy": "2.2.6"}}  # fmt: skip
        result.document.update({"simulation": simulation, **changes})
        folder = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_rollout_report(folder, result)
        return folder

    return make


def right(text: str) -> float:
    return 1.0


def still(text: str) -> float:
    return 0.0


def test_two_on_the_same_seeds_are_paired(make: Make) -> None:
    found = compare_rollouts(make("obedient", obedient), make("right", right))
    assert found["paired"] is True
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"]) == ("runs/obedient", "runs/right")
    assert (pair["both"], pair["only_policy"], pair["only_other"], pair["neither"]) == (10, 10, 0, 0)
    assert (pair["decision"], pair["test"]) == ("better", "McNemar, exact")
    assert found["text"] == pair["text"]
    assert [row["letters"] for row in found["rollouts"]] == ["a", "b"]
    assert found["cochran_p_value"] is None


def test_other_seeds_are_compared_unpaired(make: Make) -> None:
    found = compare_rollouts(make("obedient", obedient), make("right", right, seed=1, episodes=19))
    assert found["paired"] is False
    assert found["pairs"][0]["test"] == "Boschloo, exact"
    assert "20 of 20 against 10 of 19, not paired by episode" in found["text"]
    (note,) = found["notes"]
    assert "has 20 episodes and" in note
    assert "19, of which 19 have the same seeds" in note


def test_several_get_letters_and_cochrans_q(make: Make) -> None:
    folders = [make("a", obedient), make("b", right), make("a", obedient), make("c", still)]
    found = compare_rollouts(*folders)
    assert found["cochran_p_value"] < 0.001
    names = [row["name"] for row in found["rollouts"]]
    assert names == [f"runs/a ({folders[0].name})", "runs/b", f"runs/a ({folders[2].name})", "runs/c"]
    assert [row["letters"] for row in found["rollouts"]] == ["a", "b", "a", "c"]
    assert len(found["pairs"]) == 6
    assert all(pair["test"].endswith("adjusted for 6 by Holm") for pair in found["pairs"])
    assert "policies that share a letter are not told apart" in found["text"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"simulation": {"render": {"shadows": False}}}, "render.shadows is True in .*, False in .*other"),
        ({"simulation": {"physics": {"mujoco": "3.3.2"}}}, "physics.mujoco is '3.8.1' in .*, '3.3.2' in"),
        ({"env_settings": {"reach": "0.6"}}, "env_settings.reach is None in .*, '0.6' in"),
        ({"env": "plane"}, "env is 'line' in .*, 'plane' in"),
        ({"swap_instruction": True}, "swap_instruction is False in .*, True in"),
    ],
)
def test_another_world_is_refused_by_name(make: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"The rollouts are of different worlds: {message}"):
        compare_rollouts(make("one", obedient), make("other", obedient, **changes))


def test_other_packages_are_told_of(make: Make) -> None:
    other = make("other", obedient, simulation={"packages": {"numpy": "2.3.0"}})
    found = compare_rollouts(make("one", obedient), other)
    assert len(found["notes"]) == 1
    assert found["notes"][0].startswith("numpy is 2.2.6 in ")
    assert found["notes"][0].endswith(f"2.3.0 in {other}.")
    silent = make("silent", obedient, simulation={})
    assert compare_rollouts(other, silent)["notes"] == [f"{silent} does not say how it was simulated."]


def test_one_alone_and_folders_of_something_else(make: Make, tmp_path: Path) -> None:
    one = make("one", obedient)
    with pytest.raises(UsageError, match="1 rollout cannot be compared"):
        compare_rollouts(one)
    with pytest.raises(UsageError, match=r"holds neither results.json nor eval_info.json"):
        compare_rollouts(one, tmp_path)
    (tmp_path / "results.json").write_text('{"format": "smolpilot-rollout/2"}')
    with pytest.raises(UsageError, match=r"results.json is no rollout's"):
        compare_rollouts(one, tmp_path)


class TestLerobot:
    OLD: dict[str, Any] = {  # noqa: RUF012
        "per_episode": [{"episode_ix": i, "sum_reward": 0.0, "max_reward": 0.0, "success": i % 2 == 0, "seed": i}
                        for i in range(20)],
        "aggregated": {"pc_success": 50.0},
    }  # fmt: skip
    NEW: dict[str, Any] = {  # noqa: RUF012
        "per_task": [{"task_group": "line", "task_id": 0, "metrics": {
            "sum_rewards": [0.0] * 30, "max_rewards": [0.0] * 30, "successes": [True] * 3 + [False] * 27,
            "video_paths": []}}],
        "per_group": {}, "overall": {},
    }  # fmt: skip

    def write(self, folder: Path, document: Any) -> Path:
        path = folder / "eval_info.json"
        path.write_text(json.dumps(document))
        return path

    def test_the_present_form_has_no_seeds_and_is_compared_unpaired(self, make: Make, tmp_path: Path) -> None:
        own = json.loads((make("one", obedient) / "results.json").read_text())
        path = self.write(tmp_path, self.NEW)
        assert read_eval_info(path).seeds is None
        for given in (path, tmp_path):
            found = compare_against(own, read_side(given))
            assert (found["successes"], found["episodes"], found["kind"]) == (3, 30, "lerobot-eval")
            assert (found["decision"], found["test"]) == ("better", "Boschloo, exact")
            assert found["text"].startswith("The policy is better than lerobot-eval with 20 of 20 against 3 of 30")
            assert "both" not in found
            assert found["notes"] == [f"{path} names the environment line, not its settings."]

    def test_the_old_form_names_seeds_and_is_paired_where_they_are_ours(self, make: Make, tmp_path: Path) -> None:
        own = json.loads((make("one", right) / "results.json").read_text())
        found = compare_against(own, read_side(self.write(tmp_path, self.OLD)))
        assert (found["both"], found["only_policy"], found["only_other"], found["neither"]) == (0, 10, 10, 0)
        assert (found["decision"], found["test"]) == ("not told apart", "McNemar, exact")
        assert found["notes"] == [f"{tmp_path / 'eval_info.json'} does not name its environment."]
        other = {**self.OLD, "per_episode": [{**row, "seed": row["seed"] + 1} for row in self.OLD["per_episode"]]}
        assert compare_against(own, read_side(self.write(tmp_path, other)))["test"] == "Boschloo, exact"
        unseeded = {**self.OLD, "per_episode": [{**row, "seed": None} for row in self.OLD["per_episode"]]}
        assert compare_against(own, read_side(self.write(tmp_path, unseeded)))["test"] == "Boschloo, exact"

    def test_another_environment_is_refused(self, make: Make, tmp_path: Path) -> None:
        own = json.loads((make("one", right) / "results.json").read_text())
        task = {**self.NEW["per_task"][0], "task_group": "libero_10"}
        with pytest.raises(UsageError, match=r"eval_info.json is of libero_10, the rollout of line"):
            compare_against(own, read_side(self.write(tmp_path, {"per_task": [task]})))

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ([], "cannot be read: it is no JSON object"),
            ({}, "KeyError: 'per_task'"),
            ({"per_task": [{"task_group": "x"}]}, "KeyError: 'metrics'"),
            ({"per_task": [{"task_group": "x", "metrics": {"successes": [0.5]}}]}, "a success is 0.5, neither"),
            ({"per_task": []}, "holds no episode"),
            ({"per_episode": [{"success": "yes"}]}, "a success is 'yes'"),
        ],
    )
    def test_what_is_no_such_file(self, tmp_path: Path, document: Any, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            read_side(self.write(tmp_path, document))

    def test_ours_is_read_back_with_its_seeds(self, make: Make, tmp_path: Path) -> None:
        folder = make("one", right)
        own = json.loads((folder / "results.json").read_text())
        write_eval_info(tmp_path, own, "video.mp4")
        assert compare_against(own, read_side(tmp_path))["both"] == 10
        written = eval_info(own)
        assert [task["instruction"] for task in written["per_task"]] == [
            "drive to the left end", "drive to the right end",
        ]  # fmt: skip
        assert written["overall"]["pc_success"] == 50.0
        assert written["overall"]["avg_sum_reward"] is None


def test_robostats_never_pairs_other_settings(make: Make) -> None:
    own = json.loads((make("one", right) / "results.json").read_text())
    line = json.loads(robostats_lines(own)[3])
    assert (line["scenario_id"], line["scenario_spec"]) == (
        "line/default settings/3", ["'line'", "'default settings'", "seed"],
    )  # fmt: skip
    assert (line["policy_id"], line["task_id"], line["success"]) == ("runs/one", "drive to the right end", True)
    assert line["protocol"]["extra"]["render.shadows"] is True
    other = {**own, "env_settings": {"reach": "0.6"}, "swap_instruction": True}
    assert json.loads(robostats_lines(other)[3])["scenario_id"] == "line/reach=0.6/instruction swapped/3"
