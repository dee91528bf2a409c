"""Packages of strangers that break their contract: one error that names them, an exit code, nothing half-written."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.contracts import PolicyOptions, PolicySpec
from smolpilot.environments import environment_factory, make_environment
from smolpilot.environments.of_datasets import environment_of
from smolpilot.evaluation.rollout.checked_environment import close_environment
from smolpilot.policies import open_policy
from smolpilot.policies.opening import is_drive

from .helpers_packages import install_package

POLICIES = """
import os, sys
import numpy as np

from smolpilot.contracts import Policy, PolicyFacts, PolicySpec


class Still(Policy):
    def __init__(self, source, options, embodiment):
        self.spec = PolicySpec("still", 1, 1, chunk_size=4, n_action_steps=2)

    def predict(self, observations, *, seeds=None, previous=None):
        return np.zeros((len(observations), 4, 1), np.float32)


class FailsToOpen(Still):
    def __init__(self, source, options, embodiment):
        raise RuntimeError("no such arm")


class Exits(Still):
    def __init__(self, source, options, embodiment):
        sys.exit(0)


class FailsInPredict(Still):
    def predict(self, observations, *, seeds=None, previous=None):
        raise ValueError("no idea")


class FailsInReset(Still):
    def reset(self):
        raise ValueError("no way back")


class Ragged(Still):
    def predict(self, observations, *, seeds=None, previous=None):
        return [[1, 2], [3]]


class Complex(Still):
    def predict(self, observations, *, seeds=None, previous=None):
        return np.zeros((len(observations), 4, 1), complex)


class Talks(Still):
    def predict(self, observations, *, seeds=None, previous=None):
        print("thinking")
        os.write(1, b"thinking in C\\n")
        return super().predict(observations)


class Wrong(Still):
    def __init__(self, source, options, embodiment):
        self.spec = PolicySpec("wrong", 1, 1, chunk_size=4, n_action_steps=9)


class Remembers(Still):
    def __init__(self, source, options, embodiment):
        self.spec = PolicySpec("remembers", 1, 1, 4, 2, facts=PolicyFacts(lineage={"dataset": object()}))


class Boasts(Still):
    def __init__(self, source, options, embodiment):
        self.spec = PolicySpec("boasts", 1, 1, 4, 2, capabilities=frozenset({"tokens"}))
"""
WORLDS = """
import sys
import numpy as np

from smolpilot.contracts import Environment, EnvironmentSpec, EpisodeInfo, Outcome, make_observation
from smolpilot.robots import CameraProfile, Joint, RobotProfile

X = Joint(name="x", unit="m", position_limits=(-1.0, 1.0), velocity_limit=1.0)
RAIL = RobotProfile(name="rail", description="a rail", rate=10, joints=[X],
                    cameras=[CameraProfile(name="front", width=8, height=8)])


class Fine(Environment):
    spec = EnvironmentSpec(name="fine", profile=RAIL, rate=10, goal="time passes", max_steps=3)
    size, info, outcome = (8, 8, 3), EpisodeInfo("wait"), Outcome(True, "passed")
    picture = np.zeros((8, 8, 3), np.uint8)

    def reset(self, seed, *, instruction=None):
        self.steps = 0
        return self.see(), self.info

    def step(self, action):
        self.steps += 1
        return self.see(), self.outcome if self.steps == 3 else None

    def render(self):
        return self.picture

    def see(self):
        return make_observation([0.0], {"front": np.zeros(self.size, np.uint8)}, "wait")


class Small(Fine):
    size = (4, 8, 3)


class NoInfo(Fine):
    info = {"instruction": "wait"}


class Listed(Fine):
    info = EpisodeInfo("wait", ["left"])


class Truth(Fine):
    outcome = True


class Nan(Fine):
    outcome = Outcome(True, "passed", {"distance_m": float("nan")})


class Undecided(Fine):
    outcome = Outcome(None, "passed")


class Gray(Fine):
    picture = np.zeros((8, 8), np.uint8)


class Exits(Fine):
    def step(self, action):
        sys.exit(0)


class FailsInClose(Fine):
    def close(self):
        raise RuntimeError("stuck")


class NoSpec(Fine):
    spec = None


class Forgets(Fine):
    @staticmethod
    def for_recording(robot_type, instructions):
        if robot_type == "rail":
            raise KeyError("nothing kept")
