"""Operating limits: what each joint may do, and where each number comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pydantic

from smolpilot.common.errors import UsageError
from smolpilot.contracts import DriverLimits, Joints
from smolpilot.robots import RobotProfile
from smolpilot.robots.profile import Joint

DEFAULT_SPEED = 0.2
"""Of a joint's position range per second, where neither demonstrations nor the setup say how fast it may be."""
STOPPING_S = 0.3
"""Seconds from full speed to rest, where nobody says how hard a joint may brake."""
TRACKING_SHARE, TRACKING_S = 0.1, 0.15
"""A measured position may be this share of the range, and what the joint covers in this time, from the command."""
TRACKING_STEPS = 24
"""Steps of its servo that it may be from it at least: a loaded arm sags by so much, however small the range is."""
GRIPPER_TORQUE = 0.5
"""Of what a gripper's motor can give: LeRobot's value, which spares the motor."""

_Positive = Annotated[float, pydantic.Field(gt=0)]


class OperatingLimit(pydantic.BaseModel):
    """What a setup says of one joint, in the profile's units: `position` (lowest, highest), `velocity` per second,
    `acceleration` per second squared, `tracking_error` between command and measurement, `torque` as a share of what
    the motor can give. Left out: what demonstrations, calibration and profile say."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    position: Annotated[
        tuple[float, float] | None,
        pydantic.BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    ] = None
    velocity: _Positive | None = None
    acceleration: _Positive | None = None
    tracking_error: _Positive | None = None
    torque: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> OperatingLimit:
        if self.position is not None and self.position[0] >= self.position[1]:
            raise ValueError(f"position: minimum {self.position[0]:g} is not below maximum {self.position[1]:g}")
        return self


@dataclass(frozen=True)
class Bound:
    """A number, and where it comes from, in words for a person."""

    value: float
    origin: str


@dataclass(frozen=True)
class JointLimits:
    """The limits in force for a joint, in its own unit. `torque` is None where the motor's own limit holds."""

    joint: str
    unit: str
    low: Bound
    high: Bound
    velocity: Bound
    acceleration: Bound
    tracking: Bound
    torque: Bound | None
    gripper: bool

    @property
    def range(self) -> float:
        """From the lowest position to the highest one."""
        return self.high.value - self.low.value


