"""Environments that a YAML file describes: here, in a worker, and in an interpreter without smolpilot."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.contracts import Environment, Policy, PolicyFacts, PolicySpec
from smolpilot.environments import make_environment
from smolpilot.environments.described import identity
from smolpilot.policies import shipped as policies

from .helpers_conformance import check_environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "mountain_car.yaml"
MODULE = '''
import gymnasium
import numpy as np


class Lamp(gymnasium.Env):
    """Moves where it is told; what it was told last stands in the observation."""

    metadata = {"render_modes": ["rgb_array"]}
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    observation_space = gymnasium.spaces.Dict({})

    def __init__(self, render_mode=None, tells=True):
        self.render_mode, self.tells = render_mode, tells

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.joints, self.steps = self.np_random.uniform(-0.5, 0.5, 2), 0
        return self.look(), {}

    def step(self, action):
        self.joints, self.steps = np.asarray(action, np.float64), self.steps + 1
        info = {"lit": bool(self.joints[0] > 5)} if self.tells else {}
        return self.look(), float(self.joints[1]), bool(self.joints[0] < -5), False, info

    def look(self):
        picture = np.full((6, 8, 3), self.steps + 1, np.uint8)
        return {"arm": {"angle": self.joints[:1], "grip": self.joints[1:]}, "pictures": {"top": picture}}

    def render(self):
        return (np.arange(105) + self.steps).astype(np.uint8).reshape(5, 7, 3)


gymnasium.register("Bulb-v0", Lamp, max_episode_steps=6)
'''
LAMP = """\
id: Bulb-v0
imports: [lamp_of_a_test]
profile:
  name: lamp
  description: a lamp with two joints
  rate: 20
  joints:
    - {name: angle, unit: rad, position_limits: unknown, velocity_limit: unknown}
    - {name: grip, unit: normalized, position_limits: unknown, velocity_limit: unknown}
  cameras:
    - {name: top, width: 8, height: 6}
  gripper: []
  default_instruction: light the page
state: [arm.angle, arm.grip]
images:
  top: pictures.top
