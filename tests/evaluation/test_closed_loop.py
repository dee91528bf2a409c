"""Closed loop in a world whose outcome is known: a cart on a line."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from smolpilot.common.errors import CheckpointError, SmolpilotError, UsageError
from smolpilot.common.keys import STATE
from smolpilot.contracts import HISTORY, EpisodeInfo
from smolpilot.evaluation import rollout, write_demo_report, write_rollout_report
from smolpilot.evaluation.rollout.results import Run, read_results, summarize_runs
from smolpilot.robots import Joint, RobotProfile

from .helpers_world import CART, LIMIT, TEXTS, Driver, Line, obedient


def test_an_obedient_policy_succeeds_with_any_instruction() -> None:
    usual = rollout(Driver(obedient), Line, episodes=10, seed=7).document
    assert usual["format"] == "smolpilot-rollout/2"
    assert (usual["env"], usual["successes"], usual["success_rate"]) == ("line", 10, 1.0)
    assert usual["interval"] == pytest.approx([0.6915, 1.0], abs=1e-4)
    assert usual["failures"] == {"other end": 0, "timeout": 0}
    assert usual["mean_steps_to_success"] == 4
    assert [row["seed"] for row in usual["runs"]] == list(range(7, 17))
    assert [row["groups"]["end"] for row in usual["runs"]] == ["right", "left"] * 5
    assert [(row["group"], row["value"], row["episodes"]) for row in usual["by_group"]] == [
        ("end", "left", 5), ("end", "right", 5),
    ]  # fmt: skip
    assert "succeeded in 10 of 10 fresh episodes of line (the cart is at the end that" in usual["text"]
    swapped = rollout(Driver(obedient), Line, episodes=10, seed=7, swap_instruction=True).document
    assert swapped["success_rate"] == 1.0
    assert [row["groups"]["end"] for row in swapped["runs"]] == ["left", "right"] * 5
    assert [row["instruction"] for row in swapped["runs"]] == [TEXTS["left"], TEXTS["right"]] * 5


def test_a_policy_deaf_to_the_instruction_reaches_the_other_end() -> None:
    result = rollout(Driver(lambda text: 1), Line, episodes=9, seed=1).document
    assert (result["successes"], result["failures"]) == (5, {"other end": 4, "timeout": 0})
    assert {row["value"]: row["success_rate"] for row in result["by_group"]} == {"left": 0.0, "right": 1.0}
    assert result["runs"][0].pop("planning_s") > 0
    assert result["runs"][0] == {
        "seed": 1, "instruction": TEXTS["right"], "groups": {"end": "right"}, "label": "there", "success": True,
        "steps": 4, "facts": {"place_m": 1.0}, "success_at_end": True, "plans": 1, "error": "",
        "alternatives": [TEXTS["left"]], "reached": [TEXTS["right"]],
    }  # fmt: skip


def test_running_out_of_time_is_a_failure_of_its_own() -> None:
    result = rollout(Driver(lambda text: 0), Line, episodes=4, seed=1)
    assert result.document["failures"] == {"other end": 0, "timeout": 4}
    assert {run.steps for run in result.runs} == {LIMIT}
    assert result.document["mean_steps_to_success"] is None


def test_what_is_known_of_the_world_is_passed_on() -> None:
    gate = {"verdict": "failed", "text": "no cart arrives", "successes": 1, "episodes": 20, "overridden": True}
    document = rollout(Driver(obedient), Line, episodes=2, gate=gate).document
    assert document["gate"] == gate
    assert document["warnings"] == ["The environment's gate fails, and was overridden."]
    assert rollout(Driver(obedient), Line, episodes=2).document["gate"] is None


def test_time_to_success_is_not_told_where_episodes_go_on_after_it() -> None:
    header = {
        "labels": {},
        "untrained": False,
        "swap_instruction": False,
        "env": "line",
        "goal": "there",
        "max_steps": 9,
    }
    went_on = [Run(seed, "go", success=True, steps=9) for seed in range(3)]
    assert summarize_runs(went_on, header)["mean_steps_to_success"] is None
    assert summarize_runs([*went_on, Run(3, "go", success=True, steps=3)], header)["mean_steps_to_success"] == 7.5


def test_another_wording_is_said_and_the_goal_stays() -> None:
    heard: list[str] = []

    def listen(text: str) -> float:
        heard.append(text)
        return -1.0

    result = rollout(Driver(listen), Line, episodes=2, seed=0, instruction="go").document
    assert set(heard) == {"go"}
    assert [(row["instruction"], row["success"]) for row in result["runs"]] == [("go", True), ("go", False)]


def test_a_policy_that_answers_nan_fails() -> None:
    with pytest.raises(CheckpointError, match="The policy fails: its predictions hold NaN") as caught:
        rollout(Driver(lambda text: float("nan")), Line, episodes=2, seed=0)
    assert caught.value.exit_code == 1


def test_a_policy_that_answers_another_shape_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"policy driver answered 2 observations with .* \[2, 8, 1\]"):
        rollout(Driver(obedient, chunk_size=6), Line, episodes=2, seed=0)


def test_planning_is_batched_and_follows_the_execution_horizon() -> None:
    policy = Driver(lambda text: 0)
    rollout(policy, Line, episodes=60, seed=0)
    assert policy.batches == [50] * 3 + [10] * 3  # 12 steps, 4 a plan, at most 50 side by side
    assert policy.resets == 1
    policy = Driver(lambda text: 0)
    rollout(policy, Line, episodes=5, seed=0, n_action_steps=1)
    assert policy.batches == [5] * 12


def test_each_plan_has_a_seed_of_its_own_whatever_runs_beside_it() -> None:
    many, one = Driver(lambda text: 0), Driver(lambda text: 0)
    rollout(many, Line, episodes=3, seed=5)
    rollout(one, Line, episodes=1, seed=6)
    assert [seeds[1] for seeds in many.seeds] == [seeds[0] for seeds in one.seeds]
    flat = [seed for seeds in many.seeds for seed in seeds]
    assert len(set(flat)) == len(flat) == 9
    assert all(0 <= seed < 2**63 for seed in flat)


def test_a_policy_that_reads_several_observations_gets_one_of_each_step() -> None:
    seen: list[list[float]] = []

    class Reader(Driver):
        def predict(self, observations: Any, **more: Any) -> Any:
            seen.extend([[float(one[STATE][0]) for one in (*o[HISTORY], o)] for o in observations])
            return super().predict(observations, **more)

    rollout(Reader(lambda text: 0.4, n_obs_steps=3), Line, episodes=1, seed=1, n_action_steps=2)
    assert seen[0] == [0.0]
    assert seen[1] == pytest.approx([0.0, 0.1, 0.2])
    assert seen[2] == pytest.approx([0.2, 0.3, 0.4])


def test_all_environments_are_closed_also_after_an_error() -> None:
    made: list[Line] = []

    def make(**settings: Any) -> Line:
        made.append(Line(**settings))
        return made[-1]

    rollout(Driver(obedient), make, episodes=60, seed=0)
    with pytest.raises(SmolpilotError, match="the wheel came off"):
        rollout(Driver(obedient), partial(make, broken=0), episodes=3, seed=0)
    assert len(made) == 53
    assert all(world.closed for world in made)


class TestRefusals:
    def test_a_horizon_beyond_the_chunk(self) -> None:
        with pytest.raises(UsageError, match="execution horizon n_action_steps is 9"):
            rollout(Driver(obedient), Line, n_action_steps=9)

    def test_what_an_environment_raises_names_it_and_the_seed(self) -> None:
        with pytest.raises(
            SmolpilotError,
            match="environment line fails in the episode of seed 3, at step 2: ZeroDivisionError: the wheel came off",
        ) as caught:
            rollout(Driver(obedient), partial(Line, broken=3), episodes=5, seed=0)
        assert caught.value.exit_code == 1

    @pytest.mark.parametrize(
        ("method", "answer", "message"),
        [
            ("reset", lambda *_, **__: None, "fails in the episode of seed 1, at the start: TypeError"),
            (
                "reset",
                lambda *_, **__: ({}, "an info"),
                "breaks its contract .* seed 1, at the start: reset is 'an info'",
            ),
            ("step", lambda *_: ([1.0], None), r"breaks its contract .* seed 1, at step 1: the observation is \[1.0\]"),
            ("step", lambda *_: ({}, True), "breaks its contract .* seed 1, at step 1: step is True"),
            ("render", lambda *_: 1 / 0, "fails in the episode of seed 1, at the start: ZeroDivisionError"),
        ],
    )
    def test_a_wrong_answer_of_an_environment_names_it(
        self, method: str, answer: Any, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Line, method, answer)
        with pytest.raises(SmolpilotError, match=f"environment line {message}"):
            rollout(Driver(obedient), Line, episodes=1, seed=1, video_episodes=1)

    def test_what_a_policy_raises_names_it(self) -> None:
        with pytest.raises(SmolpilotError, match="The policy driver fails: KeyError: 'no such end'") as caught:
            rollout(Driver(lambda text: dict[str, float]()["no such end"]), Line, episodes=1)
        assert caught.value.exit_code == 1

    def test_an_episode_without_an_end(self) -> None:
        with pytest.raises(SmolpilotError, match="line did not end the episode of seed 4 within its own 12 steps"):
            rollout(Driver(obedient), partial(Line, endless=True), episodes=1, seed=4)

    def test_no_alternative_to_swap_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = Line.reset

        def alone(self: Line, seed: int, **more: Any) -> Any:
            observation, info = usual(self, seed, **more)
            return observation, EpisodeInfo(info.instruction)

        monkeypatch.setattr(Line, "reset", alone)
        with pytest.raises(UsageError, match="line has no other instruction for the scene of seed 2"):
            rollout(Driver(obedient), Line, episodes=1, seed=2, swap_instruction=True)
        assert rollout(Driver(obedient), Line, episodes=2, seed=2).document["by_group"] == []

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"action_dim": 2}, r"policy driver .* environment line: its action has 2 values, .* 1 \(place\)"),
            ({"state_dim": 3}, r"its state has 3 values, the environment's 1 \(place\)"),
            ({"action_names": ("elbow",)}, r"its action has 1 values \(elbow\), the environment's 1 \(place\)"),
            ({"cameras": ("top",)}, "reads the camera top; the environment line has none"),
        ],
    )
    def test_a_policy_for_something_else(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            rollout(Driver(obedient, **changes), Line, episodes=1)

    @pytest.mark.parametrize(
        ("name", "unit", "message"),
        [
            ("elbow", "m", r"its state has 1 values \(elbow\), the environment's 1 \(place\)"),
            ("place", "rad", "its state has place in rad, the environment's has it in m"),
            ("place", "unknown", None),
        ],
    )
    def test_a_policy_for_another_robot(self, name: str, unit: Any, message: str | None) -> None:
        joint = Joint(name=name, unit=unit, position_limits=None, velocity_limit=None)
        other = RobotProfile(name="other", description="", rate=5.0, joints=[joint])
        policy = Driver(obedient, profile=other)
        if message is None:
            assert rollout(policy, Line, episodes=1).document["successes"] == 1
            return
        with pytest.raises(UsageError, match=message):
            rollout(policy, Line, episodes=1)


def test_names_as_a_recording_spells_them_fit() -> None:
    for names in (("place.pos",), ("joint_0",), ()):
        assert rollout(Driver(obedient, action_names=names), Line, episodes=1).document["successes"] == 1
    assert CART.action_joints[0].name == "place"


def test_report_and_video(tmp_path: Path) -> None:
    result = rollout(Driver(obedient), Line, episodes=8, seed=0, video_episodes=6)
    write_rollout_report(tmp_path, result)
    document = read_results(tmp_path)
    assert document == json.loads((tmp_path / "results.json").read_text())
    assert document["success_rate"] == 1.0
    content = (tmp_path / "video.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # the index first: plays while it loads
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(images) == 1 + 4 + 8  # start, four steps, 1.5 s at 5 frames a second
    assert images[0].shape == (2 * 112, 3 * 72, 3)
    red, green, _ = images[-1][2, 2].astype(int)
    assert green > red + 50  # the border of a success
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:video/mp4;base64," in page
    for text in ("drive to the right end", "By end", "ran out of time", "went to the other end", "place m"):
        assert text in page
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == [f"episode_{seed}.mp4" for seed in range(6)]
    assert not re.search(r"""(src|href|poster)=["']https?:""", page)