@dataclass(frozen=True)
class EffectiveLimits:
    """The limits of all joints of an action, in order [A]."""

    joints: tuple[JointLimits, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(joint.joint for joint in self.joints)

    @property
    def low(self) -> Joints:
        return np.array([joint.low.value for joint in self.joints])

    @property
    def high(self) -> Joints:
        return np.array([joint.high.value for joint in self.joints])

    @property
    def velocity(self) -> Joints:
        return np.array([joint.velocity.value for joint in self.joints])

    @property
    def acceleration(self) -> Joints:
        return np.array([joint.acceleration.value for joint in self.joints])

    @property
    def tracking(self) -> Joints:
        return np.array([joint.tracking.value for joint in self.joints])

    @property
    def gripper(self) -> npt.NDArray[np.bool_]:
        return np.array([joint.gripper for joint in self.joints], dtype=bool)

    def scaled(self, share: float) -> EffectiveLimits:
        """The same with `share` of velocity and acceleration, 0 < share <= 1: a source can tighten, never loosen."""
        if not 0 < share <= 1:
            raise UsageError(f"A share of {share:g} of the limits.", expected="above 0 and at most 1")
        if share == 1:
            return self
        return EffectiveLimits(
            tuple(
                JointLimits(
                    **{
                        **vars(joint),
                        "velocity": _scaled(joint.velocity, share),
                        "acceleration": _scaled(joint.acceleration, share),
                    }
                )
                for joint in self.joints
            )
        )


def effective_limits(
    profile: RobotProfile,
    servos: Mapping[str, DriverLimits],
    setup: Mapping[str, OperatingLimit],
    *,
    demonstrated_velocity: Mapping[str, float | None] | None = None,
    demonstrated_acceleration: Mapping[str, float | None] | None = None,
) -> EffectiveLimits:
    """The limits of the action's joints: of positions what profile, calibration and setup have in common; of velocity
    and acceleration the lowest of demonstrations, setup and profile; a careful default where neither of the first two
    says one.

    servos: joint -> what its servo is held to. demonstrated_...: joint -> what demonstrations show, None for a joint
    that never moved. UsageError for a joint without any bound of its position, and where sources exclude each other.
    """
    return EffectiveLimits(
        tuple(
            _limits_of(
                joint,
                joint.name in profile.gripper,
                servos.get(joint.name, DriverLimits()),
                setup.get(joint.name, OperatingLimit()),
                (demonstrated_velocity or {}).get(joint.name),
                (demonstrated_acceleration or {}).get(joint.name),
            )
            for joint in profile.action_joints
        )
    )


def _check(joint: Joint, origin: str, **numbers: float | None) -> None:
    """UsageError for what is no finite number above 0: nothing could be computed with it."""
    for what, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{origin} give joint '{joint.name}' {what} {value:g}.", expected="a number above 0")


def _limits_of(
    joint: Joint,
    gripper: bool,
    servo: DriverLimits,
    setup: OperatingLimit,
    shown_velocity: float | None,
    shown_acceleration: float | None,
) -> JointLimits:
    demonstrations = "demonstrations"
    _check(joint, "The demonstrations", velocity=shown_velocity, acceleration=shown_acceleration)
    _check(joint, "The servos", steps=servo.step)
    low, high = _position(joint, servo, setup)
    span = high.value - low.value
    velocity = _lowest(
        (joint.velocity_limit, "profile (the motor's own speed)"),
        (shown_velocity, demonstrations),
        (setup.velocity, "setup"),
    )
    if shown_velocity is None and setup.velocity is None:
        default = Bound(DEFAULT_SPEED * span, f"default ({DEFAULT_SPEED:.0%} of the range per second)")
        velocity = default if velocity is None or default.value < velocity.value else velocity
    assert velocity is not None  # one of the three is there, or the default
    acceleration = _lowest((shown_acceleration, demonstrations), (setup.acceleration, "setup")) or Bound(
        velocity.value / STOPPING_S, f"default (velocity / {STOPPING_S:g} s)"
    )
    if setup.tracking_error is not None:
        tracking = Bound(setup.tracking_error, "setup")
    else:
        tracking = max(
            Bound(
                TRACKING_SHARE * span + TRACKING_S * velocity.value,
                f"default ({TRACKING_SHARE:.0%} of the range and {TRACKING_S:g} s of motion)",
            ),
            Bound(TRACKING_STEPS * (servo.step or 0.0), f"default ({TRACKING_STEPS} steps of its servo)"),
            key=lambda bound: bound.value,
        )
    torque = Bound(setup.torque, "setup") if setup.torque is not None else None
    if torque is None and gripper:
        torque = Bound(GRIPPER_TORQUE, "default of a gripper")
    return JointLimits(joint.name, joint.unit, low, high, velocity, acceleration, tracking, torque, gripper)


def _position(joint: Joint, servo: DriverLimits, setup: OperatingLimit) -> tuple[Bound, Bound]:
    """The interval that all sources have in common, on the grid of what the servo can be told."""
    sources = [
        (limits, origin)
        for limits, origin in (
            (joint.position_limits, "profile"),
            (servo.position, "calibration"),
            (setup.position, "setup"),
        )
        if limits is not None
    ]
    if not sources:
        raise UsageError(
            f"Joint '{joint.name}' has no position limit: neither profile nor calibration nor setup says one.",
            expected="an interval that it may move in; `unknown` never means unlimited",
            fix=f"add `operating_limits: {{{joint.name}: {{position: [LOW, HIGH]}}}}` to the setup",
        )
    if not all(math.isfinite(end) for limits, _ in sources for end in limits):
        raise UsageError(f"The position limits of joint '{joint.name}' are no numbers.", expected="an interval")
    low = max((Bound(limits[0], origin) for limits, origin in sources), key=lambda bound: bound.value)
    high = min((Bound(limits[1], origin) for limits, origin in sources), key=lambda bound: bound.value)
    said = f"it is {low.value:g} {joint.unit} at least ({low.origin}) and {high.value:g} at most ({high.origin})"
    fix = "check the calibration, and `operating_limits` in the setup"
    if low.value >= high.value:
        raise UsageError(f"Joint '{joint.name}' may nowhere be: {said}.", fix=fix)
    if servo.position is not None and servo.step is not None:
        first, step = servo.position[0], servo.step
        low = Bound(first + math.ceil((low.value - first) / step - 1e-6) * step, low.origin)
        high = Bound(first + math.floor((high.value - first) / step + 1e-6) * step, high.origin)
        if low.value >= high.value:
            raise UsageError(f"Joint '{joint.name}' may nowhere be: {said}, within a step of its servo.", fix=fix)
    return low, high


def _lowest(*bounds: tuple[float | None, str]) -> Bound | None:
    known = [Bound(value, origin) for value, origin in bounds if value is not None]
    return min(known, key=lambda bound: bound.value, default=None)


def _scaled(bound: Bound, share: float) -> Bound:
    return Bound(bound.value * share, f"{share:.0%} of {bound.value:.4g} from {bound.origin}")
