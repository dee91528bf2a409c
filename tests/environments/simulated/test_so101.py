"""SO-101: LeRobot's units, scenes that a seed repeats, images where they are asked for, an expert that succeeds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.common.keys import STATE, image_key
from smolpilot.contracts import Environment
from smolpilot.datasets import open_dataset
from smolpilot.environments import make_environment
from smolpilot.environments.simulated.so101 import make_so101
from smolpilot.environments.simulators.so101 import So101Simulation
from smolpilot.environments.simulators.so101.table import JOINTS
from smolpilot.environments.simulators.so101.tasks import TASKS
from smolpilot.environments.where import Where
from smolpilot.environments.worker_process import WorkerProcess
from smolpilot.robots import RobotProfile

SMALL: dict[str, Any] = {"width": 64, "height": 48}


@pytest.fixture(scope="module")
def world() -> Iterator[So101Simulation]:
    """One simulation for all kinds of tasks: compiled once."""
    made = So101Simulation(task=TASKS, **SMALL)
    yield made
    made.close()


def played(world: So101Simulation, seed: int, instruction: str | None = None, noise: float = 0.0) -> dict[str, Any]:
    """How the expert's episode ended."""
    world.reset(seed, instruction)
    expert, rng, outcome = world.expert(seed), np.random.default_rng(seed), None
    while outcome is None:
        outcome = world.act(expert.action() + noise * np.array(world.NOISE) * rng.normal(size=6))
    return outcome


def test_state_and_action_are_lerobots(world: So101Simulation) -> None:
    """Degrees with zero in the middle of the range, the gripper from 0 (closed) to 100 (open)."""
    world.reset(3)
    joint, profile = world.mujoco.mjtObj.mjOBJ_JOINT, RobotProfile.load("so101")
    assert [one.name for one in profile.action_joints] == list(JOINTS)
    for place, name in enumerate(JOINTS):
        low, high = world.model.jnt_range[world.mujoco.mj_name2id(world.model, joint, name)]
        at = world.model.jnt_qposadr[world.mujoco.mj_name2id(world.model, joint, name)]
        for angle in (low, high, (low + high) / 2):
            world.data.qpos[at] = angle
            state, _ = world.observe(images=False)
            wanted = 100 * (angle - low) / (high - low) if name == "gripper" else np.degrees(angle)
            assert state[place] == pytest.approx(wanted, abs=1e-4)
            limits = profile.action_joints[place].position_limits
            assert limits is not None
            assert limits[0] - 0.01 <= state[place] <= limits[1] + 0.01, (
                "the profile's limits are the model's, or wider"
            )


def test_the_arm_goes_where_it_is_told(world: So101Simulation) -> None:
    world.reset(0)
    target = np.array([20.0, -60.0, 40.0, 70.0, -15.0, 60.0])
    for _ in range(45):
        world.act(target)
    state, _ = world.observe(images=False)
    np.testing.assert_allclose(state, target, atol=1.5)
    world.reset(0)
    for _ in range(45):
        world.act([500.0, -60.0, 40.0, 70.0, -15.0, 60.0])
    assert world.observe(images=False)[0][0] == pytest.approx(110.0, abs=1.5), "the end of its range, as a servo has it"


def test_a_seed_repeats_scene_look_and_episode(world: So101Simulation) -> None:
    first = world.reset(5)
    state, images = world.observe()
    world.reset(6)
    other = world.observe()[1]
    assert world.reset(5) == first
    again, same = world.observe()
    np.testing.assert_array_equal(again, state)
    for camera in ("front", "wrist"):
        np.testing.assert_array_equal(same[camera], images[camera])
        assert (other[camera] != images[camera]).any()
        assert images[camera].shape == (48, 64, 3)
    assert played(world, 5) == played(world, 5)


def test_a_plain_look_is_the_same_for_every_seed() -> None:
    with closing(So101Simulation(task=("touch",), randomize=False, **SMALL)) as plain:
        colors = []
        for seed in (1, 2):
            plain.reset(seed)
            colors.append(plain.observe()[1]["front"][-1, 0])  # a corner of the table
        assert colors[0].tolist() == colors[1].tolist()


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds_under_each_instruction_of_a_scene(task: str) -> None:
    with closing(So101Simulation(task=(task,), things=3)) as world:
        done = []
        for seed in range(4):
            info = world.reset(seed)
            assert info["groups"]["task"] == task
            for text in (info["instruction"], *info["alternatives"][:1]):
                outcome = played(world, seed, text)
                done.append(outcome["success"])
                assert not outcome["success"] or text in outcome["reached"]
        assert sum(done) >= 7, f"{sum(done)} of {len(done)}"


