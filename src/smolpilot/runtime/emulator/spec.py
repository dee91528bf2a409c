"""EmulatorSpec: everything that an emulated arm is, as JSON can say it; `make_bus` makes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import Calibration, default_calibration, find_calibration, read_calibration
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.drivers.feetech.scale import JointScale

from .bus import EmulatedBus
from .joint_steps import JointSteps
from .options import FaultOptions, ServoOptions, Strict
from .plants import Plant, ServoPlant

_ENVIRONMENT, _MUJOCO, _SERVO = "environment", "mujoco", "servo"


def _profile(value: Any) -> Any:
    return RobotProfile.load(value) if isinstance(value, str) else value


class EmulatorSpec(Strict):
    """An arm of a profile. In JSON, `profile` may also be a name or a path."""

    profile: Annotated[RobotProfile, pydantic.BeforeValidator(_profile)]
    calibration: str | None = None
    """An id in LeRobot's folder or the path of a .json file; None: one made from the profile."""
    calibrated: bool = True
    """The servos hold the calibration; else they are as they come from the factory."""
    plant: str = _SERVO
    """What the servos move: `servo` (a motor each), `mujoco` (with `model`) or `environment:NAME`."""
    model: str | None = None
    """For MuJoCo: the path of the MJCF file, whose actuators or joints are called as the profile's joints."""
    start: dict[str, float] = pydantic.Field(default_factory=dict)
    """Joint -> where it stands at first, in the profile's unit; the middle of its range where nothing is said."""
    gravity: dict[str, float] = pydantic.Field(default_factory=dict)
    """For the plant `servo`: joint -> share of the full drive that pulls it, above 0 towards higher steps."""
    seed: Annotated[int, pydantic.Field(ge=0)] = 0
    """Of an environment's first episode."""
    outcomes: str | None = None
    """For an environment: a file that gets a line of JSON for each episode that ends: seed, success, label, steps."""
    servos: ServoOptions = ServoOptions()
    faults: FaultOptions = FaultOptions()
    folder: str | None = None
    """Made, and removed in the end: `port` (a link to it), `calibration.json`, `frames`. None: a temporary one."""
    link: str | None = None
    """A further path that is to lead to the port."""


def calibration_of(spec: EmulatorSpec) -> Calibration:
    """The arm's calibration, in the order of its joints."""
    if spec.calibration is None:
        return default_calibration(spec.profile)
    return read_calibration(find_calibration(spec.calibration), spec.profile)


def joint_steps(profile: RobotProfile, calibration: Calibration) -> dict[str, JointSteps]:
    """Joint -> how its encoder's steps and its unit go together."""
    return {
        joint.name: JointSteps(JointScale.of(joint, calibration[joint.name]), calibration[joint.name].homing_offset)
        for joint in profile.action_joints
    }


def make_bus(
    spec: EmulatorSpec,
    *,
    clock: Callable[[], float] = time.monotonic,
    frames: Path | None = None,
    log_size: int | None = None,
    link: Path | None = None,
    wait: bool = True,
) -> EmulatedBus:
    """The bus, not yet started. frames: the folder where an environment's images go, which has to be there.

    wait: the environment takes its steps within the bus's own time, as tests want it; else beside it, so that the bus
    never answers late. UsageError for what the spec says of joints that the profile has not.
    """
    calibration = calibration_of(spec)
    steps = joint_steps(spec.profile, calibration)
    for key, values in (("start", spec.start), ("gravity", spec.gravity)):
        if unknown := sorted(values.keys() - steps.keys()):
            raise UsageError(f"'{key}' names joint '{unknown[0]}'.", fix=did_you_mean(unknown[0], steps))
    if unknown := sorted(set(spec.faults.silent) - steps.keys()):
        raise UsageError(f"'silent' names joint '{unknown[0]}'.", fix=did_you_mean(unknown[0], steps))
    bus = EmulatedBus(
        {name: calibration[name].id for name in steps},
        _plant(spec, steps, clock, frames, wait=wait),
        clock=clock, options=spec.servos, faults=spec.faults, log_size=log_size, link=link,
    )  # fmt: skip
    if spec.calibrated:
        for name, servo in bus.servos.items():
            servo.set(reg.MIN_POSITION, calibration[name].range_min)
            servo.set(reg.MAX_POSITION, calibration[name].range_max)
            servo.set(reg.HOMING_OFFSET, calibration[name].homing_offset)
            servo.power_up()  # its goal is where it stands, by its new offset
    return bus


def _plant(
    spec: EmulatorSpec, steps: Mapping[str, JointSteps], clock: Callable[[], float], frames: Path | None, *, wait: bool
) -> Plant:
    kind, _, name = spec.plant.partition(":")
    start = {joint: each.encoder(spec.start.get(joint)) for joint, each in steps.items()}
    if spec.gravity and kind != _SERVO:
        raise UsageError(f"'gravity' is given for the plant '{spec.plant}', which has its own.")
    if spec.outcomes is not None and kind != _ENVIRONMENT:
        raise UsageError(f"'outcomes' is given for the plant '{spec.plant}', which has no episodes.")
    if spec.plant == _SERVO:
        return ServoPlant(start, gravity=spec.gravity)
    if spec.plant == _MUJOCO:
        from .mujoco_plant import MujocoPlant

        if spec.model is None:
            raise UsageError("The plant 'mujoco' has no model.", expected="`model`: the path of an MJCF file")
        return MujocoPlant(Path(spec.model).expanduser(), steps, start)
    if kind == _ENVIRONMENT and name:
        from .environment_plant import EnvironmentPlant

        if spec.start:
            raise UsageError(f"'start' is given for the plant '{spec.plant}', whose episodes have their own.")
        outcomes = None if spec.outcomes is None else Path(spec.outcomes).expanduser()
        return EnvironmentPlant.of_name(
            name, spec.profile, steps, frames=frames, outcomes=outcomes, seed=spec.seed, clock=clock, wait=wait
        )
    raise UsageError(f"There is no plant '{spec.plant}'.", expected="servo, mujoco, or environment:NAME")
