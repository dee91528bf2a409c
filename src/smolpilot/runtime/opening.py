"""From a robot setup to an arm behind the governor."""

from __future__ import annotations

import time
from collections.abc import Callable

from smolpilot.robots.demonstrated import Demonstrated

from .governed_robot import GovernedRobot
from .setup.robot_setup import RobotSetup


def make_robot(
    setup: RobotSetup, *, demonstrated: Demonstrated | None = None, clock: Callable[[], float] = time.monotonic
) -> GovernedRobot:
    """The arm and cameras of a setup, not yet connected.

    demonstrated: what a policy's demonstrations show, which its limits are then held to.
    """
    driver = setup.make_driver(clock=clock)
    return GovernedRobot(
        setup.profile,
        driver,
        setup.make_cameras(driver, clock=clock),
        operating_limits=setup.operating_limits,
        demonstrated_velocity=None if demonstrated is None else demonstrated.velocity,
        demonstrated_acceleration=None if demonstrated is None else demonstrated.acceleration,
        options=setup.governor,
        clock=clock,
    )
