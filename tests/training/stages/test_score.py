"""A task's score: errors by episode, success where a simulation is, and the text that a stage says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smolpilot.datasets import open_dataset
from smolpilot.environments.tabletop.record import record
from smolpilot.errors import UsageError
from smolpilot.policy import Policy, new_policy
from smolpilot.robots import RobotProfile
from smolpilot.training import TrainOptions
from smolpilot.training.parts import Part, open_parts
from smolpilot.training.sources import Source
from smolpilot.training.stages.plan import Scoring, Simulation, Stage
from smolpilot.training.stages.report import make_document, markdown, tables
from smolpilot.training.stages.score import TaskScore, score_task, simulation_of


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("score") / "red"
    record(path, 6, seed=1, target="red")
    return path


def part_of(path: Path, instruction: str | None = None) -> Part:
    source = Source(path, instruction=instruction, name="red")
    return open_parts(TrainOptions(mixture=(source,), held_out=0.5), [])[0]


@pytest.fixture(scope="module")
def policy(red: Path) -> Policy:
    return new_policy(
        "tiny", meta=open_dataset(red).meta, profile=RobotProfile.load("tabletop"), device="cpu",
        overrides={"chunk_size": 4, "n_action_steps": 4},
    )  # fmt: skip


def test_each_held_out_episode_counts_once_and_success_is_counted_in_the_simulation(red: Path, policy: Policy) -> None:
    part = part_of(red, "go to the red one")
    simulation = Simulation(target="red", colours=("red", "blue"), episodes=3)
    score = score_task(policy, part, Scoring(frames=20), simulation, seed=0)
    assert score.episodes == part.held_out_episodes
    assert score.mae.shape == (3, 3)
    assert score.error.tolist() == pytest.approx(score.mae.mean(axis=1).tolist())
    assert score.success is not None
    assert len(score.success) == 3
    again = TaskScore.from_json(score.to_json())
    assert again.to_json() == score.to_json()


def test_the_simulation_follows_from_the_recording(red: Path, tiny_dataset: Path) -> None:
    stage = Stage("red", red, steps=1)
    found = simulation_of(stage, part_of(red, "another wording"))
    assert found is not None
    assert (found.target, found.colours) == ("red", ("red", "blue"))
    asked = Stage("red", red, steps=1, simulation=Simulation(colours=("red", "green"), episodes=7))
    found = simulation_of(asked, part_of(red))
    assert found is not None
    assert (found.target, found.colours, found.episodes) == ("red", ("red", "green"), 7)
    assert simulation_of(Stage("red", red, steps=1, simulation=False), part_of(red)) is None
    assert simulation_of(Stage("toy", tiny_dataset, steps=1), part_of(tiny_dataset)) is None


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
    # Wilson's interval: 20 of 20 do not prove that it never fails.
    assert success["matrix"][1][1]["interval"] == pytest.approx([0.839, 1.0], abs=1e-3)
    assert success["kept"] == [pytest.approx(3 / 18)]
    assert success["forgetting"][0]["value"] == pytest.approx(0.75)
    assert 0.5 < success["forgetting"][0]["interval"][0] < success["forgetting"][0]["interval"][1] < 0.95
    assert tables(document)[0][0].split(",")[0] == "Action error on held-out episodes (rad)"
    assert "| blue | 15 % (5 to 36) | 100 % (84 to 100) |" in markdown(document)
    assert "| kept of its success | 17 % |" in markdown(document)


def test_an_empty_instruction_is_refused(red: Path) -> None:
    with pytest.raises(UsageError, match="The instruction is empty"):
        open_dataset(red).with_instruction(" ")