def test_a_report_without_groups_has_no_table_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Line.reset
    monkeypatch.setattr(Line, "reset", lambda self, seed: (usual(self, seed)[0], EpisodeInfo(TEXTS["left"])))
    write_rollout_report(tmp_path, rollout(Driver(lambda text: 0), Line, episodes=2, seed=0))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search("<h3>.*By ", page)
    assert not (tmp_path / "video.mp4").exists()
    assert not (tmp_path / "videos").exists()
    assert page.count("<td>12</td>") == 4  # in the list of failures and in that of all episodes


def test_demo_report_joins_all_parts(tmp_path: Path, dataset: Any, make_policy: Any) -> None:
    from smolpilot.evaluation import evaluate, write_eval_report

    folders = {name: tmp_path / name for name in ("eval", "right", "untrained")}
    for folder in folders.values():
        folder.mkdir()
    evaluation = evaluate(make_policy(), dataset)
    write_eval_report(folders["eval"], evaluation.scored, evaluation.document)
    right = rollout(Driver(obedient), Line, episodes=4, seed=0, video_episodes=2)
    write_rollout_report(folders["right"], right)
    lost = rollout(Driver(lambda text: 0), Line, episodes=4, seed=0, untrained=True)
    assert lost.document["text"].startswith("The untrained policy succeeded in 0 of 4")
    write_rollout_report(folders["untrained"], lost)
    metrics = tmp_path / "metrics.jsonl"
    lines: list[dict[str, Any]] = [
        {"step": s, "kind": "train", "loss": 1 / s, "samples_per_s": 10.0} for s in range(1, 60)
    ]
    lines.append({"step": 59, "kind": "validation", "score": 0.1, "unit": "rad"})
    metrics.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 60, "ki')
    out = write_demo_report(
        tmp_path / "report.html",
        eval_dir=folders["eval"],
        rollouts={"right instruction": folders["right"], "untrained weights": folders["untrained"]},
        train_metrics_path=metrics,
        commands=["smolpilot record --out demo"],
    )
    page = out.read_text(encoding="utf-8")
    assert page.count("data:video/mp4;base64,") == 1
    assert page.count("data:image/jpeg;base64,") == 1  # its poster
    plots = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert {"training_loss", "held_out_error", "success", "error_by_joint", "error_by_step", "latency"} == plots
    for text in ("100 %", "Loss 1 at step 1", "Untrained weights", "smolpilot record", "not told apart from"):
        assert text in page
    assert "Untrained weights: success in 0\xa0% of 4 episodes" in page
    assert "ran out of time in 4" in page
    with pytest.raises(UsageError, match=r"no readable results\.json"):
        write_demo_report(tmp_path / "x.html", eval_dir=folders["eval"], rollouts={"right": tmp_path})


