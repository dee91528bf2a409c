"""Environments in worker processes: the same episodes as here, and what becomes of those whose simulation fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import SimulationError, UsageError
from smolpilot.common.keys import STATE, image_key
from smolpilot.environments import make_environment, worker_pool
from smolpilot.environments.worker_pool import LOST, WorkerPool

# Seed 3 raises at its second step, seed 5 takes the whole process along at its third.
FRAGILE = """
import os
from smolpilot.environments import host
from smolpilot.environments.making import make_environment
from smolpilot.environments.simulators.worker import serve

class Fragile(host.HostedEnvironment):
    def __init__(self, environment):
        super().__init__(environment)
        del self.run  # its steps are counted one by one

    def reset(self, seed, instruction=None):
        self.seed, self.steps = seed, 0
        return super().reset(seed, instruction)

    def act(self, action):
        self.steps += 1
        if self.seed == 3 and self.steps == 2:
            raise RuntimeError("the block fell through the table")
        if self.seed == 5 and self.steps == 3:
            os._exit(9)
        return super().act(action)

serve(lambda name, settings: Fragile(make_environment(name, settings)))
"""


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setattr(worker_pool, "HOST", [sys.executable, str(tmp_path / "fragile.py")])


def test_an_environment_of_ours_is_the_same_there() -> None:
    there = WorkerPool("tabletop", {"target": "red"}, 3, jobs=2)
    here = make_environment("tabletop", {"target": "red"})
    assert there.environments[2].spec == here.spec
    (ours, info), (theirs, told) = here.reset(4), there.environments[1].reset(4)
    assert info == told
    np.testing.assert_array_equal(ours[STATE], theirs[STATE])
    for _ in range(5):
        action = ours[STATE] + np.float32(0.05)
        (ours, ended), (theirs, there_ended) = here.step(action), there.environments[1].step(action)
        assert ended == there_ended
        for camera in here.spec.cameras:
            np.testing.assert_array_equal(ours[image_key(camera)], theirs[image_key(camera)])
    with pytest.raises(UsageError, match="instruction"):
        there.environments[0].reset(4, instruction="sing")
    with pytest.raises(UsageError, match="action"):
        there.environments[1].step([0.0])
    there.close()


def test_its_expert_and_several_actions_at_once_are_the_same_there() -> None:
    there, here = WorkerPool("tabletop", {}, 1, jobs=1), make_environment("tabletop")
    theirs: Any = there.environments[0]
    ours: Any = here
    assert theirs.has_expert is ours.has_expert is True
    text = ours.reset(4)[1].alternatives[0]
    assert theirs.demonstrate(4) == ours.demonstrate(4)
    assert theirs.demonstrate(4, instruction=text) == ours.demonstrate(4, instruction=text)
    with pytest.raises(UsageError, match="no episode yet"):
        theirs.run(np.zeros((2, 3), np.float32))  # the demonstration's episode is over
    theirs.reset(4, images="never")
    ours.reset(4, images="never")
    actions = np.full((3, 3), 0.4, np.float32)
    for images in ("never", "running"):
        found, same = (one.run(actions, images=images, frames=True) for one in (theirs, ours))
        assert (found.steps, found.outcome, len(found.frames)) == (same.steps, same.outcome, 3)
        assert found.observation.keys() == same.observation.keys()
        for key in found.observation:
            np.testing.assert_array_equal(found.observation[key], same.observation[key])
    there.close()


@pytest.mark.usefixtures("fragile")
def test_one_that_raises_fails_alone() -> None:
    found = WorkerPool("tabletop", {}, 2, jobs=1)
    for place, seed in enumerate((3, 4)):
        found.environments[place].reset(seed)
    still = np.zeros(3, np.float32)
    found.each([0, 1], lambda place: found.environments[place].step(still))
    broken, sound = found.each([0, 1], lambda place: found.environments[place].step(still))
    assert isinstance(broken, SimulationError)
    assert "RuntimeError: the block fell through the table" in broken.found
    assert not isinstance(sound, SimulationError)
    assert found.renew(0) == []  # the process goes on
    found.environments[0].reset(6)
    found.close()


@pytest.mark.usefixtures("fragile")
def test_one_that_dies_costs_its_own_episode_only() -> None:
    found = WorkerPool("tabletop", {}, 4, jobs=2)
    for place, seed in enumerate((5, 1, 2, 4)):
        found.environments[place].reset(seed)
    still = np.zeros(3, np.float32)
    for _ in range(2):
        assert LOST not in found.each(range(4), lambda place: found.environments[place].step(still))
    results = found.each(range(4), lambda place: found.environments[place].step(still))
    died, sound, lost, other = results
    assert isinstance(died, SimulationError)
    assert "has ended (exit code 9)" in died.found
    assert lost is LOST  # in the same process, not begun: to be done again
    assert not isinstance(sound, SimulationError)
    assert not isinstance(other, SimulationError)
    assert found.renew(0) == [0, 2]
    for place in (0, 2):
        found.environments[place].reset(7)
    found.close()


def test_no_more_processes_than_environments() -> None:
    found = WorkerPool("tabletop", {}, 1, jobs=8)
    assert len(found._workers) == 1
    found.close()


def test_what_has_no_simulator_runs_in_no_other_interpreter() -> None:
    with pytest.raises(UsageError, match="tabletop runs in smolpilot's own interpreter"):
        WorkerPool("tabletop", {}, 1, jobs=1, python=Path(sys.executable))


def test_settings_that_cannot_be_leave_no_process() -> None:
    with pytest.raises(UsageError, match="Unknown setting 'colour'"):
        WorkerPool("tabletop", {"colour": "red"}, 2, jobs=2)
