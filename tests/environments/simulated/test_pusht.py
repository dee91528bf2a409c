"""PushT: what a policy sees, how success is known, nothing printed, and the error where it is not installed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import closing
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
from smolpilot.environments.simulated.pusht import MAX_STEPS, make_pusht
from smolpilot.environments.simulators import pusht
from smolpilot.environments.worker_process import WorkerProcess
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import new_policy, save_bundle


@pytest.fixture(scope="module")
def env() -> Any:
    return make_pusht()


def inner_of(env: Any) -> Any:
    """gym-pusht's own environment."""
    return env.simulation._simulation._env


def test_the_profile_says_what_the_environment_has(env: Any) -> None:
    inner, profile = inner_of(env), RobotProfile.load("pusht")
    assert [joint.position_limits for joint in profile.joints] == [
        (float(low), float(high)) for low, high in zip(inner.action_space.low, inner.action_space.high, strict=True)
    ]
    assert {joint.unit for joint in profile.joints} == {"px"}
    assert (profile.rate, env.spec.rate) == (inner.metadata["render_fps"],) * 2
    assert (env.spec.profile, env.spec.max_steps, MAX_STEPS) == (profile, 300, 300)


def test_a_seed_starts_as_gym_pusht_does(env: Any) -> None:
    observation, info = env.reset(7)
    theirs = gymnasium.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos", disable_env_checker=True)
    seen, _ = theirs.reset(seed=7)
    np.testing.assert_allclose(observation[STATE], seen["agent_pos"], rtol=1e-6)
    assert (observation[image_key("image")] == seen["pixels"]).all()
    for step in range(20):
        action = np.array([100.0 + 10 * step, 300.0 - 5 * step])
        (observation, _), (seen, *_) = env.step(action), theirs.step(action.astype(np.float32))
        np.testing.assert_array_equal(observation[STATE], seen["agent_pos"].astype(np.float32))
        np.testing.assert_array_equal(observation[image_key("image")], seen["pixels"])
    assert (dict(info.groups), info.alternatives) == ({"start": "lower right"}, ())
    assert info.instruction == "Push the T-shaped block onto the T-shaped target."  # LeRobot's dataset, word for word
    assert make_environment("pusht", {"instruction": "push"}).reset(7)[1].instruction == "push"


def test_the_pusher_goes_where_it_is_told_and_the_limit_of_steps_ends_it(env: Any) -> None:
    short = make_pusht(max_steps=12)
    observation, _ = short.reset(1)
    goal = observation[STATE] + np.array([40.0, -30.0])
    outcomes = []
    for _ in range(12):
        observation, outcome = short.step(goal)
        outcomes.append(outcome)
    np.testing.assert_allclose(observation[STATE], goal, atol=1.0)
    assert outcomes[:-1] == [None] * 11
    assert outcomes[-1] is not None
    assert (outcomes[-1].success, outcomes[-1].label) == (False, "timeout")
    assert set(outcomes[-1].facts) == {"coverage", "max_coverage"}


@pytest.mark.parametrize(("turn", "success"), [(0.0, True), (0.5, False)])
def test_success_is_a_block_that_covers_its_target(turn: float, success: bool) -> None:
    env: Any = make_pusht(max_steps=3)
    env.reset(0)
    inner = inner_of(env)
    x, y, angle = inner.goal_pose
    # The angle first: turning moves the block.
    inner.block.angle, inner.block.position = angle + turn, (x, y)
    outcome = None
    while outcome is None:
        _, outcome = env.step([20.0, 20.0])
    assert outcome.success is success
    assert outcome.label == ("success" if success else "timeout")
    assert (outcome.facts["coverage"] > 0.95) is success
    assert outcome.facts["max_coverage"] >= outcome.facts["coverage"]


def test_wrong_settings() -> None:
    with pytest.raises(UsageError, match=r"'width' .*'pusht' is 100000"):
        make_environment("pusht", {"width": "100000"})
    with pytest.raises(UsageError, match=r"'max_steps' .*'pusht' is 0"):
        make_environment("pusht", {"max_steps": "0"})
    with pytest.raises(
        UsageError,
        match=r"Unknown setting 'size' .*\.\nExpected: one of instruction, max_steps, width, height, keypoints",
    ):
        make_environment("pusht", {"size": "96"})


QUIET = """
from smolpilot.environments import make_environment
env = make_environment("pusht")
env.reset(0); env.step([100.0, 100.0]); env.render(); env.close()
"""
MISSING = """
import sys
sys.modules["gym_pusht"] = None
from smolpilot.environments import make_environment
from smolpilot.common.errors import UsageError
try:
    make_environment("pusht")
except UsageError as error:
    print(error)
"""