def test_results_of_the_first_format_are_read(tmp_path: Path, dataset: Any, make_policy: Any) -> None:
    from smolpilot.evaluation import evaluate, write_eval_report

    def row(**more: Any) -> dict[str, Any]:
        return {"success_rate": 0.5, "interval": [0.1, 0.9], **more}

    old = {
        "format": "smolpilot-rollout/1", "env": "shelf", "env_settings": {}, "seed": 3, "swap_instruction": False,
        "untrained": False, "execution_horizon": 4, "chunk_size": 8, "video_episodes": 0, "text": "as it was",
        "mean_steps_to_success": 9.0, **row(episodes=2, successes=1, reached={"named": 1, "other": 0, "none": 1}),
        "by_shape": [{"shape": "cube", **row(episodes=2, successes=1, reached={"named": 1, "other": 0, "none": 1})}],
        "runs": [
            {"seed": 3, "instruction": "take it", "named": "cube", "reached": "cube", "success": True, "steps": 9},
            {"seed": 4, "instruction": "take it", "named": "cube", "reached": None, "success": False, "steps": 50},
        ],
    }  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(old))
    found = read_results(tmp_path)
    assert found["failures"] == {"other": 0, "none": 1}
    assert [(one["group"], one["value"], one["successes"]) for one in found["by_group"]] == [("shape", "cube", 1)]
    assert [(run["label"], run["groups"]) for run in found["runs"]] == [
        ("named", {"shape": "cube"}), ("none", {"shape": "cube"}),
    ]  # fmt: skip
    evaluation = evaluate(make_policy(), dataset, latency=False)
    (tmp_path / "eval").mkdir()
    write_eval_report(tmp_path / "eval", evaluation.scored, evaluation.document)
    page = write_demo_report(tmp_path / "page.html", eval_dir=tmp_path / "eval", rollouts={"before": tmp_path})
    assert "Before: success in 50\xa0% of 2 episodes" in page.read_text(encoding="utf-8")
    del old["runs"][0]["named"]
    (tmp_path / "results.json").write_text(json.dumps(old))
    with pytest.raises(UsageError, match=r"no readable results\.json"):
        read_results(tmp_path)


def test_an_environment_may_write_into_its_action(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Line.step

    def careless(self: Line, action: Any) -> Any:
        answer = usual(self, action)
        action *= 0
        return answer

    monkeypatch.setattr(Line, "step", careless)
    assert rollout(Driver(obedient), Line, episodes=2, seed=0).document["successes"] == 2


def test_pictures_are_kept_of_the_first_episodes_only() -> None:
    result = rollout(Driver(obedient), Line, episodes=3, seed=0, video_episodes=2)
    assert [len(run.images) for run in result.runs] == [5, 5, 0]
    assert result.document["video_episodes"] == 2
    assert result.runs[0].images[0].dtype == np.uint8
