"""A task's score: errors by episode, success where a simulation is, and the text that a stage says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.environments import shipped
from smolpilot.training.data.run_datasets import RunDataset, open_datasets
from smolpilot.training.options.sources import Source
from smolpilot.training.stages.plan import Plan, Scoring, Simulation, Stage
from smolpilot.training.stages.score import (
    Scale,
    TaskScore,
    check_references,
    check_simulation,
    open_reference,
    score_task,
    simulation_of,
)
from smolpilot.training.stages.stages_report import make_document, markdown, tables

from ...evaluation.helpers_world import CART, Driver, Line, obedient


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shipped.SHIPPED, "line", "tests.evaluation.helpers_world:Line")


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drives of a cart to the right end of its line."""
    path = tmp_path_factory.mktemp("score") / "right"
    size = {"top": (32, 32)}
    with DatasetWriter(path, fps=5, state_names=["place"], action_names=["place"], cameras=size) as writer:
        for episode in range(6):
            for step in range(6):
                own = np.array([0.2 * step + 0.01 * episode], dtype=np.float32)
                frame = {STATE: own, ACTION: own + np.float32(0.2), TASK: "drive to the right end"}
                writer.add_frame({**frame, image_key("top"): np.full((32, 32, 3), 20 * step, dtype=np.uint8)})
            writer.end_episode()
    return path


def part_of(path: Path, instruction: str | None = None) -> RunDataset:
    source = Source(path, instruction=instruction, name="right")
    return open_datasets([source], held_out=0.5, seed=0, notes=[])[0]


def scale_of(part: RunDataset) -> Scale:
    return Scale(CART, part.meta.statistics)


def test_each_held_out_episode_counts_once_and_success_is_counted_in_the_environment(drives: Path) -> None:
    part = part_of(drives, "go there")
    simulation = Simulation("line", {"reach": 0.5}, "drive to the right end", episodes=3, seed=1)
    policy = Driver(obedient, profile=CART)
    score = score_task(policy, part, Scoring(frames=20), simulation, scale_of(part), seed=0)
    assert score.episodes == part.held_out_episodes
    assert score.mae.shape == (3, 1)
    assert score.error.tolist() == pytest.approx(score.mae.mean(axis=1).tolist())
    assert (score.unit, score.joints, score.joint_units) == ("m", ["place"], ["m"])
    assert score.success == [True, False, True]  # seed 2 wants the left end
    again = TaskScore.from_json(score.to_json())
    assert again.to_json() == score.to_json()


def test_a_reference_is_opened_for_the_robot_of_the_stages(drives: Path) -> None:
    part = part_of(drives)
    held = open_reference("hold-state", part, scale_of(part), "cpu")
    assert held.spec.profile == CART
    score = score_task(held, part, Scoring(frames=20), None, scale_of(part), seed=0)
    expected = np.mean([0.2 * (h + 1) for step in range(6) for h in range(6 - step)])  # what is left of each episode
    assert score.error.tolist() == pytest.approx([expected] * 3, rel=1e-3)
    check_references(Plan((), evaluation=Scoring(against=("hold-state",))), part, scale_of(part))
    with pytest.raises(UsageError, match=r"evaluation\.against, hold-stat: .*no policy goes by that name"):
        check_references(Plan((), evaluation=Scoring(against=("hold-stat",))), part, scale_of(part))


