"""An arm that only rehearses: everything goes on as if it obeyed, and nothing is sent. Rate and share of a run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from smolpilot.contracts import Flag, Joints, StopCategory
from smolpilot.runtime.governed_robot import GovernedRobot

from .safety.helpers_rig import HOME, PAN, PROFILE, SPEEDS, TICK, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(connect=False) as made:
        made.robot.open()
        made.robot.rehearse()
        yield made


def to(pan: float) -> Joints:
    action = HOME.copy()
    action[PAN] = pan
    return action


def test_nothing_is_sent_and_the_arm_is_taken_to_be_where_it_would_be(rig: Rig) -> None:
    before = len(rig.bus.log)
    sent = rig.run(to(20.0), 90)
    assert sent.commanded[PAN] == pytest.approx(20.0, abs=0.1)
    assert sent.measured is not None
    assert abs(sent.measured[PAN]) < 0.2, "the log has where it really is"
    assert sent.stop is None, "it is no tracking error that it does not follow"
    assert not rig.goal_writes(before)
    assert not any(servo.torque for servo in rig.bus.servos.values())


def test_clamps_and_stops_are_those_of_a_real_run(rig: Rig) -> None:
    rig.run(to(0.0), 20)  # past the ramp
    assert Flag.VELOCITY in rig.tick(to(100.0)).flags
    rig.robot.stop(StopCategory.POWER_OFF)
    assert rig.tick(to(0.0)).stop is not None
    assert not any(servo.torque for servo in rig.bus.servos.values())
    rig.robot.rearm()
    assert rig.tick(to(0.0)).stop is None


def test_it_can_be_imagined_elsewhere_as_far_as_its_limits_let_it(rig: Rig) -> None:
    rig.run(to(0.0), 20)
    rig.robot.imagine(to(30.0), np.zeros(6))
    assert rig.tick(to(30.0)).commanded[PAN] == pytest.approx(30.0, abs=0.1)
    rig.robot.imagine(to(500.0), np.full(6, 1e6))
    assert rig.robot.governor.last_command is not None
    assert rig.robot.governor.last_command[PAN] <= rig.robot.limits.high[PAN]
    assert rig.tick(to(0.0)).commanded[PAN] <= rig.robot.limits.high[PAN]


def test_after_a_rehearsal_it_may_be_engaged(rig: Rig) -> None:
    rig.robot.disconnect()
    rig.robot.connect()
    rig.run(HOME, 3)
    assert all(servo.torque for servo in rig.bus.servos.values())
    assert rig.goal_writes()


def test_a_share_of_the_limits_and_a_rate_of_ones_own() -> None:
    with Rig(connect=False) as rig:
        robot = GovernedRobot(PROFILE, rig.arm, operating_limits=SPEEDS, rate=100.0, share=0.25, clock=rig.clock)
        robot.open()
        assert robot.spec.rate == 100.0
        assert robot.limits.velocity[PAN] == pytest.approx(15.0)
        assert robot.limits.acceleration[PAN] == pytest.approx(50.0)
        assert robot.limits.high[PAN] == pytest.approx(rig_high(rig), abs=0.5), "positions stay as they are"
        robot.disconnect()
    assert pytest.approx(1 / 30) == TICK


def rig_high(rig: Rig) -> float:
    """The profile's limit of the first joint."""
    limits = PROFILE.action_joints[PAN].position_limits
    assert limits is not None
    return limits[1]
