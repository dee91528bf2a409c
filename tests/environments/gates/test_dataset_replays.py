"""A dataset's own actions in its simulation: they end as they did when recorded, or the gate says that they do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.datasets import DatasetWriter
from smolpilot.environments import make_environment
from smolpilot.environments.gates.dataset_replays import RECORD, check_demonstrations
from smolpilot.environments.tabletop.scripted_expert import ScriptedExpert

type Episode = tuple[str, npt.NDArray[Any]]  # instruction, actions [T, A]


def write(path: Path, episodes: Sequence[Episode], record: dict[str, Any] | None) -> Path:
    """A dataset of these actions with a camera that saw nothing, and what it says of its simulation."""
    names = [f"joint_{number}" for number in range(episodes[0][1].shape[1])]
    with DatasetWriter(path, fps=10, state_names=names, action_names=names, cameras={"c": (16, 16)},
                       robot_type="x") as writer:  # fmt: skip
        for text, actions in episodes:
            for action in actions.astype(np.float32):
                image = np.zeros((16, 16, 3), np.uint8)
                writer.add_frame({STATE: action, ACTION: action, image_key("c"): image, TASK: text})
            writer.end_episode()
    if record is not None:
        (path / "meta" / RECORD).write_text(json.dumps(record))
    return path


@pytest.fixture(scope="module")
def cubes() -> list[Episode]:
    """What ALOHA's expert does from the seeds 5 and 6, without the pause at the end."""
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")
    from smolpilot.environments.simulators.aloha import AlohaSimulation

    simulation, found = AlohaSimulation(), []
    for seed in (5, 6):
        simulation.reset(seed)
        expert, actions, outcome = simulation.expert(seed), [], None
        while outcome is None:
            actions.append(expert.action())
            outcome = simulation.act(actions[-1])
        assert outcome["success"]
        found.append(("Transfer the cube.", np.stack(actions[:395])))
    simulation.close()
    return found


@pytest.fixture(scope="module")
def scenes() -> list[Episode]:
    """What the tabletop's expert does: two episodes of one scene, one for each of its blocks."""
    world: Any = make_environment("tabletop")
    _, info = world.reset(4)
    expert, found = ScriptedExpert(), []
    for text in (info.instruction, *info.alternatives):
        world.reset(4, instruction=text)
        actions, outcome = [], None
        while outcome is None:
            actions.append(expert.action(world._env))
            _, outcome = world.step(actions[-1])
        found.append((text, np.stack(actions)))
    assert len(found) == 2
    return found


def people(*numbers: int) -> list[Episode]:
    """Recorded episodes of PushT."""
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
    simulation: Any = make_environment("pusht")
    return [("Push.", simulation.simulation._simulation.begin_recorded(number)[1]["actions"]) for number in numbers]


