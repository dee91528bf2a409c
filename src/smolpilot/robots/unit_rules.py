"""The one rule on units: recorded ranges against a profile's limits say when the numbers are in another unit.

Used by preflight, train, `dataset check` and eval, so that all of them come to the same verdict. Plain numpy.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .profile import Joint
from .units import SCALES, kind_of

_TURN = 180 / math.pi
_ROOM = 0.02  # of the limits' span: what calibration and rounding add
_EXACT = 1e-3  # how near to -100 or 100 a clipped value lies (float32)

type Floats = npt.NDArray[np.float64]
type Which = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class UnitFinding:
    """Joints whose numbers are not in the profile's unit, or may not be.

    `unit` is the unit that explains them (`normalized`: the -100..100 of a servo bus), None where none does. `fix`
    holds the options that make it right. `joints` are the profile's names: nothing else about their limits means
    anything while this stands. `sure` is about the numbers; an error also needs a profile that is the right one.
    """

    severity: Literal["error", "warning"]
    joints: tuple[str, ...]
    unit: str | None
    text: str
    fix: str
    sure: bool


@dataclass(frozen=True)
class Group:
    """The joints of one kind with limits: recorded minimum and maximum [J] in the profile's unit."""

    joints: tuple[Joint, ...]
    names: tuple[str, ...]
    low: Floats
    high: Floats

    @property
    def limits(self) -> Floats:
        """[J, 2]."""
        return np.array([joint.position_limits for joint in self.joints], dtype=np.float64)

    @property
    def size(self) -> Floats:
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)), dtype=np.float64)

    @property
    def span(self) -> Floats:
        return self.high - self.low

    @property
    def reach(self) -> Floats:
        """The span of the limits [J]."""
        limits = self.limits
        return np.asarray(limits[:, 1] - limits[:, 0], dtype=np.float64)

    def inside(self, factor: float = 1.0, room: float = _ROOM) -> Which:
        """Which joints keep their limits once the numbers are multiplied."""
        slack = room * self.reach
        within: Which = (self.low * factor >= self.limits[:, 0] - slack) & (
            self.high * factor <= self.limits[:, 1] + slack
        )
        return within

    def told(self, which: Which) -> str:
        """`elbow -40 to 40 (limits -1.5 to 1.5 rad)`, three at most."""
        places = np.flatnonzero(which)
        parts = [
            f"{self.names[i]} {self.low[i]:.4g} to {self.high[i]:.4g} "
            f"(limits {self.limits[i, 0]:g} to {self.limits[i, 1]:g} {self.joints[i].unit})"
            for i in places[:3]
        ]
        return "; ".join(parts) + (f" and {len(places) - 3} more" if len(places) > 3 else "")

    def of(self, which: Which) -> Group:
        """Some of the joints."""
        places = np.flatnonzero(which)
        return Group(
            tuple(self.joints[i] for i in places),
            tuple(self.names[i] for i in places),
            self.low[places],
            self.high[places],
        )


@dataclass(frozen=True)
class Doubt:
    """What a rule says of a group before it is put into words."""

    which: Which  # the joints that show it
    scope: Which  # the joints that it concerns
    unit: str | None
    sure: bool


def unit_findings(
    joints: Sequence[Joint],
    low: Any,
    high: Any,
    *,
    names: Sequence[str] | None = None,
    what: str = "the dataset",
    commanded: bool = False,
    chosen: bool = True,
    other_units: str | None = None,
    told: bool = False,
) -> list[UnitFinding]:
    """Findings of one vector: `joints` of the profile with the recorded minimum and maximum [J] of each, in its unit.

    names: the joints as the dataset calls them, for the fix. commanded: an action, which may exceed what a servo bus
    reads. chosen: the user (or the policy) named the profile; one found by robot_type errs itself where only the
    smallness of the numbers speaks, so that is a warning. other_units: the profile of the same robot in the other
    unit. told: --units was given, and these are the converted numbers.
    """
    low, high = np.asarray(low, np.float64).reshape(-1), np.asarray(high, np.float64).reshape(-1)
    named = tuple(names) if names is not None else tuple(joint.name for joint in joints)
    findings: list[UnitFinding] = []
    for pick, rule in _RULES:
        places = [
            i
            for i, joint in enumerate(joints)
            if joint.position_limits is not None and pick(joint) and np.isfinite([low[i], high[i]]).all()
        ]
        if not places:
            continue
        group = Group(tuple(joints[i] for i in places), tuple(named[i] for i in places), low[places], high[places])
        for doubt in rule(group, commanded):
            fix = _fix(group, doubt, other_units, first=not findings)
            if told:
                fix = "check --units: these are the numbers after the conversion"
            findings.append(_worded(group, doubt, what, chosen, fix))
    return findings


