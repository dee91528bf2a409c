"""Which profile a dataset's robot has: the named one, else by its robot_type, else by its joint names. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from smolpilot.common.errors import ProfileError
from smolpilot.common.keys import ACTION, STATE

from .layout import FrameLayout, map_layout
from .mapping import JointLayout, placeholder_names
from .profile import RobotProfile, list_profiles, plain_type, spellings
from .unit_rules import UnitFinding, unit_findings

NONE = "none"  # `--robot none`: no profile

type Ranges = Mapping[str, tuple[Any, Any]]

_FEW = 4  # fewer equal names are chance
# Written as robot_type by LeRobot 0.2 to 0.4.2 only, whose `use_degrees` was false by default (config_so100_follower.py
# of those versions; so_follower, since 0.4.3, records degrees by default since 0.4.4).
_OF_SERVO_RANGE = ("so100follower", "so101follower", "biso100follower")
_OF_DEGREES = ("sofollower", "bisofollower")


@dataclass(frozen=True)
class UnitDoubt:
    """What a profile's units were assumed to be, where datasets of the same robot exist in two; with a reason to
    doubt it, `severity` is a warning."""

    severity: Literal["ok", "warning"]
    text: str
    fix: str


def choose_profile(
    robot: str | None,
    *,
    robot_type: str | None,
    state_names: Sequence[str],
    action_names: Sequence[str],
    notes: list[str],
    ranges: Ranges | None = None,
) -> RobotProfile | None:
    """The profile that every verb takes for a dataset; `notes` says which and why.

    robot: a shipped name, the path of a YAML file, `none` for no profile, or None: by robot_type, then by joint names.
    ranges: recorded minimum and maximum of state and action [S], [A], in the dataset's order: where they are surely in
    the robot's other unit, its profile in that unit is taken. Returns None when nothing fits, or more than one does:
    the note names them. Raises ProfileError for an unknown name or a file with a mistake.
    """
    if robot is not None and robot.strip().lower() == NONE:
        notes.append("robot: no profile, by --robot none: units and limits are unknown")
        return None
    if robot is not None:
        return RobotProfile.load(robot)
    layout = _layout(state_names, action_names)
    typed = _of_type(robot_type)
    fitting = [profile for profile in typed if layout is not None and _fits(layout, profile)]
    if typed and not fitting:
        found = _misfit(layout, typed[0])
        notes.append(f"robot: the profile '{typed[0].name}' of {robot_type} does not fit ({found}) and is not used")
    why = f"by the dataset's robot_type {robot_type}"
    if not fitting and layout is not None and _telling(state_names):
        fitting = [profile for profile in _originals() if _fits(layout, profile)]
        why = "by its joint names"
        if len(fitting) > 1:
            named = ", ".join(profile.name for profile in fitting)
            notes.append(f"robot: the joint names fit {named}: --robot NAME says which (units and limits are unknown)")
            return None
    if not fitting or layout is None:
        notes.append(_nothing(None if typed else robot_type, state_names))
        return None
    plain = plain_type(robot_type)
    profile = max(fitting, key=lambda candidate: (_exact(layout, candidate), plain_type(candidate.name) == plain))
    chosen, swap = _in_recorded_units(profile, layout, ranges)
    by_place = "; its joints by their places, since the dataset names none" if placeholder_names(state_names) else ""
    notes.append(f"robot: {chosen.name}, {why}{by_place}{swap}")
    return chosen


def unit_doubt(
    profile: RobotProfile,
    *,
    robot_type: str | None,
    version: str | None,
    state_names: Sequence[str],
    action_names: Sequence[str],
    ranges: Ranges | None,
) -> UnitDoubt | None:
    """What is assumed of a robot whose datasets exist in degrees and in -100..100; None for all others."""
    if profile.other_units is None:
        return None
    other = f"--robot {profile.other_units}"
    if not any(joint.unit == "deg" for joint in profile.joints):
        return UnitDoubt("ok", f"taken as -100..100; datasets made with use_degrees: true hold degrees ({other})", "")
    layout = _layout(state_names, action_names)
    if layout is None or not _fits(layout, profile) or _beyond_servo_range(profile, layout, ranges):
        return None
    reason = ""
    if plain_type(robot_type) in _OF_SERVO_RANGE:
        reason = f"LeRobot wrote robot_type {robot_type} before 0.4.3"
    elif version is not None and version.startswith(("v1", "v2")) and plain_type(robot_type) not in _OF_DEGREES:
        reason = f"LeRobot wrote format {version} before 0.4"
    if reason:
        return UnitDoubt("warning", f"taken as deg; but {reason}, when it recorded -100..100 by default", other)
    return UnitDoubt("ok", f"taken as deg; datasets recorded before LeRobot 0.6 may hold -100..100 ({other})", "")


def better_robot(
    profile: RobotProfile, robot_type: str | None, state_names: Sequence[str], action_names: Sequence[str]
) -> str:
    """The option that names a fitting profile where `profile` has other joints than the dataset; or nothing."""
    notes: list[str] = []
    found = choose_profile(None, robot_type=robot_type, state_names=state_names, action_names=action_names, notes=notes)
    if found is None or found.name == profile.name:
        return ""
    said = f"this dataset says robot_type {robot_type}" if robot_type else "its joints are that robot's"
    return f"{said}: --robot {found.name}"


def findings_of(
    profile: RobotProfile, layout: FrameLayout, ranges: Ranges, *, chosen: bool
) -> dict[str, list[UnitFinding]]:
    """The rule on units for state and action; ranges in the dataset's order, units as in `layout`."""
    found: dict[str, list[UnitFinding]] = {}
    sides = zip((STATE, ACTION), map_layout(layout, profile), (layout.state, layout.action), strict=True)
    joints = {STATE: profile.state_joints, ACTION: profile.action_joints}
    for key, mapping, source in sides:
        if key not in ranges:
            continue
        low, high = (mapping.forward(np.asarray(values, np.float64).reshape(-1)) for values in ranges[key])
        found[key] = unit_findings(
            joints[key], low, high, names=[source.names[i] for i in mapping.order], what=key, commanded=key == ACTION,
            chosen=chosen, other_units=profile.other_units,
            told=any(unit != "unknown" for unit in source.units or ()),
        )  # fmt: skip
    return found