success: lit
"""


@pytest.fixture
def lamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the lamp's file, with changes of its text; its module can be imported."""
    gymnasium.registry.pop("Bulb-v0", None)
    (tmp_path / "lamp_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "lamp_of_a_test", raising=False)

    def write(*changes: tuple[str, str], more: str = "") -> Path:
        text = LAMP + more
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "lamp.yaml"
        path.write_text(text)
        return path

    return write


def played(env: Environment, *actions: tuple[float, float]) -> tuple[Any, Any]:
    env.reset(0)
    seen, outcome = None, None
    for action in actions:
        seen, outcome = env.step(np.array(action))
    return seen, outcome


def test_an_environment_of_a_file_keeps_the_contract(lamp: Callable[..., Path]) -> None:
    path = lamp()
    check_environment(lambda: make_environment(str(path)))
    env = make_environment(str(path))
    assert (env.spec.name, env.spec.rate, env.spec.max_steps, env.spec.cameras) == ("Bulb-v0", 20.0, 6, ("top",))
    assert env.spec.goal == "the environment's own 'lit'"
    seen, info = env.reset(3)
    assert seen[TASK] == info.instruction == "light the page"
    assert seen[image_key("top")].shape == (6, 8, 3)
    assert env.render().shape == (6, 8, 3)  # even sides


def test_the_files_keys_and_settings_beside_it(lamp: Callable[..., Path]) -> None:
    path = lamp(more="rate: 5\nmax_steps: 4\ninstruction: read\ngoal: it is bright\nkwargs: {tells: true}\n")
    env = make_environment(str(path))
    assert (env.spec.rate, env.spec.max_steps, env.spec.goal) == (5.0, 4, "it is bright")
    assert env.spec.instructions == ("read",)
    other = make_environment(str(path), {"max_steps": "2", "instruction": "write"})
    assert (other.spec.max_steps, other.spec.instructions) == (2, ("write",))
    with pytest.raises(UsageError, match="Unknown setting 'rates' of the environment"):
        make_environment(str(path), {"rates": "2"})
    with pytest.raises(UsageError, match="'max_steps' is 0"):
        make_environment(str(path), {"max_steps": "0"})


def test_actions_are_scaled_and_never_clipped(lamp: Callable[..., Path]) -> None:
    """The action space is -1 to 1: what lies outside is executed, and counted."""
    seen, outcome = played(make_environment(str(lamp())), (3.0, 0.5), (0.5, -4.0), (6.0, 2.0))
    assert seen[STATE].tolist() == [6.0, 2.0]
    assert outcome.success
    assert outcome.facts == {"sum_of_rewards": -1.5, "largest_reward": 2.0, "steps_outside_action_space": 3.0}

    path = lamp(("state: [arm.angle, arm.grip]", "state: {keys: [arm.angle, arm.grip], scale: 10, offset: [1, 0]}"),
                more="action: {scale: [2, 0.1], offset: [0, -1]}\n")  # fmt: skip
    seen, _ = played(make_environment(str(path)), (0.3, 5.0))
    assert seen[STATE].tolist() == pytest.approx([10 * 0.6 + 1, 10 * (0.5 - 1)])


@pytest.mark.parametrize(
    ("success", "actions", "label"),
    [
        ("lit", [(6, 0)], "success"),
        ("lit", [(0, 0)] * 6, "timeout"),
        ("lit", [(-6, 0)], "failed"),
        ("terminated", [(-6, 0)], "success"),
        ("terminated", [(0, 0)] * 6, "timeout"),
        ("{reward: 3}", [(0, 1), (0, 3)], "success"),
        ("{return: 9}", [(0, 2)] * 6, "success"),
        ("{return: 13}", [(0, 2)] * 6, "timeout"),
    ],
)
def test_how_success_is_known(
    lamp: Callable[..., Path], success: str, actions: list[tuple[float, float]], label: str
) -> None:
    _, outcome = played(make_environment(str(lamp(("success: lit", f"success: {success}")))), *actions)
    assert (outcome.label, outcome.success) == (label, label == "success")


def test_an_info_that_never_tells_is_a_wrong_key_and_no_failure(lamp: Callable[..., Path]) -> None:
    env = make_environment(str(lamp(("success: lit", "success: lid"))))
    with pytest.raises(UsageError, match=r"The info of Bulb-v0 has no 'lid'\.") as caught:
        played(env, *[(0.0, 0.0)] * 6)
    assert caught.value.fix == "Did you mean 'lit'?"


@pytest.mark.parametrize(
    ("before", "after", "message", "fix"),
    [
        ("success: lit", "sucess: lit", r"lamp\.yaml:17: unknown key 'sucess'", "Did you mean 'success'?"),
        ("id: Bulb-v0", "", r"lamp\.yaml: key 'id' is missing", "add 'id'"),
        ("success: lit", "success: {rewards: 2}", r"lamp\.yaml:17: unknown key 'success.rewards'", "'reward'"),
        ("success: lit", "success: {reward: 2, info: lit}", r"lamp\.yaml:17: .*is one of: a key of the info", ""),
        ("success: lit", "success: {reward: high}", r"lamp\.yaml:17: key 'success.reward' is 'high'", ""),
        ("  rate: 20", "  rate: 20\n  ratte: 3", r"lamp\.yaml:7: unknown key 'ratte'", "'rate'"),
        ("top: pictures.top", "tops: pictures.top", r"lamp\.yaml:16: the profile 'lamp' has no camera 'tops'", "'top'"),
        ("images:\n  top: pictures.top\n", "", r"camera 'top' of the profile 'lamp' has no image", "top: render"),
        ("profile:", "profile: so1000\nx:", r"lamp\.yaml:4: unknown key 'x'", ""),
        ("id: Bulb-v0", "id: [1", r"lamp\.yaml:\d+ is not valid YAML", ""),
        ("id: Bulb-v0", "id: Bulp-v0", r"gymnasium cannot make 'Bulp-v0'", "check id"),
        ("[lamp_of_a_test]", "[lamp_of_nobody]", r"The module lamp_of_nobody of `imports` cannot", "install"),
        ("arm.grip]", "arm.grib]", r"The observation of Bulb-v0 has no 'arm\.grib'", "'grip'"),
        ("[arm.angle, arm.grip]", "arm", r"The state of Bulb-v0 is a mapping", "arm.angle, arm.grip"),
        ("[arm.angle, arm.grip]", "arm.angle", r"The state of Bulb-v0 has 1 numbers", "another profile"),
        ("top: pictures.top", "top: render", r"Camera 'top' of Bulb-v0 gives uint8 \(5, 7, 3\)", ""),
        ("success: lit", "success: lit\naction: {scale: [1, 2, 3]}", r"action\.scale has 3 numbers", ""),
        ("success: lit", "success: lit\nmax_steps: 0", r"lamp\.yaml:18: key 'max_steps' is 0", ""),
        ("success: lit", "success: lit\nkwargs: {tels: 1}", r"cannot make 'Bulb-v0' .*tels", "check id"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(
    lamp: Callable[..., Path], before: str, after: str, message: str, fix: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_environment(str(lamp((before, after))))
    assert fix in caught.value.fix


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The environment file .*nowhere\.yaml does not exist"):
        make_environment(str(tmp_path / "nowhere.yaml"))


def test_a_profile_of_its_own_file_or_by_name(lamp: Callable[..., Path], tmp_path: Path) -> None:
    text = LAMP.split("profile:\n")[1].split("state:")[0]
    (tmp_path / "own.yaml").write_text("\n".join(line[2:] for line in text.splitlines()) + "\n")
    path = lamp((f"profile:\n{text}", "profile: own.yaml\n"))
    assert make_environment(str(path)).spec.profile.name == "lamp"
    path = lamp(
        (f"profile:\n{text}", "profile: pusht\n"), ("images:\n  top: pictures.top\n", "images: {image: render}\n")
    )
    with pytest.raises(UsageError, match=r"Camera 'image' of Bulb-v0 gives uint8 \(5, 7, 3\)"):
        make_environment(str(path))


def test_what_resumes_means_the_same_text(lamp: Callable[..., Path]) -> None:
    first = identity(str(lamp()))
    assert first == identity(str(lamp()))
    assert first != identity(str(lamp(("success: lit", "success: terminated"))))
    assert identity("pusht") == "pusht"


class Pusher(Policy):
    """Pushes a car the way that it moves, which gets it up the hill."""

    def __init__(self, source: str, options: Any, embodiment: Any) -> None:
        facts = PolicyFacts(source="pusher", kind="test")
        self._spec = PolicySpec("pusher", 2, 1, chunk_size=4, n_action_steps=4, facts=facts)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def predict(self, observations: Any, *, seeds: Any = None, previous: Any = None) -> Any:
        pushes = [1.0 if seen[STATE][1] >= 0 else -1.0 for seen in observations]
        return np.broadcast_to(np.array(pushes, np.float32)[:, None, None], (len(pushes), 4, 1))


@pytest.fixture
def rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setitem(policies.SHIPPED, "pusher", f"{Pusher.__module__}:Pusher")

    def run(*words: str) -> dict[str, Any]:
        out = tmp_path / "out"
        assert main(["rollout", "pusher", *words, "--seed", "0", "--out", str(out)]) == 0
        found: dict[str, Any] = json.loads((out / "results.json").read_text())
        return found

    return run


def test_the_example_runs(rollout: Callable[..., dict[str, Any]]) -> None:
    found = rollout("--env", str(EXAMPLE), "--episodes", "1", "--video-episodes", "0")
    assert (found["env"], found["successes"]) == ("MountainCarContinuous-v0", 1)
    assert found["runs"][0]["facts"]["sum_of_rewards"] > 80
    assert found["simulation"]["packages"]["gymnasium"]


def bare_venv(folder: Path, *names: str) -> Path:
    """A virtual environment that holds these packages of ours alone."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    here, there = Path(sysconfig.get_path("purelib")), next(folder.glob("lib/python*/site-packages"))
    for name in names:
        if (here / name).exists():
            (there / name).symlink_to(here / name)
    return folder


def test_it_runs_in_an_interpreter_with_numpy_and_gymnasium_alone(
    rollout: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = bare_venv(
        tmp_path / "venv", "numpy", "numpy.libs", "gymnasium", "farama_notifications", "cloudpickle",
        "typing_extensions.py",
    )  # fmt: skip
    text = EXAMPLE.read_text()
    path = tmp_path / "car.yaml"
    for part in ("  cameras:\n    - {name: view, width: 600, height: 400}\n", "images:\n"):
        text = text.replace(part, "")
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("  view:")))
    words = ("--env", str(path), "--env-python", str(venv), "--episodes", "3", "--jobs", "2")
    found = rollout(*words, "--video-episodes", "0")
    assert found["successes"] == 3
    here = tmp_path / "here"
    assert (
        main(["rollout", "pusher", *words[:2], *words[4:6], "--video-episodes", "0", "--seed", "0", "--out", str(here)])
        == 0
    )
    own = json.loads((here / "results.json").read_text())
    assert [run["steps"] for run in own["runs"]] == [run["steps"] for run in found["runs"]]

    # pygame is not there: what it would draw is asked for by videos, and said to be missing before anything is played.
    capsys.readouterr()
    assert main(["rollout", "pusher", *words, "--seed", "0", "--out", str(tmp_path / "drawn")]) == 2
    said = capsys.readouterr().err
    assert "cannot be rendered in" in said
    assert "--video-episodes 0" in said
    assert not (tmp_path / "drawn").exists()


def test_an_interpreter_without_gymnasium_is_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = bare_venv(tmp_path / "venv", "numpy", "numpy.libs")
    words = ["--env", str(EXAMPLE), "--env-python", str(venv), "--out", str(tmp_path / "out")]
    assert main(["rollout", "hold-state", *words]) == 2
    said = capsys.readouterr().err
    assert "gymnasium cannot be imported in" in said
    assert "pip install" in said
