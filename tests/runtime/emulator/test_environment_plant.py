"""Servos that move the arm of an environment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import UsageError
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import default_calibration
from smolpilot.runtime.cameras.shared_frames import SharedFrameReader, frames_file
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.emulator.environment_plant import EnvironmentPlant
from smolpilot.runtime.emulator.spec import EmulatorSpec, joint_steps, make_bus

from .helpers_bus import Clock, read, write
from .helpers_world import PROFILE, World

TURN = 4095 / (2 * np.pi)  # steps of a radian


class Scene:
    """The world behind a bus, with its clock."""

    def __init__(
        self, frames: Path | None = None, *, episode: int = 1000, seed: int = 1, outcomes: Path | None = None
    ) -> None:
        self.world, self.clock = World(episode), Clock()
        steps = joint_steps(PROFILE, default_calibration(PROFILE))
        plant = EnvironmentPlant(self.world, steps, frames=frames, outcomes=outcomes, seed=seed, clock=self.clock)
        self.bus = EmulatedBus({"pan": 1, "grip": 2}, plant, clock=self.clock)

    def go(self, pan: int) -> None:
        write(self.bus, "pan", reg.GOAL_POSITION, pan)

    @property
    def pan(self) -> int:
        return read(self.bus, "pan", reg.PRESENT_POSITION)


def test_joints_stand_where_the_episode_begins() -> None:
    scene = Scene()
    assert scene.pan == 2048 + round(0.1 * TURN)
    assert read(scene.bus, "grip", reg.PRESENT_POSITION) == 2048
    assert scene.world.seeds == [1]


def test_goals_are_actions_at_the_environments_rate_and_the_joints_move_evenly_between() -> None:
    scene = Scene()
    scene.go(2048 + round(0.5 * TURN))
    scene.clock.pass_(0.05)
    assert scene.pan == pytest.approx(2048 + 0.15 * TURN, abs=1)
    assert read(scene.bus, "pan", reg.PRESENT_SPEED) == pytest.approx(TURN, abs=2)  # 1 rad/s
    assert read(scene.bus, "pan", reg.MOVING) == 1
    scene.clock.pass_(0.15)
    assert scene.pan == pytest.approx(2048 + 0.3 * TURN, abs=1)
    scene.clock.pass_(1.0)
    assert scene.pan == pytest.approx(2048 + 0.5 * TURN, abs=1)
    np.testing.assert_allclose(scene.world.actions[0], [0.5, 50.0], atol=0.002)  # the other joint stays
    scene.bus.close()
    assert scene.world.closed


def test_a_world_in_which_nothing_moves_uses_no_episode_up_and_its_images_stay_young(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    reader = SharedFrameReader(frames_file(tmp_path, "top"))
    first = reader.read()
    assert first is not None
    assert (first.captured_at, int(first.image[0, 0, 0])) == (100.0, 0)
    scene.clock.pass_(60.0)
    assert scene.pan == 2048 + round(0.1 * TURN)  # without torque it stays
    scene.go(2048)
    scene.clock.pass_(60.0)
    assert scene.pan == 2048
    assert len(scene.world.actions) < 10
    last = reader.read()
    assert last is not None
    assert 219.8 < last.captured_at <= 220.0
    assert int(last.image[0, 0, 0]) == len(scene.world.actions)
    reader.close()
    scene.bus.close()
    assert list(tmp_path.iterdir()) == []


def test_after_an_episode_comes_the_next_seed_and_the_arm_stays() -> None:
    scene = Scene(episode=12)
    goal = 2048 + round(1.3 * TURN)
    scene.go(goal)
    jumps, before = [], scene.pan
    for _ in range(100):
        scene.clock.pass_(0.05)
        jumps.append(abs(scene.pan - before))
        before = scene.pan
    assert scene.pan == pytest.approx(goal, abs=1)
    assert scene.world.seeds[:2] == [1, 2]
    assert max(jumps) < 0.06 * TURN  # as fast as it goes, and no faster


def test_how_each_episode_ended_is_in_a_file(tmp_path: Path) -> None:
    """Also how many steps it took; none is taken, and none told, while nothing moves."""
    scene, file = Scene(episode=12, outcomes=tmp_path / "outcomes"), tmp_path / "outcomes"
    told = []
    scene.clock.pass_(60.0)
    assert scene.pan == 2048 + round(0.1 * TURN)
    scene.go(2048 + round(1.3 * TURN))
    for _ in range(12):
        told.append(file.read_text())
        scene.clock.pass_(0.1)
        assert scene.pan > 2048
    scene.bus.close()
    assert told == [""] * 12
    (line,) = file.read_text().splitlines()
    assert json.loads(line) == {"seed": 1, "success": False, "label": "over", "steps": 12}
    assert scene.world.seeds[:2] == [1, 2]


def test_outcomes_that_cannot_be_written_or_of_a_plant_without_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The outcomes cannot be written"):
        Scene(outcomes=tmp_path / "none" / "outcomes")
    with pytest.raises(UsageError, match="'outcomes' is given for the plant 'servo', which has no episodes"):
        make_bus(EmulatorSpec(profile=RobotProfile.load("so101"), outcomes="here"))


def test_where_no_scene_lets_the_arm_back_the_joints_jump() -> None:
    scene = Scene(episode=1, seed=3)
    scene.go(2048)
    scene.clock.pass_(0.05)
    assert scene.pan == pytest.approx(2048 + (0.3 + 1.4) / 2 * TURN, abs=1)  # half of the way
    assert scene.world.seeds == [3, *range(4, 15)]


def test_a_world_that_breaks_takes_the_port_away(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()

    def broken(action: object) -> None:
        raise RuntimeError("the physics exploded")

    monkeypatch.setattr(scene.world, "step", broken)
    scene.go(2500)
    scene.clock.pass_(0.2)
    with pytest.raises(RuntimeError, match="the physics exploded"):
        scene.bus.advance()


def test_beside_the_bus_a_slow_world_keeps_no_reply_waiting() -> None:
    world, clock = World(), Clock()
    steps = joint_steps(PROFILE, default_calibration(PROFILE))
    plant = EnvironmentPlant(world, steps, seed=1, clock=clock, wait=False)
    bus = EmulatedBus({"pan": 1, "grip": 2}, plant, clock=clock)
    write(bus, "pan", reg.GOAL_POSITION, 2048)
    for _ in range(2000):
        clock.pass_(0.01)
        if read(bus, "pan", reg.PRESENT_POSITION) == 2048:
            break
    assert read(bus, "pan", reg.PRESENT_POSITION) == 2048
    bus.close()


def test_the_tabletop_moves_by_its_name_and_only_with_its_own_robot(tmp_path: Path) -> None:
    clock = Clock()
    spec = EmulatorSpec(profile=RobotProfile.load("tabletop"), plant="environment:tabletop")
    bus = make_bus(spec, clock=clock, frames=tmp_path)
    start = read(bus, "shoulder_pan", reg.PRESENT_POSITION)
    write(bus, "shoulder_pan", reg.GOAL_POSITION, start + 200)
    clock.pass_(3.0)
    assert read(bus, "shoulder_pan", reg.PRESENT_POSITION) == pytest.approx(start + 200, abs=12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["side.frames", "top.frames"]
    bus.close()
    with pytest.raises(UsageError, match="has the robot 'tabletop'"):
        make_bus(EmulatorSpec(profile=RobotProfile.load("so101"), plant="environment:tabletop"))
    with pytest.raises(UsageError, match="Unknown environment 'none'"):
        make_bus(EmulatorSpec(profile=RobotProfile.load("so101"), plant="environment:none"))