def _in_recorded_units(profile: RobotProfile, layout: FrameLayout, ranges: Ranges | None) -> tuple[RobotProfile, str]:
    """The same robot's other profile where the numbers are surely in its unit, and the words that say so."""
    if ranges is None or profile.other_units is None:
        return profile, ""
    other = RobotProfile.load(profile.other_units)
    own = {joint.unit for joint in other.joints}
    for findings in findings_of(profile, layout, ranges, chosen=True).values():
        for found in findings:
            if found.severity == "error" and found.unit in own and _fits(layout, other):
                return other, f"; not {profile.name}: {found.text}"
    return profile, ""


def _beyond_servo_range(profile: RobotProfile, layout: FrameLayout, ranges: Ranges | None) -> bool:
    """Whether a joint in degrees was read beyond what -100..100 can hold."""
    if ranges is None or STATE not in ranges:
        return False
    order = map_layout(layout, profile)[0].order
    low, high = (np.asarray(values, np.float64).reshape(-1) for values in ranges[STATE])
    sizes = np.maximum(np.abs(low), np.abs(high))
    pairs = zip(order, profile.state_joints, strict=True)
    return any(joint.unit == "deg" and sizes[place] > 100.5 for place, joint in pairs)


@cache
def _shipped() -> tuple[RobotProfile, ...]:
    return tuple(RobotProfile.load(name) for name in list_profiles())


def _originals() -> list[RobotProfile]:
    """The shipped profiles that a dataset can mean by its joints: not those of the same robot in another unit."""
    return [profile for profile in _shipped() if profile.robot_types]


def _of_type(robot_type: str | None) -> list[RobotProfile]:
    plain = plain_type(robot_type)
    if not plain:
        return []
    own = [p for p in _shipped() if plain in map(plain_type, p.robot_types)]
    return own or [p for p in _shipped() if plain == plain_type(p.name)]


def _layout(state_names: Sequence[str], action_names: Sequence[str]) -> FrameLayout | None:
    try:
        return FrameLayout(JointLayout(tuple(state_names)), JointLayout(tuple(action_names)))
    except ProfileError:  # names that are not unique
        return None


def _fits(layout: FrameLayout, profile: RobotProfile) -> bool:
    return not _misfit(layout, profile)


def _misfit(layout: FrameLayout | None, profile: RobotProfile) -> str:
    """What keeps a dataset from being this robot's; nothing where it fits."""
    if layout is None:
        return "the joint names are not unique"
    try:
        map_layout(layout, profile)
    except ProfileError as error:
        return error.found.rstrip(".")
    return ""


def _exact(layout: FrameLayout, profile: RobotProfile) -> int:
    """How many joints have the profile's own names, not aliases."""
    own = {joint.name for joint in profile.joints}
    return sum(not own.isdisjoint(spellings(name)) for name in layout.state.names)


def _telling(names: Sequence[str]) -> bool:
    """Whether the names say more than a number: `motor_0` and `joint_3` are every robot's."""
    speaking = [
        name
        for name in names
        if not re.fullmatch(r"(?i)[a-z]|(motor|joint|axis|dim|dof|servo|j|m|l|q)?[ _.-]*\d+(\.pos)?", name)
    ]
    return len(speaking) >= _FEW and not placeholder_names(names)


def _nothing(robot_type: str | None, names: Sequence[str]) -> str:
    head = f"no profile for '{robot_type}' is named or shipped" if robot_type else "no profile is used"
    near = _nearest(names)
    return (
        f"robot: {head}: joints and cameras are the dataset's, units and limits are unknown (--robot PROFILE gives them"
        + (f"; {near})" if near else ")")
    )


def _nearest(names: Sequence[str]) -> str:
    """The shipped profile that shares most joint names, where it shares half of them."""
    best, shared = None, 0
    for profile in _originals():
        count = sum(profile.find(name) is not None for name in names) if _telling(names) else 0
        if count > shared and 2 * count >= len(names):
            best, shared = profile, count
    if best is None:
        return ""
    strange = [name for name in names if best.find(name) is None]
    lacking = len(best.joints) - shared
    rest = [
        *([f"not {', '.join(strange[:3])}"] if strange else []),
        *([f"lacks {lacking} of its joints"] if lacking else []),
    ]
    return f"nearest by joint names: {best.name}, {shared} of {len(names)}" + (f", {', '.join(rest)}" if rest else "")