def run(code: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    # Warnings of other libraries' sources being compiled are none of an environment.
    return done.stdout, done.stderr


def test_nothing_is_printed_and_no_display_is_needed() -> None:
    assert run(QUIET) == ("", "")


def test_without_the_package_one_error_names_the_extra() -> None:
    said, _ = run(MISSING)
    assert said.startswith("The environment 'pusht' needs gym-pusht")
    assert "Fix: install the extra: pip install 'smolpilot[pusht]'; or" in said
    assert said.endswith("smolpilot env install pusht DIR, then --env-python DIR\n")


@pytest.mark.parametrize("camera", ["image", "observation.image"])
def test_a_bundle_of_its_recordings_is_rolled_out_in_it(camera: str, tmp_path: Path) -> None:
    """The camera as this environment calls it, and as LeRobot's dataset does."""
    short = make_pusht(max_steps=6)
    data, names = tmp_path / "data", ["motor_0", "motor_1"]
    with DatasetWriter(data, fps=10, state_names=names, action_names=names, cameras={camera: (96, 96)},
                       robot_type="pusht") as writer:  # fmt: skip
        observation, outcome = short.reset(0)[0], None
        while outcome is None:
            frame = {STATE: observation[STATE], image_key(camera): observation[image_key("image")]}
            writer.add_frame({**frame, TASK: observation[TASK], ACTION: observation[STATE] + 5})
            observation, outcome = short.step(observation[STATE] + 5)
        writer.end_episode()
    policy = new_policy("tiny", meta=read_meta(data), profile=RobotProfile.load("pusht"), device="cpu",
                        overrides={"chunk_size": 4, "n_action_steps": 2, "num_steps": 2})  # fmt: skip
    save_bundle(policy, tmp_path / "bundle")
    out = tmp_path / "out"
    words = ["--env", "pusht", "--env-settings", "max_steps=5", "--episodes", "2", "--video-episodes", "1"]
    assert main(["rollout", str(tmp_path / "bundle"), "--out", str(out), *words, "--device", "cpu"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert (results["episodes"], results["failures"], len(results["by_group"])) == (2, {"timeout": 2}, 2)
    assert [run["steps"] for run in results["runs"]] == [5, 5]
    assert set(results["runs"][0]["facts"]) == {"coverage", "max_coverage"}
    assert results["warnings"] == [], "told what it was trained with, to the full stop"
    assert (out / "video.mp4").is_file()


# Of `state`, `action` and `episode_ends` as the recording has them (float32, float32, int64), BLAKE2b-128.
RECORDING = {
    "state": ((25650, 5), "ab2075ddad8f7f4e1b108ae0ae3fdba9"),
    "action": ((25650, 2), "1795f51727c9e8b91ecf72683d0c0944"),
    "episode_ends": ((206,), "5bae6d251e9f9cdbe68bfe2ddf606dc0"),
    "max_coverage": ((206,), "3a7b590b5db91f6e479ec6213741325f"),
}


def test_what_people_did_is_shipped_as_it_was_recorded() -> None:
    folder = Path(pusht.__file__).parent / "pusht_human"
    with np.load(folder / "states_actions.npz") as stored:
        found = {
            name: (array.shape, hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest())
            for name, array in stored.items()
        }
    assert found == RECORDING
    assert "Copyright (c) 2023 Columbia Artificial Intelligence and Robotics Lab" in (folder / "LICENSE").read_text()


def test_the_recordings_coverage_is_that_of_its_states(env: Any) -> None:
    """Computed once for all, so that a simulation that measures otherwise does not agree with itself."""
    simulation = env.simulation._simulation
    for number in (0, 186):
        begun, recorded = simulation.begin_recorded(number)
        assert begun["groups"]["start"]
        covered = []
        for state in recorded["states"]:
            simulation.reset_to(state)
            covered.append(simulation._env._get_coverage())
        assert max(covered) == pytest.approx(pusht._recording()["max_coverage"][number], abs=1e-6)


@pytest.mark.parametrize("number", [0, 186, 205])
def test_an_episode_begins_where_its_recording_did(number: int, env: Any) -> None:
    """In 186 the block begins within the pusher: from the first state alone its way differs by 17 px."""
    simulation = env.simulation._simulation
    _, recorded = simulation.begin_recorded(number)
    assert recorded["actions"].shape == (len(recorded["states"]), 2)
    off = simulation.where() - recorded["states"][0]
    off[4] = (off[4] + np.pi) % (2 * np.pi) - np.pi  # a recorded angle is one of 0 to 2 pi
    np.testing.assert_allclose(off, np.zeros(5), atol=2e-5)
    found = simulation.replay(number)
    assert found["block_px"] < 1e-4
    assert found["max_coverage"] == pytest.approx(found["recorded_coverage"], abs=1e-6)
    still = simulation.replay(number, np.repeat(recorded["actions"][:1], len(recorded["actions"]), axis=0))
    assert still["block_px"] > 1


def test_a_worker_begins_it_and_gives_what_was_recorded() -> None:
    with closing(WorkerProcess.of("pusht")) as worker:
        worker.ask("make", slot=0, name="pusht", settings={})
        header, arrays = worker.ask("replay", slot=0, number=4)
        assert header["info"]["groups"].keys() == {"start"}
        assert arrays.keys() == {"state", "images.image", "actions", "states"}
        np.testing.assert_allclose(arrays["state"], arrays["states"][0, :2], atol=2e-5)
        _, unseen = worker.ask("replay", slot=0, number=4, images="never")
        assert "images.image" not in unseen
        _, after = worker.ask("act", {"actions": arrays["actions"][:20]}, slot=0)
        np.testing.assert_allclose(after["state"], arrays["states"][20, :2], atol=2e-4)
        with pytest.raises(UsageError, match="There is no recorded episode 206 of PushT"):
            worker.ask("replay", slot=0, number=206)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_state_is_gone_back_to_and_drawn_as_it_was(seed: int, env: Any) -> None:
    """The pusher too: its shape has to be told of a new place before it is drawn there."""
    simulation = env.simulation._simulation
    simulation.reset(seed)
    state, image = simulation.where(), simulation.observe()[1]["image"]
    simulation.reset(seed + 1)
    simulation.reset_to(state)
    np.testing.assert_allclose(simulation.where(), state, atol=1e-9)
    np.testing.assert_array_equal(simulation.observe()[1]["image"], image)