def _angles_in_radians(group: Group, commanded: bool) -> list[Doubt]:
    """Degrees (or encoder counts, or -100..100) where radians are declared.

    One joint that cannot turn that far is enough, whatever the others do. Small motion in degrees may keep within two
    turns: then several joints far outside, which degrees bring back, say it.
    """
    largest = np.abs(group.limits).max(axis=1)
    limit = np.maximum(2 * math.pi, 1.5 * largest)
    impossible, fits = group.size > limit, group.inside(1 / _TURN)
    outside = ~group.inside()
    moving = group.span > 1e-3 * group.reach
    if not impossible.any():
        far = outside & fits & (group.size >= 1.5 * largest)
        if far.sum() < 2 or 2 * far.sum() < max(outside.sum(), moving.sum()):
            return []
        return [Doubt(far, np.ones_like(far), "deg", sure=True)]
    shown = impossible | (outside & fits)
    every = 2 * shown.sum() >= moving.sum()
    scope = np.ones_like(shown) if every else shown
    if (touching := _touching(group)).sum() >= 2:
        return [Doubt(touching, scope, "normalized", sure=True)]
    explained = bool((impossible & (group.size / _TURN <= limit)).any())
    return [Doubt(shown if explained else impossible, scope, "deg" if explained else None, sure=True)]


def _angles_in_degrees(group: Group, commanded: bool) -> list[Doubt]:
    """Radians, the -100..100 of a servo bus, or encoder counts where degrees are declared."""
    largest = np.abs(group.limits).max(axis=1)
    impossible = group.size > np.maximum(720.0, 3 * largest)
    if impossible.any():
        return [Doubt(impossible, impossible, None, sure=True)]
    touching = _touching(group)
    if touching.any():
        return [Doubt(touching, np.ones_like(touching), "normalized", sure=bool(touching.sum() >= 2))]
    near = _touching(group, within=2.0)
    if near.sum() >= 2:
        return [Doubt(near, np.ones_like(near), "normalized", sure=False)]
    return _small(group, _TURN, "rad", below=2 * math.pi)


def _lengths_in_meters(group: Group, commanded: bool) -> list[Doubt]:
    impossible = group.size > 10 * np.abs(group.limits).max(axis=1)
    if not impossible.any():
        return []
    explained = bool((impossible & group.inside(0.001, room=0.5)).any())
    return [Doubt(impossible, np.ones_like(impossible) if explained else impossible, "mm" if explained else None, True)]


def _lengths_in_millimeters(group: Group, commanded: bool) -> list[Doubt]:
    impossible = group.size > 10 * np.abs(group.limits).max(axis=1)
    if impossible.any():
        return [Doubt(impossible, impossible, None, sure=True)]
    return _small(group, 1000.0, "m", below=math.inf, alone=True)


def _ways(group: Group, commanded: bool) -> list[Doubt]:
    """Scales of a gripper's or finger's way, 0..1, 0..100 and 0..255, taken for one another."""
    doubts = []
    for end in sorted({float(joint.full_scale or 0.0) for joint in group.joints}):
        own = np.array([joint.full_scale == end for joint in group.joints])
        moving = own & (group.span > 1e-3 * group.reach)
        larger = own & (group.high > 1.5 * end)
        for unit, scale in SCALES.items():
            # A value of 3 where 1 is the end may be anything; one of 90 is of a hundred.
            near = (group.high >= 0.1 * scale) & (group.high <= 1.05 * scale) & (group.low >= -0.05 * scale)
            fits = larger & near
            if scale > end and fits.any():
                doubts.append(Doubt(fits, own if 2 * fits.sum() >= moving.sum() else fits, unit, sure=True))
                larger = larger & ~fits
        if larger.any():
            doubts.append(Doubt(larger, larger, None, sure=True))
        if end > 1:
            small = own & (group.low >= -0.05) & (group.high <= 1.05) & (group.span >= 0.2)
            if small.any():
                doubts.append(Doubt(small, small, "fraction", sure=bool((group.span[small] >= 0.5).any())))
    return doubts


def _servo_range(group: Group, commanded: bool) -> list[Doubt]:
    """Degrees or radians where the -100..100 of a servo bus is declared: the bus clips what it reads there."""
    end = np.abs(group.limits).max(axis=1)
    beyond = group.size > (1.2 if commanded else 1 + _ROOM) * end
    if beyond.any():
        return [Doubt(beyond, np.ones_like(beyond), "deg", sure=True)]
    moving = group.span >= 0.005 * end
    # What is declared as -1..1, such as motions, is as small as it should be.
    if moving.sum() >= 2 and 2 * moving.sum() >= len(moving) and (end > 2 * math.pi).all():
        if (group.size <= 1.02).all():
            return [Doubt(moving, np.ones_like(moving), "fraction", sure=False)]
        if (group.size <= 2 * math.pi).all():
            return [Doubt(moving, np.ones_like(moving), "rad", sure=True)]
    return []


