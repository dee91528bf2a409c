"""What a source of commands says of its numbers, against what the robot wants: joints by name, units by factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.contracts import Joints
from smolpilot.robots import RobotProfile


class JointOrder:
    """Turns a source's action, with `names` and `units` of its own, into the robot's order and units."""

    def __init__(self, profile: RobotProfile, names: Sequence[str], units: Sequence[str]) -> None:
        """UsageError for a joint that the robot does not have or that is missing or doubled, and for a unit that
        nothing converts into the joint's: what is not known is not sent."""
        own = [joint.name for joint in profile.action_joints]
        found: dict[str, tuple[int, float]] = {}
        for index, (name, unit) in enumerate(zip(names, units, strict=True)):
            joint = profile.find(name)
            if joint is None or joint.name not in own:
                raise UsageError(f"Robot '{profile.name}' has no joint '{name}'.", fix=did_you_mean(name, own))
            if joint.name in found:
                raise UsageError(f"Joint '{joint.name}' is commanded twice.", expected="one value for each joint")
            factor = None if "unknown" in (unit, joint.unit) else joint.factor_from(unit)
            if factor is None:
                raise UsageError(
                    f"Joint '{joint.name}' is commanded in the unit '{unit}'.",
                    expected=f"{joint.unit}, or a unit that converts into it",
                    fix="name the units of what is asked for, or use the profile that has them",
                )
            found[joint.name] = index, factor
        if missing := [name for name in own if name not in found]:
            raise UsageError(f"Nothing commands the joint '{missing[0]}'.", expected=f"all of {', '.join(own)}")
        self._index = np.array([found[name][0] for name in own])
        self._factor = np.array([found[name][1] for name in own])

    def __call__(self, action: Joints) -> Joints:
        """The action [A] in the robot's order and units."""
        ordered: Joints = np.asarray(action, dtype=np.float64)[self._index] * self._factor
        return ordered


class StateOrder:
    """Turns the robot's state into the order and units that a policy reads it in: joints by name, units by factor."""

    def __init__(self, profile: RobotProfile, names: Sequence[str], units: Sequence[str]) -> None:
        """UsageError for a joint that the robot does not read, and for a unit that nothing converts into."""
        own = [joint.name for joint in profile.state_joints]
        index, factors = [], []
        for name, unit in zip(names, units, strict=True):
            joint = profile.find(name)
            if joint is None or joint.name not in own:
                raise UsageError(f"Robot '{profile.name}' reads no joint '{name}'.", fix=did_you_mean(name, own))
            factor = None if "unknown" in (unit, joint.unit) else joint.factor_from(unit)
            if factor is None:
                raise UsageError(
                    f"The policy reads joint '{joint.name}' in the unit '{unit}'.",
                    expected=f"{joint.unit}, or a unit that converts into it",
                    fix="use the profile that the policy was trained with in the setup",
                )
            index.append(own.index(joint.name))
            factors.append(1.0 / factor)
        self._index, self._factor = np.array(index, dtype=int), np.array(factors)

    def __call__(self, state: Joints) -> Joints:
        """The state [S] as the policy reads it."""
        ordered: Joints = np.asarray(state, dtype=np.float64)[self._index] * self._factor
        return ordered
