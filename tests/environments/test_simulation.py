"""A simulation with several instructions for a scene, here and in a worker: what was reached comes through."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.common.keys import TASK
from smolpilot.contracts import Environment, EnvironmentSpec
from smolpilot.environments.simulation import LocalSimulation, RemoteSimulation, SimulatedEnvironment
from smolpilot.environments.worker_process import WORKER, WorkerProcess
from smolpilot.evaluation import rollout
from smolpilot.evaluation.rollout.language import language_document, play_told
from smolpilot.robots import Joint, RobotProfile
from tests.evaluation.helpers_world import Driver

SIMULATOR = '''
import numpy as np

NEEDS = "nothing"
TEXTS = {"touch the cube": 1.0, "touch the ball": -1.0, "touch the ring": 2.0}


class SIMULATION:
    """A finger on a line, and three things; each scene offers two or three of them."""

    def __init__(self, spoiled=False):
        self.facts = {"rate": 5.0, "max_steps": 10, "goal": "the finger touches what the text names", "labels": {},
                      "cameras": {}, "expert": True}
        self.spoiled = spoiled

    def reset(self, seed, instruction=None):
        self.texts = list(TEXTS)[: 2 + seed % 2]
        self.told = self.texts[seed % len(self.texts)] if instruction is None else instruction
        if self.told not in self.texts:
            raise ValueError(f"The scene of seed {seed} has no instruction {self.told!r}.", " or ".join(self.texts), "")
        self.place, self.steps, self.reached = 0.0, 0, []
        others = [text for text in self.texts if text != self.told]
        return {"instruction": self.told, "groups": {}, "alternatives": others}

    def act(self, action):
        self.place, self.steps = self.place + float(action[0]), self.steps + 1
        self.reached += [text for text in self.texts
                         if abs(TEXTS[text] - self.place) < 0.05 and text not in self.reached]
        if self.told not in self.reached and self.steps < 10:
            return None
        success = self.told in self.reached
        reached = " and ".join(self.reached) if self.spoiled else self.reached
        return {"success": success, "label": "touched" if success else "timeout", "facts": {}, "reached": reached}

    def expert(self):
        return self

    def action(self):
        return [0.25 * np.sign(TEXTS[self.told])]

    def observe(self, *, images=True):
        return np.array([self.place], np.float32), {}

    def render(self):
        return np.zeros((2, 2, 3), np.uint8)

    def close(self):
        pass
'''
FINGER = RobotProfile(
    name="finger", description="", rate=5.0,
    joints=[Joint(name="place", unit="m", position_limits=(-3.0, 3.0), velocity_limit=None)],
)  # fmt: skip
SPEC = EnvironmentSpec(name="things", profile=FINGER, rate=5.0, goal="touched", max_steps=10)
Make = Callable[..., Environment]


@pytest.fixture(params=["here", "in a worker"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes the simulation as an Environment."""
    shutil.copy(WORKER, tmp_path)
    (tmp_path / "things.py").write_text(SIMULATOR)
    spec = importlib.util.spec_from_file_location("things", tmp_path / "things.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    worker = WorkerProcess([sys.executable, str(tmp_path / "worker.py")], "things")
    slots = iter(range(100))

    def make(**settings: Any) -> Environment:
        if request.param == "here":
            return SimulatedEnvironment(LocalSimulation(module.SIMULATION(**settings)), SPEC)
        return SimulatedEnvironment(RemoteSimulation(worker, next(slots), "things", settings), SPEC)

    yield make
    worker.close()


def test_what_was_reached_comes_through_in_its_order(make: Make) -> None:
    env: Any = make()
    _, info = env.reset(1, instruction="touch the ring")
    assert info.alternatives == ("touch the cube", "touch the ball")
    found = env.run(np.full((9, 1), 0.25, np.float32))
    assert found.outcome.reached == ("touch the cube", "touch the ring")
    assert (found.outcome.success, found.steps) == (True, 8)
    env.reset(1, instruction="touch the ball")
    assert env.run(np.full((10, 1), 0.05, np.float32)).outcome.reached == ()
    played = env.demonstrate(1, instruction="touch the ring")
    assert (played.outcome.reached, played.info.instruction) == (("touch the cube", "touch the ring"), "touch the ring")
    with pytest.raises(UsageError, match="The scene of seed 0 has no instruction 'touch the ring'"):
        env.reset(0, instruction="touch the ring")


def document(make: Make, *, deaf: bool, **settings: Any) -> dict[str, Any]:
    policy = Driver(lambda text: 1.0 if deaf or "ball" not in text else -1.0)
    runs = rollout(policy, lambda: make(**settings), episodes=12, seed=0).runs
    return language_document(runs, play_told(policy, lambda: make(**settings), runs))


def test_the_language_test_of_two_and_three_texts(make: Make) -> None:
    found = document(make, deaf=False)
    assert found["texts"] == {"2": 6, "3": 6}
    assert (found["right"]["successes"], found["right"]["episodes"]) == (30, 30)
    assert (found["followed"]["successes"], found["same"]["successes"], found["decision"]) == (12, 0, "follows")
    deaf = document(make, deaf=True)
    assert (deaf["followed"]["successes"], deaf["other"]["successes"]) == (0, 12)
    assert deaf["same"]["successes"] == 6  # of three texts, the ring lies behind the cube and is reached by its own


def test_a_text_in_place_of_several_is_refused(make: Make) -> None:
    with pytest.raises(SmolpilotError, match=r"Outcome\.reached is .touch the"):
        document(make, deaf=False, spoiled=True)


def test_the_state_is_an_array_and_the_task_the_text(make: Make) -> None:
    observation, info = make().reset(3)
    state: npt.NDArray[Any] = observation["observation.state"]
    assert (state.tolist(), observation[TASK]) == ([0.0], info.instruction)
