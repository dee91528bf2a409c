"""FrameLayout: which joint is where in a frame and in which unit; from a dataset's order to a profile's. No torch."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from smolpilot.common.errors import ProfileError, UsageError, did_you_mean
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import listed_joints

from .mapping import JointLayout, JointMapping, map_joints
from .profile import Joint, RobotProfile, spellings
from .units import SPELLINGS, Unit, kind_of

_ALL = "all"


class Named(Protocol):
    """What knows the names of a dataset's dimensions, such as its metadata."""

    @property
    def state_names(self) -> list[str]: ...

    @property
    def action_names(self) -> list[str]: ...


@dataclass(frozen=True)
class FrameLayout:
    """Which joint is where in the state and the action of a frame."""

    state: JointLayout
    action: JointLayout

    @classmethod
    def of_dataset(cls, meta: Named) -> FrameLayout:
        """The layout of a dataset's frames."""
        return cls(JointLayout(tuple(meta.state_names)), JointLayout(tuple(meta.action_names)))

    @classmethod
    def of_profile(cls, profile: RobotProfile) -> FrameLayout:
        """The layout of frames in a profile's own order and units."""
        return cls(JointLayout.of(profile.state_joints), JointLayout.of(profile.action_joints))


def map_layout(source: FrameLayout, profile: RobotProfile) -> tuple[JointMapping, JointMapping]:
    """Mappings of state and action from a layout to the profile's; ProfileError where joints do not match."""
    fix = "use datasets of the robot that the policy is for"
    return (
        map_side("the recorded state", source.state, profile.state_joints, derived=profile.is_derived, fix=fix),
        map_side("the recorded action", source.action, profile.action_joints, derived=profile.is_derived, fix=fix),
    )


def map_side(what: str, source: JointLayout, joints: Sequence[Joint], *, derived: bool, fix: str) -> JointMapping:
    """`map_joints`; where the profile was made from a dataset nobody chose it, so the error blames no profile."""
    try:
        return map_joints(source, joints, what=what)
    except ProfileError:
        if not derived:
            raise
        raise ProfileError(
            f"{what[0].upper()}{what[1:]} has {listed_joints(source.names)}, the policy's has "
            f"{listed_joints([joint.name for joint in joints])}: not one robot.",
            expected="the same joint names on both sides",
            fix=f"{fix}; where two names mean one joint, train with a profile that lists the other as an alias "
            "(--robot PROFILE.yaml)",
        ) from None


def to_policy_order(statistics: Statistics, source: FrameLayout, profile: RobotProfile | None) -> Statistics:
    """Statistics of state and action, moved from a dataset's joint order and units to the profile's."""
    kept = {key: dict(statistics[key]) for key in (STATE, ACTION) if key in statistics}
    if profile is None:
        return kept
    for key, mapping in zip((STATE, ACTION), map_layout(source, profile), strict=True):
        if key in kept:
            kept[key] = mapping.forward_statistics(kept[key])
    return kept


def check_dimensions(profile: RobotProfile, state_dim: int, action_dim: int) -> None:
    """ProfileError when the profile has other numbers of joints than the policy."""
    found = len(profile.state_joints), len(profile.action_joints)
    if found != (state_dim, action_dim):
        raise ProfileError(
            f"Robot '{profile.name}' has {found[0]} state and {found[1]} action joints; "
            f"the policy has {state_dim} and {action_dim}.",
            fix="use the profile of the robot that the policy was trained for, or fine-tune the policy for this one",
        )


def frame_layout(meta: Named, profile: RobotProfile | None, units: Mapping[str, str]) -> FrameLayout:
    """Names and units of the dataset's dimensions; without `units` they are taken as the profile's.

    UsageError for a joint that the dataset does not have and for an unknown unit.
    """
    plain = FrameLayout.of_dataset(meta)
    if not units or profile is None:
        return plain
    check_units(units, [*plain.state.names, *plain.action.names], profile)
    mappings = map_layout(plain, profile)
    layouts = []
    for names, order, joints in (
        (plain.state.names, mappings[0].order, profile.state_joints),
        (plain.action.names, mappings[1].order, profile.action_joints),
    ):
        placed = dict(zip(order, joints, strict=True))
        layouts.append(JointLayout(names, tuple(unit_of(names[i], placed[i], units) for i in range(len(names)))))
    return FrameLayout(*layouts)


def check_units(units: Mapping[str, str], names: Sequence[str], profile: RobotProfile) -> None:
    """UsageError for a joint of `--units` that is not among `names`, and for a unit that none can have."""
    known = {*names, *(spelling for name in names for spelling in spellings(name)), _ALL}
    possible = typing.get_args(Unit)
    for name, unit in units.items():
        if name not in known:
            raise UsageError(f"--units names the joint '{name}'.", fix=did_you_mean(name, known))
        if SPELLINGS.get(unit, unit) not in possible:
            raise UsageError(f"--units gives '{name}' the unit '{unit}'.", fix=did_you_mean(unit, possible))
    if _ALL in units:
        every = SPELLINGS.get(units[_ALL], units[_ALL])
        if every == "normalized" and any(kind_of(joint.unit) == "angle" for joint in profile.joints):
            raise UsageError(
                "--units all=normalized: no factor turns the servos' own -100..100 into angles, since it depends on "
                "each arm's calibration.",
                fix=f"--robot {profile.other_units}" if profile.other_units else "a profile in the dataset's units",
            )
        if not any(_can_be(every, joint) for joint in profile.joints):
            own = ", ".join(sorted({joint.unit for joint in profile.joints}))
            raise UsageError(
                f"--units all={units[_ALL]}: no joint of robot '{profile.name}' can be in it; they are in {own}.",
                fix="name the joints, or the profile whose units the dataset has",
            )


def unit_of(name: str, joint: Joint, units: Mapping[str, str]) -> Unit:
    """The unit that `--units` gives a joint recorded as `name`; `unknown`, which means the profile's, without one.

    `all` is for every joint whose unit it can be: `all=deg` leaves a gripper alone.
    """
    own = next((units[spelling] for spelling in spellings(name) if spelling in units), None)
    if own is None and _ALL in units:
        every = SPELLINGS.get(units[_ALL], units[_ALL])
        own = every if _can_be(every, joint) else None
    return typing.cast(Unit, SPELLINGS.get(own, own) if own is not None else "unknown")


def _can_be(unit: str, joint: Joint) -> bool:
    return kind_of(unit) == kind_of(joint.unit) and joint.factor_from(unit) is not None
