"""From the joints of a dataset to those of a profile and back: order by name, units by factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import ProfileError, did_you_mean

from .profile import Joint, spellings
from .units import SPELLINGS, Unit


@dataclass(frozen=True)
class JointLayout:
    """How a vector is laid out: the joint name of every dimension [S] and, where known, its unit.

    `units` None, or `unknown` for one joint, means "the unit of the profile": LeRobot datasets carry no units.
    """

    names: tuple[str, ...]
    units: tuple[Unit, ...] | None = None

    def __post_init__(self) -> None:
        if self.units is not None:  # lineages and exports of before have a unit in its British spelling
            object.__setattr__(self, "units", tuple(SPELLINGS.get(unit, unit) for unit in self.units))
        if self.units is not None and len(self.units) != len(self.names):
            raise ProfileError(f"A joint layout has {len(self.names)} names and {len(self.units)} units.")
        duplicates = sorted({name for name in self.names if self.names.count(name) > 1})
        if duplicates:
            raise ProfileError(
                f"Joint names are not unique: {', '.join(duplicates)} appear more than once.",
                fix="`smolpilot dataset repair SRC DST` numbers equal names in a copy",
            )

    @classmethod
    def of(cls, joints: Sequence[Joint]) -> JointLayout:
        """The layout of a profile's own vector."""
        return cls(tuple(joint.name for joint in joints), tuple(joint.unit for joint in joints))


@dataclass(frozen=True)
class JointMapping:
    """`forward`: source order and units -> profile order and units. `backward` is its exact mirror.

    Profile dimension d is source dimension `order[d]` times `factors[d]`. `positional` says that the source had only
    made-up names (`joint_0`, ...) and was taken in the profile's order.
    """

    names: tuple[str, ...]
    order: tuple[int, ...]
    factors: tuple[float, ...]
    positional: bool = False

    @property
    def is_identity(self) -> bool:
        return self.order == tuple(range(len(self.order))) and all(factor == 1.0 for factor in self.factors)

    @cached_property
    def inverse_order(self) -> tuple[int, ...]:
        return tuple(int(i) for i in np.argsort(self.order))

    def forward(self, values: Any) -> Any:
        """[..., S] of the source (numpy array or torch tensor) -> [..., S] of the profile, same dtype."""
        self._check(values)
        out = values[..., list(self.order)]
        return out if self._keeps_units else out * _like(self.factors, out)

    def backward(self, values: Any) -> Any:
        """[..., S] of the profile (numpy array or torch tensor) -> [..., S] of the source, same dtype."""
        self._check(values)
        scaled = values if self._keeps_units else values / _like(self.factors, values)
        return scaled[..., list(self.inverse_order)]

    def forward_statistics(self, statistics: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Statistics {mean, std, min, max, q..: [S]} of the source in profile order and units; `count` is kept."""
        return {key: self._statistic(key, value, self.forward) for key, value in statistics.items()}

    def backward_statistics(self, statistics: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The mirror of `forward_statistics`."""
        return {key: self._statistic(key, value, self.backward) for key, value in statistics.items()}

    @cached_property
    def _keeps_units(self) -> bool:
        return all(factor == 1.0 for factor in self.factors)

    def _check(self, values: Any) -> None:
        if values.ndim == 0 or values.shape[-1] != len(self.order):
            found = tuple(values.shape)
            raise ProfileError(
                f"A vector of shape {found} was given for {len(self.order)} joints.",
                expected=f"[..., {len(self.order)}]: {', '.join(self.names)}",
            )

    def _statistic(self, key: str, value: npt.NDArray[Any], move: Any) -> npt.NDArray[Any]:
        # All factors are positive, so minimum, maximum and quantiles stay what they are and std scales like the mean.
        return value if key == "count" else np.asarray(move(np.asarray(value)))


def map_joints(source: JointLayout, joints: Sequence[Joint], *, what: str = "the dataset") -> JointMapping:
    """Match the dimensions of `source` to `joints` by name or alias; exact, every joint once.

    LeRobot's `NAME.pos` is joint NAME. Made-up names (`joint_0`, `joint_1`, ... in order) match by position.

    Raises ProfileError with both name lists for unknown, missing or doubly matched joints, and for units that no
    factor connects.
    """
    names = tuple(joint.name for joint in joints)
    positional = (
        placeholder_names(source.names) and len(source.names) == len(joints) and not set(source.names) <= set(names)
    )
    order = tuple(range(len(joints))) if positional else _order(source.names, joints, what)
    units: tuple[Unit, ...] = source.units or tuple("unknown" for _ in source.names)
    factors = tuple(_factor(units[i], joint, what) for i, joint in zip(order, joints, strict=True))
    return JointMapping(names, order, factors, positional)


def _order(found: Sequence[str], joints: Sequence[Joint], what: str) -> tuple[int, ...]:
    target = {name: d for d, joint in enumerate(joints) for name in (joint.name, *joint.aliases)}
    both = f"{what}: {', '.join(found)}\nprofile: {', '.join(joint.name for joint in joints)}"
    place: dict[int, int] = {}
    for i, recorded in enumerate(found):
        name = next((spelling for spelling in spellings(recorded) if spelling in target), recorded)
        if name not in target:
            raise ProfileError(
                f"The profile has no joint '{recorded}' of {what}.",
                expected=f"the same joints on both sides.\n{both}",
                fix=f"{did_you_mean(name, target)} Add it to the profile, as a joint or as an alias of one.",
            )
        if target[name] in place:
            first, joint = found[place[target[name]]], joints[target[name]].name
            raise ProfileError(f"'{first}' and '{recorded}' of {what} are both joint '{joint}' of the profile.")
        place[target[name]] = i
    missing = [joint.name for d, joint in enumerate(joints) if d not in place]
    if missing:
        raise ProfileError(
            f"{what[0].upper()}{what[1:]} lacks {len(missing)} of the profile's {len(joints)} joints: "
            f"{', '.join(missing)}.",
            expected=f"the same joints on both sides.\n{both}",
            fix="remove them from a copy of the profile, or list the recorded ones under its `state` and `action`",
        )
    return tuple(place[d] for d in range(len(joints)))


def placeholder_names(names: Sequence[str]) -> bool:
    """Whether the names are `joint_0`, `joint_1`, ...: what a dataset without names gets."""
    return len(names) > 0 and list(names) == [f"joint_{i}" for i in range(len(names))]


def _factor(unit: Unit, joint: Joint, what: str) -> float:
    found = joint.factor_from(unit)
    if found is None:
        raise ProfileError(
            f"Joint '{joint.name}' is in '{unit}' in {what} and in '{joint.unit}' in the profile.",
            expected="the same unit, or one that a factor converts: rad and deg, m and mm, fraction, percent and byte "
            "of a gripper's way",
            fix="name the profile in the units of the dataset with --robot, or write a copy in them",
        )
    return found


def _like(factors: Sequence[float], values: Any) -> Any:
    """The factors as an array of the kind and dtype of `values`, without importing torch."""
    if hasattr(values, "new_tensor"):
        return values.new_tensor(factors)
    return np.asarray(factors, dtype=values.dtype)
