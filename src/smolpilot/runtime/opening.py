"""From a robot setup to an arm behind the governor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from smolpilot.common.errors import UsageError
from smolpilot.contracts import Camera, Driver
from smolpilot.robots import RobotProfile
from smolpilot.robots.demonstrated import Demonstrated

from .governed_robot import GovernedRobot
from .setup.robot_setup import RobotSetup

type Shown = dict[str, float | None]


def make_robot(
    setup: RobotSetup,
    *,
    demonstrated: Demonstrated | None = None,
    driver: Driver | None = None,
    cameras: bool | Callable[[Driver], Mapping[str, Camera]] = True,
    rate: float | None = None,
    share: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
) -> GovernedRobot:
    """The arm and cameras of a setup, not yet connected; without cameras where nothing looks through them.

    demonstrated: what a policy's demonstrations show, which its limits are then held to. driver: the setup's, where it
    was made before, connected or not. cameras: what makes others than the setup's own. rate, share: as GovernedRobot
    has them.
    """
    velocity, acceleration = shown_limits(demonstrated, setup.profile)
    driver = driver or setup.make_driver(clock=clock)
    make = cameras if callable(cameras) else partial(setup.make_cameras, clock=clock)
    seen = make(driver) if cameras else {}
    return GovernedRobot(
        setup.profile,
        driver,
        seen,
        operating_limits=setup.operating_limits,
        demonstrated_velocity=velocity,
        demonstrated_acceleration=acceleration,
        options=setup.governor,
        rate=rate,
        share=share,
        clock=clock,
    )


def shown_limits(demonstrated: Demonstrated | None, profile: RobotProfile) -> tuple[Shown, Shown]:
    """Velocity and acceleration by joint, in the profile's units; UsageError for a unit that does not convert."""
    velocity: Shown = {}
    acceleration: Shown = {}
    for limits in () if demonstrated is None else demonstrated.joints:
        joint = profile.joint(limits.name)
        factor = joint.factor_from(limits.unit)
        if factor is None or (limits.unit == "unknown") != (joint.unit == "unknown"):
            raise UsageError(
                f"The policy's demonstrations have joint '{limits.name}' in {limits.unit}.",
                expected=f"{joint.unit}, as the profile '{profile.name}' has it, or a unit that converts into it",
                fix="use the profile that the policy was trained with in the setup",
            )
        velocity[joint.name] = None if limits.velocity is None else limits.velocity * factor
        acceleration[joint.name] = None if limits.acceleration is None else limits.acceleration * factor
    return velocity, acceleration
