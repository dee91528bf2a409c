"""Meta-World: names, texts and settings; recorded, merged, gated and rolled out in a stand-in for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.datasets import open_dataset
from smolpilot.datasets.simulation_record import SimulationRecord
from smolpilot.environments import make_environment
from smolpilot.environments.demonstrations.recorder import Expert, Stage
from smolpilot.environments.making import checked_settings
from smolpilot.environments.simulated.metaworld import make_metaworld
from smolpilot.environments.simulated.metaworld_texts import TEXTS
from smolpilot.environments.simulators import metaworld as simulator
from smolpilot.environments.simulators.metaworld import TASKS, full_name
from smolpilot.environments.where import Where
from smolpilot.environments.worker_process import WorkerProcess, interpreter
from smolpilot.robots import RobotProfile

from .helpers_metaworld import stand_in

SMALL = ["--env-settings", "width=32", "height=24", "shadows=false"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(tmp_path_factory.mktemp("stand_in"))


def told(python: Path, **settings: Any) -> str:
    """What a policy is told in an environment with these settings."""
    worker = WorkerProcess.of("metaworld", python)
    try:
        return make_metaworld(**settings, where=Where(worker, 0)).spec.instructions[0]
    finally:
        worker.close()


def test_each_of_the_fifty_tasks_has_a_short_text_of_its_own() -> None:
    assert set(TEXTS) == {full_name(task) for task in TASKS}
    assert len(TASKS) == len(set(TASKS)) == len(set(TEXTS.values())) == 50
    for text in TEXTS.values():
        assert text[0].isupper()
        assert text.endswith(".")
        assert text.count(".") == 1
        assert len(text.split()) <= 12


def test_a_task_is_named_with_or_without_its_version() -> None:
    for name in ("drawer-close", "drawer-close-v3"):
        assert checked_settings("metaworld", {"task": name}) == {"task": "drawer-close-v3"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "drawer-clos"}, r"Setting 'task' .* is 'drawer-clos'\.[\s\S]*Did you mean 'drawer-close'\?"),
        ({"task": "drawer-close-v2"}, r"Setting 'task' .* is 'drawer-close-v2'"),
        ({"cameras": "corner2,wrist"}, "Setting 'cameras' of the environment 'metaworld'"),
        ({"wording": "mine"}, "Setting 'wording' of the environment 'metaworld'"),
        ({"where": "there"}, "Unknown setting 'where'"),
    ],
)
def test_settings_that_cannot_be(settings: Mapping[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_environment("metaworld", settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 0}, "Setting 'width' of the environment 'metaworld' is 0"),
        ({"max_steps": 0}, "Setting 'max_steps' of the environment 'metaworld' is 0"),
        ({"msaa": -1}, "Setting 'msaa' of the environment 'metaworld' is -1"),
    ],
)
def test_numbers_that_cannot_be(settings: Mapping[str, Any], words: str, python: Path) -> None:
    with pytest.raises(UsageError, match=words):
        told(python, **settings)


def test_without_meta_world_it_says_how_to_get_it() -> None:
    """Not beside smolpilot: its MuJoCo is another one."""
    with pytest.raises(UsageError, match="needs metaworld, which cannot be imported") as caught:
        make_environment("metaworld")
    assert str(caught.value.fix).startswith("give an interpreter that has it: smolpilot env install metaworld DIR")


def test_the_profile_reads_a_place_and_commands_a_motion() -> None:
    profile = RobotProfile.load("metaworld")
    assert [(joint.name, joint.unit) for joint in profile.state_joints] == [
        ("hand_x", "m"), ("hand_y", "m"), ("hand_z", "m"), ("gripper_opening", "normalized")
    ]  # fmt: skip
    # LeRobot's metaworld_mt50 names its actions so, and its state not at all.
    assert [joint.name for joint in profile.action_joints] == ["x", "y", "z", "gripper"]
    assert {joint.position_limits for joint in profile.action_joints} == {(-1.0, 1.0)}


def test_lerobots_wording_is_read_from_its_file_without_importing_it(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(python, task="drawer-close") == "Close the drawer."
    assert told(python, task="drawer-close", wording="lerobot", instruction="Do it.") == "Do it."
    package = tmp_path / "lerobot"
    (package / "envs").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lerobot", raising=False)
    with pytest.raises(UsageError, match=r"LeRobot's texts of Meta-World cannot be read from .*metaworld_config.json"):
        told(python, task="drawer-close", wording="lerobot")
    file = package / "envs" / "metaworld_config.json"
    file.write_text(json.dumps({"TASK_DESCRIPTIONS": {"drawer-close-v3": "Shut it"}}))
    assert told(python, task="drawer-close", wording="lerobot") == "Shut it"
    with pytest.raises(UsageError, match="TASK_DESCRIPTIONS with reach-v3"):
        told(python, task="reach", wording="lerobot")
    monkeypatch.setitem(sys.modules, "lerobot", None)  # as where there is none
    with pytest.raises(UsageError, match=r"but lerobot is not installed\.[\s\S]*instruction=TEXT"):
        told(python, task="drawer-close", wording="lerobot")


def test_lerobot_06_has_a_text_of_each_task() -> None:
    """In a process of its own, where nothing has imported it."""
    pytest.importorskip("lerobot", reason="lerobot is not installed")
    code = (
        "import sys\n"
        "from smolpilot.environments.simulated import metaworld\n"
        "from smolpilot.environments.simulated.metaworld_texts import TEXTS\n"
        "texts = {task: metaworld._lerobot_text(task) for task in TEXTS}\n"
        "print(sum(map(bool, texts.values())), texts['drawer-open-v3'], 'lerobot' in sys.modules, sep=';')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "50;Open a drawer;False"


def test_an_experts_actions_are_recorded_as_they_are_executed(python: Path) -> None:
    """Clipped; the gripper, which wants 3 times what there is, and has no noise."""
    stage = Stage("metaworld", {"task": "reach-v3", "width": 16, "height": 16}, python)
    try:
        shown = stage.demonstrate(4, Expert(noise=0.2))
        again = stage.demonstrate(4, Expert(noise=0.2))
        other = stage.demonstrate(5, Expert())
        frames = stage.frames(other)
    finally:
        stage.close()
    assert shown.success
    np.testing.assert_array_equal(shown.executed, again.executed)
    assert np.abs(shown.actions).max() == 1.0
    assert np.abs(shown.executed[:, :3] - shown.actions[:, :3]).max() > 0.1
    assert set(shown.executed[:, 3]) == set(shown.actions[:, 3]) == {-1.0}
    assert frames[0]["observation.state"].tolist() == pytest.approx([0.0, 0.6, 0.2, 1.0])
    assert (frames[0]["task"], frames[0]["observation.images.corner2"].shape) == (TEXTS["reach-v3"], (16, 16, 3))


def test_the_image_of_a_corner_camera_is_turned_upright(python: Path) -> None:
    worker = WorkerProcess.of("metaworld", python)
    env = make_metaworld(cameras=("corner2", "topview"), width=16, height=16, where=Where(worker, 0))
    observation, _ = env.reset(0)
    env.close()
    worker.close()
    upright, plain = (observation[f"observation.images.{name}"] for name in ("corner2", "topview"))
    np.testing.assert_array_equal(upright, plain[::-1, ::-1])
    assert (plain[0, 0, 0], plain[-1, 0, 0]) == (0, 100)


def test_datasets_of_two_tasks_become_one_with_two_instructions(
    python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("reach", "drawer-close"):
        words = ["record", "--env", f"metaworld/{task}", "--expert", "--env-python", str(python), *SMALL]
        assert main([*words, "--episodes", "2", "--out", str(tmp_path / task)]) == 0
    one = open_dataset(tmp_path / "reach").meta
    assert (one.state_names, one.action_names) == (
        ["hand_x", "hand_y", "hand_z", "gripper_opening"], ["x", "y", "z", "gripper"]
    )  # fmt: skip
    capsys.readouterr()
    sources = [str(tmp_path / task) for task in ("reach", "drawer-close")]
    assert main(["dataset", "merge", str(tmp_path / "both"), *sources]) == 0
    both = open_dataset(tmp_path / "both")
    texts = [both.instruction(int(np.flatnonzero(both.episode_index == number)[0])) for number in range(4)]
    assert texts == [TEXTS["reach-v3"]] * 2 + [TEXTS["drawer-close-v3"]] * 2
    record = SimulationRecord.of(tmp_path / "both")
    assert record is not None
    assert (record.env, record.settings, record.seeds) == (
        "metaworld", {"width": 32, "height": 24, "shadows": False}, []
    )  # fmt: skip
    assert record.simulation["render"]["shadows"] is False
    again = [
        "env",
        "check",
        "metaworld/reach",
        "--env-python",
        str(python),
        "--demonstrations",
        str(tmp_path / "reach"),
    ]
    assert main([*again, "--episodes", "2"]) == 0
    assert main(["dataset", "check", str(tmp_path / "both")]) == 0


def test_holding_still_is_the_floor_of_motions(python: Path, tmp_path: Path) -> None:
    """A hand's place is no motion: hold-state commands none, as no-op does, which is the floor then."""
    words = ["rollout", "hold-state", "--env", "metaworld/reach", "--env-python", str(python), *SMALL, "max_steps=60"]
    assert main([*words, "--episodes", "3", "--video-episodes", "0", "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["successes"], results["gate"]["verdict"]) == (0, "passed")
    assert [row["name"] for row in results["floors"]] == ["no-op", "random", "expert"]
    assert results["floors"][-1]["successes"] == 3
    assert [run["facts"]["last_reward"] for run in results["runs"]] == [1.0] * 3, "it has moved"


@pytest.mark.parametrize(("end", "steps", "at_end"), [("true", 40, None), ("false", 60, True)])
def test_an_episode_ends_with_success_unless_told(
    end: str, steps: int, at_end: bool | None, python: Path, tmp_path: Path
) -> None:
    worker = WorkerProcess.of("metaworld", python)
    made: Any = make_environment_in(worker, {"end_on_success": end, "max_steps": "60", "task": "reach"})
    found = made.demonstrate(2)
    made.close()
    worker.close()
    assert (found.outcome.success, found.outcome.success_at_end) == (True, at_end)
    assert found.steps == steps if end == "false" else found.steps < steps


def make_environment_in(worker: WorkerProcess, settings: Mapping[str, str]) -> Any:
    return make_metaworld(**checked_settings("metaworld", settings), where=Where(worker, 0))


def test_a_task_whose_expert_is_weak_is_not_gated(python: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env-python", str(python), "--env-settings", "max_steps=60", "--episodes", "12", "--json"]
    assert main(["env", "check", "metaworld/soccer", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "not gated"
    assert 0 < found["successes"] < 12
    assert found["text"].endswith("below 95 %: this expert is not reliable enough to tell anything.")
    for task in ("push", "stick-pull"):  # one that is known to be good, and one that never succeeds
        assert main(["env", "check", f"metaworld/{task}", *words]) == 1
        assert json.loads(capsys.readouterr().out)["verdict"] == "failed"


def test_its_experts_have_no_other_pace(python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["record", "--env", "metaworld/reach", "--expert", "--env-python", str(python), *SMALL]
    assert main([*words, "--vary-timing", "0.1", "--episodes", "1", "--out", str(tmp_path / "out")]) == 2
    assert "The experts of Meta-World have no pace that could vary" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_wording_is_none_of_the_simulations_settings(python: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["env", "check", "metaworld/reach", "--env-python", str(python), "--episodes", "2"]
    assert main([*words, "--env-settings", "wording=smolpilot", "max_steps=60"]) == 0
    assert capsys.readouterr().out.startswith("passed: metaworld's expert succeeds in 2 of 2 episodes")


@pytest.fixture(scope="module")
def real() -> Path:
    """An interpreter that has Meta-World: `smolpilot env install metaworld DIR` makes one."""
    if not (given := os.environ.get("SMOLPILOT_METAWORLD_PYTHON")):
        pytest.skip("no interpreter with Meta-World here (SMOLPILOT_METAWORLD_PYTHON)")
    return interpreter(Path(given))


# As LeRobot 0.6 makes and seeds its environment, in Meta-World's own terms; ours beside it, in the middle of its life.
BESIDE = """
import importlib.util, json, os, sys
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
found = importlib.util.spec_from_file_location("simulator", sys.argv[1])
simulator = importlib.util.module_from_spec(found)
found.loader.exec_module(simulator)
import metaworld, numpy
assert {name.removesuffix("-v3") for name in metaworld.MT1.ENV_NAMES} == set(simulator.TASKS)
differ, images, beyond = [], {}, []
for task in simulator.TASKS:
    name = task + "-v3"
    benchmark = metaworld.MT1(name, seed=42)
    theirs = benchmark.train_classes[name](render_mode="rgb_array", camera_name="corner2")
    theirs.set_task(benchmark.train_tasks[0])
    theirs.model.cam_pos[2] = [0.75, 0.075, 0.7]
    theirs.reset()
    theirs._freeze_rand_vec, theirs.seeded_rand_vec = False, True
    ours = simulator.MetaworldSimulation(task)
    ours.reset(11)
    expert = ours.expert()
    for _ in range(20):
        ours.act(expert.action())
    ours.reset(7)
    theirs.seed(7)
    same = [numpy.array_equal(theirs.reset(seed=7)[0], ours.observation)]
    expert = ours.expert()
    for _ in range(40):
        wanted = expert._policy.get_action(ours.observation.copy())
        action = expert.action()
        beyond += [task] if abs(wanted).max() > 1 and abs(action).max() == 1 else []
        outcome = ours.act(action)
        seen, _, _, _, info = theirs.step(numpy.float32(wanted))  # what is clipped is clipped there, too
        same.append(numpy.array_equal(seen, ours.observation))
        if outcome is not None:
            same.append(bool(info["success"]) and outcome["success"])
            break
    if task in ("reach", "drawer-close", "pick-place"):
        images[task] = numpy.array_equal(theirs.render()[::-1, ::-1], ours.observe()[1]["corner2"])
    if not all(same):
        differ.append(task)
    ours.close()
    theirs.close()
print(json.dumps({"differ": differ, "images": images, "beyond": len(set(beyond))}))
"""


@pytest.mark.nightly
def test_scenes_states_and_images_are_lerobots(real: Path) -> None:
    """All fifty tasks: the observations of 40 steps to the last bit, after another episode; three images."""
    done = subprocess.run([str(real), "-W", "ignore", "-c", BESIDE, str(simulator.__file__)], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["differ"], found["images"]) == ([], {"reach": True, "drawer-close": True, "pick-place": True})
    assert found["beyond"] > 10, "many experts want more than there is"


@pytest.mark.nightly
def test_an_image_is_upright_and_shadows_can_be_left_out(real: Path) -> None:
    """The arm hangs down from above onto the table, in each of the cameras that Meta-World has upside down."""
    worker = WorkerProcess.of("metaworld", real)
    cameras = "corner,corner2,corner3,corner4"
    drawn = {}
    for shadows in ("true", "false"):
        env = make_environment_in(worker, {"task": "reach", "cameras": cameras, "shadows": shadows, "width": "96",
                                           "height": "96"})  # fmt: skip
        drawn[shadows] = env.reset(0)[0]
        env.close()
    worker.close()
    for camera in cameras.split(","):
        lit, dark = (drawn[key][f"observation.images.{camera}"].astype(int) for key in ("false", "true"))
        assert 0.5 < np.abs(lit - dark).mean() < 30
        red = (lit[..., 0] > 100) & (lit[..., 1:].max(axis=-1) < 60)  # the arm
        rows = np.flatnonzero(red.any(axis=1))
        assert rows.mean() < 48, camera


@pytest.mark.nightly
def test_as_a_user_goes(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Listed, gated, recorded in two tasks, merged, trained a few steps, rolled out."""
    there = ["--env-python", str(real)]
    assert main(["env", "list", *there, "--json"]) == 0
    row = next(one for one in json.loads(capsys.readouterr().out) if one["name"] == "metaworld")
    assert row["works"], row
    assert row["text"].startswith("metaworld 3.1.1")
    assert main(["env", "check", "metaworld/drawer-close", *there]) == 0
    assert capsys.readouterr().out.startswith("passed: metaworld's expert succeeds in 20 of 20")
    size = ["--env-settings", "width=64", "height=64", "shadows=false"]
    sources = [str(tmp_path / task) for task in ("drawer-close", "reach")]
    for task, source in zip(("drawer-close", "reach"), sources, strict=True):
        words = ["record", "--env", f"metaworld/{task}", "--expert", *there, *size, "--episodes", "2", "--out", source]
        assert main(words) == 0
        again = ["env", "check", f"metaworld/{task}", *there, "--demonstrations", source, "--episodes", "2"]
        assert main(again) == 0
    assert main(["dataset", "merge", str(tmp_path / "both"), *sources]) == 0
    words = ["train", "--dataset", str(tmp_path / "both"), "--robot", "metaworld", "--preset", "tiny", "--from-scratch"]
    words += ["--steps", "2", "--batch-size", "2", "--eval-frames", "2", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    bundle = str(tmp_path / "run" / "checkpoints" / "best")
    for task in ("drawer-close", "reach"):
        words = ["rollout", bundle, "--env", f"metaworld/{task}", *there, *size, "--episodes", "1", "--device", "cpu"]
        assert main([*words, "--video-episodes", "0", "--out", str(tmp_path / f"out-{task}")]) == 0
        results = json.loads((tmp_path / f"out-{task}" / "results.json").read_text())
        assert results["simulation"]["render"]["shadows"] is False
        assert [run["instruction"] for run in results["runs"]] == [TEXTS[f"{task}-v3"]]
    capsys.readouterr()
    words = ["rollout", bundle, "--env", "metaworld/reach", *there, "--env-settings", "width=64", "height=64"]
    assert main([*words, "--episodes", "1", "--device", "cpu", "--out", str(tmp_path / "other")]) == 2
    assert "shadows false" in capsys.readouterr().err