_RULES: tuple[tuple[Callable[[Joint], bool], Callable[[Group, bool], list[Doubt]]], ...] = (
    (lambda joint: joint.unit == "rad", _angles_in_radians),
    (lambda joint: joint.unit == "deg", _angles_in_degrees),
    (lambda joint: joint.unit == "m", _lengths_in_meters),
    (lambda joint: joint.unit == "mm", _lengths_in_millimeters),
    (lambda joint: _is_way(joint), _ways),
    (lambda joint: joint.full_scale is not None and not _is_way(joint), _servo_range),
)


def _is_way(joint: Joint) -> bool:
    """A scale from 0 on; -100..100 is not one."""
    return joint.full_scale is not None and joint.position_limits is not None and joint.position_limits[0] == 0


def _touching(group: Group, within: float = _EXACT) -> Which:
    """Joints that end at exactly -100 or 100 where nothing goes beyond: clipped by a servo bus, not measured.

    A limit of 100 may be reached by an environment that clips there: such an end says nothing.
    """
    none: Which = np.zeros(len(group.joints), dtype=bool)
    if (group.size > 100 + _EXACT).any():
        return none
    at_low = (np.abs(group.low + 100) <= within) & (np.abs(group.limits[:, 0] + 100) > 0.5)
    at_high = (np.abs(group.high - 100) <= within) & (np.abs(group.limits[:, 1] - 100) > 0.5)
    touching: Which = (at_low | at_high) & (group.span > 0)
    return touching


def _small(group: Group, factor: float, unit: str, *, below: float, alone: bool = False) -> list[Doubt]:
    """Numbers so small that nearly nothing would have moved, and that fill the limits once they are multiplied."""
    moving = group.span * factor > 0.02 * group.reach
    if not moving.any() or (group.size > below).any():
        return []
    fits = group.inside(factor, room=0.1)
    # One joint that misses its limits in both units must not hide what the others say.
    if fits[moving].sum() < moving.sum() - moving.sum() // 3:
        return []
    wide = moving & (group.span * factor >= 0.25 * group.reach)
    back = ~group.inside(room=0.1) & fits & moving  # far outside as declared, inside as converted
    if not wide.any() and not back.any():
        return []
    sure = bool(back.any() or ((alone or moving.sum() >= 2) and 2 * wide.sum() >= moving.sum()))
    return [Doubt(moving, np.ones_like(moving), unit, sure)]


_WORDS = {
    "deg": "degrees",
    "rad": "radians",
    "m": "meters",
    "mm": "millimeters",
    "normalized": "the -100..100 of a servo bus",
    "fraction": "a scale of 0..1",
    "percent": "a scale of 0..100",
    "byte": "a scale of 0..255",
}


def _worded(group: Group, doubt: Doubt, what: str, chosen: bool, fix: str) -> UnitFinding:
    shown = group.of(doubt.which)
    own = " or ".join(sorted({_name_of(joint) for joint in shown.joints}))
    # Of a profile that nobody named only what no such joint can do is an error: the profile may be the wrong one.
    error = doubt.sure and (chosen or own == "rad" or doubt.unit in ("deg", "mm", "percent", "byte"))
    if doubt.unit is None:
        text = f"{what} cannot be {own}, and no other unit explains it (encoder counts, or a broken reading?)"
    else:
        text = f"{what} {'looks like' if doubt.sure else 'may be'} {_WORDS[doubt.unit]}, not {own}"
    text += f": {group.told(doubt.which)}"
    joints = tuple(joint.name for joint in group.of(doubt.scope).joints)
    return UnitFinding("error" if error else "warning", joints, doubt.unit, text, fix, doubt.sure)


def _name_of(joint: Joint) -> str:
    end = joint.full_scale
    return joint.unit if end is None else f"{-end if not _is_way(joint) else 0:g}..{end:g}"


def _fix(group: Group, doubt: Doubt, other_units: str | None, *, first: bool) -> str:
    """The options that make it right; `all` can be said once, and angles come first."""
    unit = doubt.unit
    another = f"--robot {other_units}" if other_units else "a copy of the profile in the dataset's unit, with --robot"
    if unit is None:
        return "compare with the robot's own software; `smolpilot dataset check` lists the frames of outliers"
    if unit == "normalized":
        return another
    servo = [joint for joint in group.joints if joint.full_scale is not None and not _is_way(joint)]
    if servo and unit in ("deg", "rad"):
        return another + (" --units all=rad" if unit == "rad" and other_units else "")
    whole = bool(doubt.scope.all()) and (kind_of(unit) != "scale" or len(group.joints) > 3)
    if whole and first:
        return f"--units all={unit}"
    return "--units " + shlex.join(f"{name}={unit}" for name in group.of(doubt.scope).names)