"""
PLAIN = PolicyOptions(device="cpu")


def _classes(source: str) -> list[str]:
    return [line.split()[1].split("(")[0] for line in source.splitlines() if line.startswith("class ")]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`p-NAME` and `e-NAME` for each class above; `exits`, whose import ends the process."""
    groups = {"smolpilot.policies": {f"p-{name}": f"bad_policies:{name}" for name in _classes(POLICIES)}}
    site = install_package(tmp_path / "a", "bad_policies", POLICIES, groups)
    groups = {"smolpilot.environments": {f"e-{name}": f"bad_worlds:{name}" for name in _classes(WORLDS)}}
    install_package(tmp_path / "a", "bad_worlds", WORLDS, groups)
    install_package(tmp_path / "a", "exits", "raise SystemExit(0)", {"smolpilot.policies": {"exits": "exits:Policy"}})
    monkeypatch.syspath_prepend(site)
    for name in ("bad_policies", "bad_worlds"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


def _rollout(out: Path, policy: str = "hold-state", world: str = "e-Fine", *more: str) -> int:
    words = ["--episodes", "1", "--video-episodes", "1", "--out", str(out)]
    return main(["rollout", policy, "--env", world, *words, *more])


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("p-FailsToOpen", "The policy 'p-FailsToOpen' cannot be opened: RuntimeError: no such arm"),
        ("p-Exits", "The policy 'p-Exits' cannot be opened: SystemExit: 0"),
        ("p-FailsInPredict", "The policy 'p-FailsInPredict' fails in predict: ValueError: no idea"),
        ("p-FailsInReset", "The policy 'p-FailsInReset' fails in reset: ValueError: no way back"),
        ("p-Ragged", "answered 1 observations with a list that is no array of real numbers"),
        ("p-Complex", "answered 1 observations with a ndarray that is no array of real numbers"),
        ("p-Wrong", "PolicySpec 'wrong': n_action_steps is 9."),
        ("p-Remembers", "has a lineage that no report can keep: Object of type object is not JSON serializable"),
        ("p-Boasts", "names the capability 'tokens' and has no token_room"),
        ("exits", "The policy 'exits' of exits (exits:Policy) cannot be imported: SystemExit: 0"),
    ],
)
def test_a_policy_that_breaks_its_contract(
    policy: str, said: str, installed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _rollout(tmp_path / "out", policy) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("world", "said"),
    [
        ("Small", "at the start: observation.images.front is 'uint8 [4, 8, 3]'."),
        ("NoInfo", "reset is {'instruction': 'wait'}."),
        ("Listed", "EpisodeInfo.groups is ['left']."),
        ("Truth", "at step 3: step is True."),
        ("Nan", "Outcome.facts['distance_m'] is nan."),
        ("Undecided", "Outcome.success is None."),
        ("Gray", "render is 'uint8 [8, 8]'."),
        ("Exits", "The environment fine fails in the episode of seed 1000000, at step 1: SystemExit: 0"),
        ("FailsInClose", "The environment fine fails in close: RuntimeError: stuck"),
        ("NoSpec", "The environment has a spec of type NoneType."),
    ],
)
def test_an_environment_that_breaks_its_contract(
    world: str, said: str, installed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _rollout(tmp_path / "out", world=f"e-{world}") == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["fresh", "e-Fine"])
def test_a_class_without_init_has_no_settings(name: str, installed: None) -> None:
    if name == "e-Fine":
        make_environment(name)  # typing puts another __init__ in its place at the first instance
    with pytest.raises(UsageError, match="Unknown setting 'size' of the environment 'e-Fine'") as caught:
        environment_factory("e-Fine", {"size": "3"})
    assert caught.value.expected == "none: it has no settings"


def test_close_of_an_environment_without_a_spec(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    world, closed = make_environment("e-NoSpec"), []
    monkeypatch.setattr(type(world), "close", lambda self: closed.append(self))
    close_environment(world)
    assert closed == [world]


def test_whose_recording_it_is_may_be_asked_of_anybody(installed: None) -> None:
    assert environment_of("toy_arm", ["go"]) is None
    with pytest.raises(SmolpilotError, match="'e-Forgets' fails in for_recording: KeyError: 'nothing kept'"):
        environment_of("rail", ["go"])


def test_what_plugins_print_stays_out_of_json(
    installed: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _rollout(tmp_path / "out", "p-Talks", "e-Fine", "--json") == 0
    found = capfd.readouterr()
    assert json.loads(found.out)["successes"] == 1
    assert "thinking\n" in found.err
    assert "thinking in C\n" in found.err


def test_plugins_check_continues_after_an_import_that_exits(
    installed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "--check", "--json"]) == 1
    rows = {row["name"]: row["problem"] for row in json.loads(capsys.readouterr().out)["plugins"]}
    assert "SystemExit" in rows["exits"]
    assert not rows["p-Still"]


def test_a_folder_of_a_policys_name_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hold-state").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SmolpilotError, match="`hold-state:` for the policy of that name"):
        open_policy("hold-state", PLAIN)


def test_a_drive_is_no_name() -> None:
    assert is_drive("C:\\runs\\first")
    assert is_drive("d:/runs")
    assert not is_drive("nearest:/data")
    with pytest.raises(SmolpilotError, match="There is no checkpoint at C:"):
        open_policy("C:\\runs\\first", PLAIN)


def test_an_empty_name_is_no_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _rollout(tmp_path / "out", world="") == 2
    assert "Unknown environment ''" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("chunk_size", "8"), ("n_obs_steps", 0), ("cameras", "front"), ("rate", float("nan")), ("action_names", ("a",))],
)
def test_a_spec_says_what_can_be(name: str, value: object) -> None:
    said = {"name": "x", "state_dim": 2, "action_dim": 2, "chunk_size": 8, "n_action_steps": 4, name: value}
    with pytest.raises(SmolpilotError, match=f"PolicySpec 'x': {name} is"):
        PolicySpec(**said)  # type: ignore[arg-type]
