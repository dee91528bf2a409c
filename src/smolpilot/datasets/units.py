"""Units of a recording's joints: LeRobot's format states none, a robot profile does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smolpilot.datasets.meta import DatasetMeta
from smolpilot.keys import ACTION, STATE

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


def joint_units(meta: DatasetMeta, profile: RobotProfile | None) -> dict[str, list[str | None]]:
    """The unit of each dimension of state and action; None throughout without a profile.

    Raises ProfileError when the profile's joints are not those of the recording.
    """
    if profile is None:
        return {STATE: [None] * len(meta.state_names), ACTION: [None] * len(meta.action_names)}
    from smolpilot.robots import JointLayout, map_joints

    units: dict[str, list[str | None]] = {}
    for key, names, joints in (
        (STATE, meta.state_names, profile.state_joints),
        (ACTION, meta.action_names, profile.action_joints),
    ):
        order = map_joints(JointLayout(tuple(names)), joints, what=f"the recording's {key}").order
        found: list[str | None] = [None] * len(names)
        for joint, place in zip(joints, order, strict=True):
            found[place] = joint.unit
        units[key] = found
    return units
