"""Robot and units of a dataset's joints: LeRobot's format states a robot_type and no units, a robot profile does."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from smolpilot.common.errors import ProfileError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.format.features import motion_keys
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.robots import RobotProfile, better_robot, choose_profile, findings_of, is_shipped, unit_doubt
from smolpilot.robots.choose import Ranges, UnitDoubt
from smolpilot.robots.layout import FrameLayout, map_layout


def find_profile(meta: DatasetMeta, robot: str | None, notes: list[str]) -> RobotProfile | None:
    """The profile of a dataset's robot, the same for every verb; `notes` says which and why.

    robot: what `--robot` says, or None. Raises ProfileError for an unknown name or a file with a mistake.
    """
    return choose_profile(
        robot,
        robot_type=meta.robot_type,
        state_names=meta.state_names,
        action_names=meta.action_names,
        notes=notes,
        ranges=stated_ranges(meta),
    )


def derive_profile(meta: DatasetMeta) -> RobotProfile:
    """A profile with the joint names and cameras of a dataset; units and limits unknown."""
    return RobotProfile.from_features(
        meta.state_names,
        meta.cameras,
        meta.fps,
        action_names=meta.action_names,
        name=meta.robot_type or "derived",
    )


def with_cameras(
    profile: RobotProfile, meta: DatasetMeta, notes: list[str], *, named: bool, used: Collection[str] | None = None
) -> RobotProfile:
    """The profile with the dataset's cameras where it lacks one of them; one's own file, named, says which there are.

    The cameras of a shipped profile are an example, and a profile that nobody named forbids none. used: the cameras
    that a policy sees, default all of the dataset's.
    """
    if not profile.cameras or set(meta.camera_names if used is None else used) <= set(profile.camera_names):
        return profile
    if named and not is_shipped(profile):
        return profile
    notes.append(f"robot: cameras are the dataset's, not those of the profile '{profile.name}'")
    return profile.model_copy(update={"cameras": derive_profile(meta).cameras})


def check_joints(meta: DatasetMeta, profile: RobotProfile) -> None:
    """ProfileError where the profile's joints are not the dataset's; its fix names the profile that fits."""
    try:
        map_layout(FrameLayout.of_dataset(meta), profile)
    except ProfileError as error:
        hint = better_robot(profile, meta.robot_type, meta.state_names, meta.action_names)
        raise ProfileError(error.found, expected=error.expected, fix=hint or error.fix) from None


def doubt_units(meta: DatasetMeta, profile: RobotProfile) -> UnitDoubt | None:
    """What is assumed of units in which datasets of this robot differ; None where they do not."""
    return unit_doubt(
        profile,
        robot_type=meta.robot_type,
        version=meta.version,
        state_names=meta.state_names,
        action_names=meta.action_names,
        ranges=stated_ranges(meta),
    )


def stated_ranges(meta: DatasetMeta) -> Ranges:
    """Minimum and maximum of state and action by the stored statistics, as far as they are there and finite."""
    found = {}
    for key in (STATE, ACTION):
        names, stored = meta.names_of(key), meta.statistics.get(motion_keys(meta.features).get(key, key), {})
        low, high = (np.asarray(stored.get(word, ()), np.float64).reshape(-1) for word in ("min", "max"))
        if 0 < len(low) == len(high) == len(names) and np.isfinite(low).all() and np.isfinite(high).all():
            found[key] = (low, high)
    return found


def joint_units(
    meta: DatasetMeta, profile: RobotProfile | None, *, chosen: bool = True, notes: list[str] | None = None
) -> dict[str, list[str | None]]:
    """The unit of each dimension of state and action; None where it is not known.

    That is throughout without a profile or without state or action, and where the numbers are surely in another unit
    than the profile's: `notes` says so. chosen: the user named the profile. Raises ProfileError when the profile's
    joints are not the dataset's.
    """
    units: dict[str, list[str | None]] = {key: [None] * len(meta.names_of(key)) for key in (STATE, ACTION)}
    if profile is None or (not chosen and not all(units.values())):
        return units
    check_joints(meta, profile)
    layout = FrameLayout.of_dataset(meta)
    found = findings_of(profile, layout, stated_ranges(meta), chosen=chosen)
    sides = zip(
        (STATE, ACTION), map_layout(layout, profile), (profile.state_joints, profile.action_joints), strict=True
    )
    for key, mapping, joints in sides:
        wrong = {name for finding in found.get(key, ()) if finding.sure for name in finding.joints}
        for joint, place in zip(joints, mapping.order, strict=True):
            units[key][place] = None if joint.unit == "unknown" or joint.name in wrong else joint.unit
        if notes is not None:
            notes += [f"units: {finding.text} ({finding.fix})" for finding in found.get(key, ())]
    return units