def test_cubes_are_handed_over_again(cubes: list[Episode], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"env": "aloha", "settings": {}, "seeds": [5, 6], "noise": 0.0, "vary": 0.2, "successes": [True, True],
              "simulation": {"physics": {"mujoco": "3.7.0"}, "packages": {"gym-aloha": "0.1.5"}}}  # fmt: skip
    data = write(tmp_path / "cubes", cubes, record)
    assert main(["env", "check", "aloha", "--demonstrations", str(data), "--jobs", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["successes"], found["episodes"]) == ("passed", 2, 2)
    assert f"Replaying {data} in aloha succeeds in 2 of 2 episodes" in found["text"]
    assert "Recorded with mujoco '3.7.0', now '3.8.1'." in found["text"]
    (data / "meta" / RECORD).write_text(json.dumps({**record, "seeds": [5, 7]}))
    assert main(["env", "check", "aloha", "--demonstrations", str(data)]) == 1
    said = capsys.readouterr().out
    assert "succeeds in 1 of 2 episodes, below 95 %: no score of a policy means anything" in said
    assert "failed: episode 1\n" in said


def test_an_episode_that_failed_when_it_was_recorded_has_to_fail_again(cubes: list[Episode], tmp_path: Path) -> None:
    still = ("Transfer the cube.", np.repeat(cubes[0][1][:1], 20, axis=0))
    record = {"env": "aloha", "seeds": [5, 6], "successes": [True, False]}
    gate = check_demonstrations("aloha", {}, write(tmp_path / "one", [cubes[0], still], record))
    assert (gate.verdict, gate.successes) == ("passed", 2)
    assert "ends as it was recorded in 2 of 2 episodes" in gate.text
    assert check_demonstrations("aloha", {"max_steps": 100}, tmp_path / "one").failed_seeds == [0]


def test_an_environment_in_this_process(scenes: list[Episode], tmp_path: Path) -> None:
    """The dataset's instruction says which of the scene's two goals an episode went to."""
    data = write(tmp_path / "scenes", scenes, {"env": "tabletop", "seeds": [4, 4]})
    told: list[int] = []
    gate = check_demonstrations("tabletop", {}, data, progress=lambda what, done, total: told.append(done))
    assert (gate.verdict, gate.successes, told) == ("passed", 2, [1, 2])
    swapped = [(scenes[1 - place][0], actions) for place, (_, actions) in enumerate(scenes)]
    data = write(tmp_path / "swapped", swapped, {"env": "tabletop", "seeds": [4, 4]})
    assert check_demonstrations("tabletop", {}, data).failed_seeds == [0, 1]
    assert check_demonstrations("tabletop", {}, data, episodes=1).episodes == 1


def test_people_at_pusht(tmp_path: Path) -> None:
    data = write(tmp_path / "people", people(3, 9), {"env": "pusht", "settings": {"width": 64}, "recorded": [3, 9]})
    gate = check_demonstrations("pusht", {}, data)
    assert (gate.verdict, gate.successes) == ("replay-exact", 2)
    assert gate.simulation["render"]["width"] == 64
    (data / "meta" / RECORD).write_text(json.dumps({"env": "pusht", "recorded": [3, 10]}))
    assert check_demonstrations("pusht", {}, data).failed_seeds == [1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, r"does not say how its episodes begin, so they cannot be replayed: it has no meta/smolpilot_simulation"),
        ({"env": "aloha", "seeds": [1, 2]}, "was recorded in the environment aloha, not in tabletop"),
        ({"env": "tabletop", "seeds": [1, 2], "noise": 0.05}, "with noise 0.05: its actions are the expert's"),
        ({"env": "tabletop", "seeds": [1]}, "has 1 seeds and 2 successes, the dataset 2 episodes"),
        ({"env": "tabletop"}, "has 0 seeds"),
        ({"env": "tabletop", "recorded": [1, 2]}, "names the recorded episode 1 of tabletop"),
        ({"env": "tabletop", "seeds": ["first", 2]}, "seeds.0: .*found 'first'"),
        ({"seeds": [1, 2]}, "env: Field required"),
    ],
)
def test_what_cannot_be_replayed(
    record: dict[str, Any] | None, message: str, scenes: list[Episode], tmp_path: Path
) -> None:
    data = write(tmp_path / "data", scenes, record)
    with pytest.raises(UsageError, match=message):
        check_demonstrations("tabletop", {}, data)


def test_noise_that_the_actions_have_is_none(scenes: list[Episode], tmp_path: Path) -> None:
    record = {"env": "tabletop", "seeds": [4, 4], "noise": 0.05, "executed": True}
    assert check_demonstrations("tabletop", {}, write(tmp_path / "data", scenes, record)).verdict == "passed"


@pytest.mark.parametrize(
    ("make", "record", "message"),
    [
        (lambda: people(3), {"env": "pusht", "recorded": [206]}, "names the recorded episode 206 of pusht"),
        (lambda: [("x", np.zeros((4, 3)))], {"env": "pusht", "seeds": [1]}, "have 3 values, .* pusht 2"),
    ],
)
def test_what_does_not_fit_pusht(
    make: Callable[[], list[Episode]], record: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
    with pytest.raises(UsageError, match=message):
        check_demonstrations("pusht", {}, write(tmp_path / "data", make(), record))


def test_no_dataset_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "check", "tabletop", "--demonstrations", str(tmp_path / "none")]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said


def test_a_record_that_is_no_json(scenes: list[Episode], tmp_path: Path) -> None:
    data = write(tmp_path / "data", scenes, None)
    (data / "meta" / RECORD).write_text("{")
    with pytest.raises(UsageError, match="smolpilot_simulation\\.json cannot be read"):
        check_demonstrations("tabletop", {}, data)