def test_it_finds_its_way_back_from_a_push(world: So101Simulation) -> None:
    outcomes = [played(world, seed, noise=0.4) for seed in range(8)]
    assert sum(outcome["success"] for outcome in outcomes) >= 7


def test_an_arm_that_does_nothing_does_nothing(world: So101Simulation) -> None:
    world.reset(2)
    state, _ = world.observe(images=False)
    outcome = None
    while outcome is None:
        outcome = world.act(state)
    assert outcome == {"success": False, "label": "none", "success_at_end": None, "reached": []}


def test_what_the_alternative_asks_for_is_no_success(world: So101Simulation) -> None:
    info = world.reset(1)
    told = info["alternatives"][0]
    world.reset(1, told)
    expert = world.expert(1)
    actions, outcome = [], None
    while outcome is None:
        actions.append(expert.action())
        outcome = world.act(actions[-1])
    assert outcome["success"]
    world.reset(1)
    outcome = None
    while outcome is None:
        outcome = world.act(actions.pop(0) if len(actions) > 1 else actions[0])
    assert (outcome["success"], outcome["label"], outcome["reached"]) == (False, "other", [told])


def test_the_environment_has_the_profile_and_its_cameras() -> None:
    environment = make_environment("so101", {"task": "touch", "colors": "red,blue", "shapes": "cube", "things": "2",
                                             "cameras": "wrist", "width": "64", "height": "48"})  # fmt: skip
    with closing(environment):
        spec = environment.spec
        assert spec.instructions == ("touch the red cube", "touch the blue cube")
        assert (spec.rate, spec.cameras, spec.profile.name) == (30.0, ("wrist",), "so101")
        observation, info = environment.reset(0)
        assert {info.instruction, *info.alternatives} == set(spec.instructions)
        assert observation[image_key("wrist")].shape == (48, 64, 3)
        told, info = environment.reset(0, instruction=info.alternatives[0])
        np.testing.assert_array_equal(told[STATE], observation[STATE])
        np.testing.assert_array_equal(told[image_key("wrist")], observation[image_key("wrist")])
        with pytest.raises(UsageError, match="has no instruction 'dance'"):
            environment.reset(0, instruction="dance")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"things": 5}, "Setting 'things' of the environment 'so101' is 5"),
        ({"colors": ("red",), "shapes": ("cube",)}, "3 things cannot all be different"),
        ({"task": ("stack",), "shapes": ("ball",)}, "3 things cannot all be different"),
        ({"cameras": ("front", "front")}, "is 'front,front'"),
        ({"width": 0}, "Setting 'width' of the environment 'so101' is 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make_so101(**settings)


def test_unknown_names_are_refused_before_anything_is_made() -> None:
    with pytest.raises(UsageError, match="'task' of the environment 'so101'"):
        make_environment("so101", {"task": "dance"})


def test_a_worker_plays_the_same_episode(world: So101Simulation) -> None:
    """In a process without smolpilot, where the files beside the worker import each other."""

    def seen(environment: Environment) -> list[Any]:
        observation, info = environment.reset(4)
        found: list[Any] = [info, observation[image_key("front")].sum()]
        for step in range(10):
            observation, _ = environment.step(np.array([step, -60.0, 40.0, 70.0, 0.0, 20.0]))
        return [*found, observation[STATE].tolist(), observation[image_key("wrist")].sum()]

    with (
        closing(make_so101(("touch",), **SMALL)) as here,
        closing(WorkerProcess.of("so101")) as worker,
        closing(make_so101(("touch",), **SMALL, where=Where(worker))) as there,
    ):
        assert seen(there) == seen(here)


def test_recorded_told_apart_and_rolled_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--env-settings", "colors=red,blue", "shapes=cube", "things=2", "width=64", "height=48"]
    data, out = tmp_path / "data", tmp_path / "out"
    words = ["--env", "so101/touch", "--expert", "--episodes", "4", "--noise", "0.3"]
    assert main(["record", *words, *settings, "--out", str(data)]) == 0
    with closing(open_dataset(data)) as dataset:
        assert dataset.meta.robot_type == "so101"
        assert {dataset.instruction(int(row)) for row in np.flatnonzero(dataset.frame_index == 0)} == {
            "touch the red cube", "touch the blue cube",
        }  # fmt: skip
    capsys.readouterr()
    words = ["rollout", "hold-state", "--env", "so101/touch", *settings, "max_steps=12", "--episodes", "2", "--ungated"]
    assert main([*words, "--no-floors", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["env"], document["env_settings"]["task"], document["episodes"]) == ("so101", "touch", 2)
    assert document["simulation"]["render"]["randomize"] is True