def test_the_simulation_follows_from_the_recording(drives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, part = Stage("right", drives, steps=1), part_of(drives, "another wording")
    assert simulation_of(stage, part) is None  # nobody knows this robot
    asked = dataclasses.replace(stage, simulation=Simulation(episodes=7))
    with pytest.raises(UsageError, match="Stage right: its simulation names no environment"):
        simulation_of(asked, part)

    def known(robot_type: str | None, texts: list[str]) -> dict[str, float] | None:
        return {"reach": 0.5} if texts == ["drive to the right end"] else None

    monkeypatch.setattr(Line, "for_recording", known, raising=False)
    assert simulation_of(stage, part) == Simulation("line", {"reach": 0.5}, "another wording")
    assert simulation_of(asked, part_of(drives)) == Simulation("line", {"reach": 0.5}, episodes=7)
    named = dataclasses.replace(stage, simulation=Simulation("line", {"endless": False}, "go"))
    assert simulation_of(named, part) == Simulation("line", {"reach": 0.5, "endless": False}, "go")
    elsewhere = dataclasses.replace(stage, simulation=Simulation("pusht"))
    assert simulation_of(elsewhere, part) == Simulation("pusht", {}, "another wording")
    assert simulation_of(dataclasses.replace(stage, simulation=False), part) is None


@pytest.mark.parametrize(
    ("simulation", "message"),
    [
        (Simulation("lyne"), "Stage right: Unknown environment 'lyne'"),
        (Simulation("line", {"raech": 1}), "Stage right: Unknown setting 'raech'"),
        (Simulation("tabletop"), "Stage right: .*does not fit the environment tabletop: its state has 1 values"),
    ],
)
def test_an_environment_that_does_not_fit_is_found_before_training(
    drives: Path, simulation: Simulation, message: str
) -> None:
    stage = Stage("right", drives, steps=1, simulation=simulation)
    with pytest.raises(UsageError, match=message):
        check_simulation(stage, part_of(drives), CART)
    check_simulation(dataclasses.replace(stage, simulation=Simulation("line")), part_of(drives), CART)


def test_a_report_with_success() -> None:
    def score(name: str, error: float, hits: int) -> TaskScore:
        mae = np.full((4, 2), error)
        success = [True] * hits + [False] * (20 - hits)
        return TaskScore(name, [0, 1, 2, 3], mae, mae.mean(axis=1), "rad", ["a", "b"], ["rad", "rad"], success)

    scores = [[score("red", 0.1, 18)], [score("red", 0.4, 3), score("blue", 0.1, 20)]]
    facts = {"dataset": "d", "dataset_fingerprint": "f", "trained_episodes": [0], "held_out_episodes": [1], "steps": 9,
             "lr": 1e-3, "replay": [1.0], "attempt": 1}  # fmt: skip
    document = make_document(scores, [facts | {"name": name} for name in ("red", "blue")], 200)
    success = document["success"]
    assert success["matrix"][1][0]["value"] == 0.15
    # The exact interval: 20 of 20 do not prove that it never fails.
    assert success["matrix"][1][1]["interval"] == pytest.approx([0.832, 1.0], abs=1e-3)
    assert success["kept"] == [pytest.approx(3 / 18)]
    assert success["forgetting"][0]["value"] == pytest.approx(0.75)
    assert 0.5 < success["forgetting"][0]["interval"][0] < success["forgetting"][0]["interval"][1] < 0.95
    assert tables(document)[0][0].split(",")[0] == "Action error on held-out episodes (rad)"
    assert "| blue | 15 % (3 to 38) | 100 % (83 to 100) |" in markdown(document)
    assert "| kept of its success | 17 % |" in markdown(document)
    beside = [{"hold-state": score("red", 0.8, 0)}, {"hold-state": score("blue", 0.9, 2), "act": score("blue", 0.2, 9)}]
    document = make_document(scores, [facts | {"name": name} for name in ("red", "blue")], 200, beside)
    text = markdown(document)
    assert "| hold-state (to compare) | 0.800 (0.800 to 0.800) | 0.900 (0.900 to 0.900) |" in text
    assert "| act (to compare) |  | 0.200 (0.200 to 0.200) |" in text
    assert "| act (to compare) |  | 45 % (23 to 68) |" in text
    assert document["references"][1]["success"][0] is None


def test_an_empty_instruction_is_refused(drives: Path) -> None:
    with pytest.raises(UsageError, match="The instruction is empty"):
        open_dataset(drives).with_instruction(" ")
