"""ALOHA: gym-aloha's episodes to the last bit, drawn only where asked, and an expert that succeeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.datasets import DatasetWriter, read_meta
from smolpilot.environments import make_environment
from smolpilot.environments.simulated.aloha import INSTRUCTIONS, make_aloha
from smolpilot.environments.simulators.aloha import AlohaSimulation
from smolpilot.environments.where import Where
from smolpilot.environments.worker_process import WorkerProcess
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import new_policy, save_bundle

pytest.importorskip("gym_aloha")
IDS = {
    "transfer_cube": "gym_aloha:gym_aloha/AlohaTransferCube-v0",
    "insertion": "gym_aloha:gym_aloha/AlohaInsertion-v0",
}
FAST: dict[str, Any] = {"shadows": False, "msaa": 0}


@pytest.mark.parametrize("task", ["transfer_cube", "insertion"])
def test_an_episode_is_gym_alohas_to_the_last_bit(task: Any) -> None:
    """With its render settings and contacts: joint angles, reward and image of the same seed and actions."""
    theirs: Any = gymnasium.make(
        IDS[task], obs_type="pixels_agent_pos", max_episode_steps=400, disable_env_checker=True
    )
    ours = make_aloha(task, multiccd=True)
    seen, _ = theirs.reset(seed=7)
    observation, info = ours.reset(7)
    simulation: Any = ours
    expert = simulation.simulation._simulation.expert()
    for step in range(8):
        np.testing.assert_array_equal(observation[STATE], seen["agent_pos"].astype(np.float32))
        if step % 7 == 0:
            np.testing.assert_array_equal(observation[image_key("top")], seen["pixels"]["top"])
        action = expert.action().astype(np.float32)
        seen, *_ = theirs.step(action.astype(np.float64))
        (observation, outcome), images = ours.step(action), None
        assert outcome is None
        assert images is None
    assert info.groups["start"] in {"near left", "near right", "far left", "far right"}
    ours.close()


@pytest.mark.parametrize("task", ["transfer_cube", "insertion"])
@pytest.mark.parametrize("vary", [0.0, 0.2])
def test_the_expert_succeeds(task: str, vary: float) -> None:
    """Fifty of fifty by hand; here a few. gym-aloha as shipped, on MuJoCo 3.8: 13 of 50 and none."""
    simulation = AlohaSimulation(task, **FAST)
    for seed in (3, 1_000_000, 1_000_001):
        simulation.reset(seed)
        expert, outcome = simulation.expert(seed, vary), None
        while outcome is None:
            outcome = simulation.act(expert.action())
        assert outcome["success"], seed
        assert outcome["facts"]["max_reward"] == 4
    simulation.close()


def test_its_expert_plays_behind_the_contract_and_draws_nothing() -> None:
    env: Any = make_aloha(end_on_success=True, **FAST)
    assert env.has_expert
    env.render = env.simulation.render = None
    found = env.demonstrate(3)
    assert (found.outcome.success, found.info.instruction) == (True, INSTRUCTIONS["transfer_cube"])
    assert found.steps < 400
    assert env.reset(3, images="never")[0].keys() == {STATE, TASK}
    with pytest.raises(UsageError, match="has no instruction 'sing'"):
        env.demonstrate(3, instruction="sing")
    env.close()


def test_the_episode_goes_on_after_success_unless_told() -> None:
    steps = {}
    for end in (True, False):
        simulation = AlohaSimulation(end_on_success=end, **FAST)
        simulation.reset(3)
        expert, steps[end], outcome = simulation.expert(), 0, None
        while outcome is None:
            outcome = simulation.act(expert.action())
            steps[end] += 1
        assert outcome["success_at_end"] is (None if end else True)
        simulation.close()
    assert steps[False] == 400
    assert steps[True] < 300  # at the first touch of the left finger


def test_doing_nothing_fails_and_says_how() -> None:
    env = make_aloha(max_steps=5, **FAST)
    observation, _ = env.reset(0)
    outcome = None
    while outcome is None:
        observation, outcome = env.step(observation[STATE])
    assert (outcome.success, outcome.success_at_end, outcome.label) == (False, False, "never_touched")
    assert env.spec.labels["lifted_by_the_right_arm"] == "lifted by the right arm"
    env.close()


def test_actions_beyond_gym_alohas_action_space_pass() -> None:
    """It says -1 to 1; the elbows start at 1.16, and clipping would pull them down."""
    env = make_aloha(max_steps=30, **FAST)
    observation, _ = env.reset(0)
    start = observation[STATE].copy()
    for _ in range(20):
        observation, _ = env.step(start)
    assert observation[STATE][2] == pytest.approx(1.16, abs=0.02)
    assert start[2] > 1.1
    env.close()


def test_render_settings_change_the_images_and_are_told() -> None:
    made = [make_aloha(**settings) for settings in ({}, FAST, {"width": 64, "height": 48, **FAST})]
    images = [env.reset(0)[0][image_key("top")].astype(int) for env in made]
    assert [image.shape for image in images] == [(480, 640, 3), (480, 640, 3), (48, 64, 3)]
    assert 0.1 < np.abs(images[0] - images[1]).mean() < 10
    told: list[Any] = [env.facts["render"] for env in made]  # type: ignore[attr-defined]
    assert [(one["shadows"], one["msaa"], one["width"]) for one in told] == [
        (True, 4, 640), (False, 0, 640), (False, 0, 64)
    ]  # fmt: skip
    for env in made:
        env.close()


@pytest.mark.parametrize("more", [[], ["--jobs", "1"]])
def test_without_a_library_that_draws_it_says_which(more: list[str], tmp_path: Path) -> None:
    """PyOpenGL raises an AttributeError where libOSMesa is missing; the name of none stands for it."""
    words = ["rollout", "hold-state", "--env", "aloha", "--episodes", "1", "--out", str(tmp_path / "out"), *more]
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.abc\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mujoco':\n"
        "            raise AttributeError(\"'NoneType' object has no attribute 'glGetError'\")\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "smolpilot", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "MuJoCo cannot draw by MUJOCO_GL=" in done.stderr
    assert "apt install libegl1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_several_cameras() -> None:
    env = make_aloha(cameras=("top", "angle"), width=64, height=48, **FAST)
    observation, _ = env.reset(0)
    assert env.spec.cameras == ("top", "angle")
    assert (observation[image_key("top")] != observation[image_key("angle")]).any()
    env.close()


def test_in_a_worker_it_is_the_same() -> None:
    settings: Any = {"width": 64, "height": 48, **FAST}
    worker = WorkerProcess.of("aloha")
    here, there = make_aloha(**settings), make_aloha(**settings, where=Where(worker, 3))
    assert here.spec == there.spec
    for env in (here, there):
        env.reset(5)
    actions = np.linspace(0, 0.3, 20 * 14).reshape(20, 14)
    ours, theirs = (env.run(actions, frames=True) for env in (here, there))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(ours.observation[STATE], theirs.observation[STATE])
    np.testing.assert_array_equal(ours.observation[image_key("top")], theirs.observation[image_key("top")])
    np.testing.assert_array_equal(ours.frames, theirs.frames)
    here.close()
    there.close()
    worker.close()


def test_a_bundle_of_the_experts_recordings_is_rolled_out_in_it(tmp_path: Path) -> None:
    """From demonstrations to a rollout in workers, as a user goes; a network this small learns nothing."""
    size: dict[str, Any] = {"width": 64, "height": 48, **FAST}
    simulation = AlohaSimulation(max_steps=20, **size)
    names = [joint.name for joint in RobotProfile.load("aloha").joints]
    with DatasetWriter(tmp_path / "data", fps=50, state_names=names, action_names=names, cameras={"top": (48, 64)},
                       robot_type="aloha") as writer:  # fmt: skip
        for seed in (1, 2):
            simulation.reset(seed)
            expert, outcome = simulation.expert(seed), None
            while outcome is None:
                state, images = simulation.observe()
                action = expert.action().astype(np.float32)
                frame = {STATE: state, ACTION: action, image_key("top"): images["top"]}
                writer.add_frame({**frame, TASK: INSTRUCTIONS["transfer_cube"]})
                outcome = simulation.act(action)
            writer.end_episode()
    simulation.close()
    policy = new_policy("tiny", meta=read_meta(tmp_path / "data"), profile=RobotProfile.load("aloha"), device="cpu",
                        overrides={"chunk_size": 8, "n_action_steps": 4, "num_steps": 2})  # fmt: skip
    save_bundle(policy, tmp_path / "bundle")
    settings = ["--env-settings", "max_steps=6", "width=64", "height=48", "shadows=false", "msaa=0"]
    words = ["--env", "aloha", *settings, "--episodes", "3", "--video-episodes", "1", "--jobs", "2", "--device", "cpu"]
    words += ["--ungated"]  # nobody hands over a cube in 6 steps
    assert main(["rollout", str(tmp_path / "bundle"), "--out", str(tmp_path / "out"), *words]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(run["steps"], run["plans"], run["success_at_end"]) for run in results["runs"]] == [(6, 2, False)] * 3
    assert results["simulation"]["render"]["shadows"] is False
    assert results["simulation"]["packages"]["gym-aloha"] == "0.1.5"
    assert results["warnings"] == ["The environment's gate fails, and was overridden."]
    assert (tmp_path / "out" / "video.mp4").is_file()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "stack"}, "Setting 'task' of the environment 'aloha'.*insertion"),
        ({"cameras": "top,wrist"}, "Setting 'cameras' of the environment 'aloha'"),
        ({"where": "there"}, "Unknown setting 'where'"),
        ({"width": "0"}, "Setting 'width' of the environment 'aloha' is 0"),
        ({"max_steps": "0"}, "Setting 'max_steps' of the environment 'aloha' is 0"),
        ({"msaa": "-1"}, "Setting 'msaa' of the environment 'aloha' is -1"),
    ],
)
def test_wrong_settings(settings: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_environment("aloha", settings)
