"""MujocoPlant: an arm of MuJoCo's, moved by its position actuators, with contacts and gravity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.errors import SimulationError, UsageError
from smolpilot.common.text import plain

from .joint_steps import JointSteps
from .plants import JointCommand, JointState

_GAIN = 1 / 150  # share of the drive for each step at the gain that a servo has from the factory


class _Motor:
    """Where one joint is in the model: its places in qpos and qvel, its actuator and that one's constants."""

    def __init__(self, model: Any, name: str, steps: JointSteps, where: Path) -> None:
        import mujoco

        self.steps = steps
        joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
        if joint < 0:
            known = [model.joint(index).name for index in range(model.njnt)]
            raise UsageError(
                f"{plain(where)} has no joint '{name}'.", expected=f"the profile's joints; it has {', '.join(known)}"
            )
        driven = [
            index
            for index in range(model.nu)
            if model.actuator_trnid[index, 0] == joint and model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT
        ]
        if len(driven) != 1 or not model.actuator_biasprm[driven[0], 1] or not model.actuator_forcelimited[driven[0]]:
            raise UsageError(
                f"{plain(where)} drives joint '{name}' by {len(driven)} actuators.",
                expected="one actuator `position` for each joint, with a `forcerange`",
            )
        self.actuator = driven[0]
        self.qpos, self.qvel = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
        self.range = tuple(float(end) for end in model.jnt_range[joint]) if model.jnt_limited[joint] else None
        self.gains = model.actuator_gainprm[self.actuator].copy(), model.actuator_biasprm[self.actuator].copy()
        self.force = float(abs(model.actuator_forcerange[self.actuator]).max())
        scale = steps.scale
        if scale.turn is not None:
            self.unit = 2 * 3.141592653589793 / scale.turn  # radians of the model for a unit
        elif self.range is not None:
            self.unit = (self.range[1] - self.range[0]) / (scale.high - scale.low)
        else:
            raise UsageError(f"Joint '{name}' of {plain(where)} has no range, which the profile's scale is to cover.")

    def angle(self, encoder: float) -> float:
        """Of the model, for steps of the encoder."""
        value = self.steps.scale.value(encoder - self.steps.offset)
        if self.range is None or self.steps.scale.turn is not None:
            return value * self.unit
        return self.range[0] + (value - self.steps.scale.low) * self.unit

    def encoder(self, angle: float) -> float:
        """Steps of the encoder, for an angle of the model."""
        if self.range is None or self.steps.scale.turn is not None:
            return self.steps.encoder(angle / self.unit)
        return self.steps.encoder(self.steps.scale.low + (angle - self.range[0]) / self.unit)


class MujocoPlant:
    """Each joint of the profile is a joint of the model with a position actuator, whose `forcerange` is the full drive.

    Angles are the model's; a scale of its own covers the joint's range. Without torque an actuator has no gain.
    """

    def __init__(self, path: Path, steps: Mapping[str, JointSteps], start: Mapping[str, float]) -> None:
        """start: joint -> steps of the encoder. UsageError for a model that is missing or does not fit."""
        try:
            import mujoco
        except ImportError:
            raise UsageError("MuJoCo is not installed.", fix="pip install mujoco") from None
        if not path.is_file():
            raise UsageError(f"The model {plain(path)} does not exist or is no file.", fix="Check the path.")
        try:
            self._model: Any = mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise UsageError(f"MuJoCo cannot read {plain(path)}: {plain(error, 300)}.") from None
        self._data: Any = mujoco.MjData(self._model)
        self._motors = [_Motor(self._model, name, each, path) for name, each in steps.items()]
        for motor, name in zip(self._motors, steps, strict=True):
            self._data.qpos[motor.qpos] = motor.angle(start[name])
        self._advance = mujoco.mj_step
        mujoco.mj_forward(self._model, self._data)
        self._left = 0.0

    def advance(self, dt: float, commands: Sequence[JointCommand]) -> Sequence[JointState]:
        for motor, command in zip(self._motors, commands, strict=True):
            self._ask(motor, command)
        self._left += dt
        steps = int(self._left / self._model.opt.timestep + 1e-9)
        self._left -= steps * self._model.opt.timestep
        if steps:
            self._advance(self._model, self._data, nstep=steps)
            if self._data.warning.number.any():  # of an unstable simulation, after which MuJoCo begins anew
                raise SimulationError("MuJoCo's simulation became unstable.", fix="give the model a smaller timestep")
        return [self._state(motor) for motor in self._motors]

    def close(self) -> None:
        return

    def _ask(self, motor: _Motor, command: JointCommand) -> None:
        goal, force, gain = command
        index, model = motor.actuator, self._model
        share = 0.0 if goal is None else gain / _GAIN
        model.actuator_gainprm[index], model.actuator_biasprm[index] = motor.gains
        model.actuator_gainprm[index, 0] *= share
        model.actuator_biasprm[index, :2] *= share  # the damping stays: gears have it without power too
        model.actuator_forcerange[index] = (-motor.force, motor.force) if goal is None else (
            -motor.force * force, motor.force * force
        )  # fmt: skip
        self._data.ctrl[index] = 0.0 if goal is None else motor.angle(goal)

    def _state(self, motor: _Motor) -> JointState:
        position = motor.encoder(float(self._data.qpos[motor.qpos]))
        per_step = motor.unit * motor.steps.scale.per_step
        load = float(self._data.actuator_force[motor.actuator]) / motor.force * (1 if per_step > 0 else -1)
        return JointState(position, float(self._data.qvel[motor.qvel]) / per_step, load, load)
