"""Datasets against each other: one robot has the same joints, cameras, units and rate in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smolpilot.common.errors import ProfileError, UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import is_still
from smolpilot.common.text import listed_joints
from smolpilot.contracts.trained_on import differs
from smolpilot.robots import RobotProfile, better_robot
from smolpilot.robots.layout import map_layout

if TYPE_CHECKING:
    from smolpilot.datasets import DatasetMeta
    from smolpilot.training.data.run_datasets import Part

_LISTED = 4
_TURN = (40.0, 80.0)  # degrees are 57.3 times radians


def check_cameras(datasets: Sequence[tuple[str, DatasetMeta]]) -> None:
    """UsageError when a dataset has other cameras, or another picture size, than the first."""
    first, own = datasets[0]
    for name, meta in datasets[1:]:
        if set(meta.camera_names) != set(own.camera_names):
            raise UsageError(
                f"{name} has the cameras {', '.join(meta.camera_names)}, {first} has {', '.join(own.camera_names)}.",
                expected="recordings of one robot: the same camera names in all of a mixture's datasets",
            )
        for key, camera in meta.cameras.items():
            other = own.cameras[key]
            if (camera.width, camera.height) != (other.width, other.height):
                raise UsageError(
                    f"Camera '{key}' is {camera.width}x{camera.height} in {name}, {other.width}x{other.height} in "
                    f"{first}.",
                    expected="one picture size per camera in all of a mixture's datasets",
                )


def check_joints(parts: Sequence[Part], profile: RobotProfile, *, named: bool) -> None:
    """ProfileError for joints that the robot does not have; UsageError for a dataset of another robot than the first.

    named: whether the user chose the profile; one that was found or made is blamed for nothing.
    """
    for part in parts:
        try:
            map_layout(part.layout, profile)
        except ProfileError as error:
            hint = better_robot(profile, part.meta.robot_type, part.meta.state_names, part.meta.action_names)
            if named and len(parts) > 1:
                raise ProfileError(f"{part.source.dataset}: {error.found}", expected=error.expected,
                                   fix=hint or error.fix) from error  # fmt: skip
            if named or part is parts[0]:
                raise ProfileError(error.found, expected=error.expected, fix=hint or error.fix) from error
            raise not_one_robot(
                str(part.source.dataset), part.meta, str(parts[0].source.dataset), parts[0].meta
            ) from error


def not_one_robot(name: str, meta: DatasetMeta, first: str, own: DatasetMeta) -> UsageError:
    """The error for a dataset whose joints are not those of the first: both are named, no profile is."""
    wrong = STATE if set(meta.state_names) != set(own.state_names) else ACTION
    found, expected = ((one.state_names if wrong == STATE else one.action_names) for one in (meta, own))
    return UsageError(
        f"{name} has {listed_joints(found, _LISTED)}, {first} has {listed_joints(expected, _LISTED)} ('{wrong}'): not "
        "one robot.",
        expected="recordings of one robot: the same joint names in all of a mixture's datasets",
        fix="train on one robot's datasets; where two names mean one joint, a profile lists the other as an alias "
        "(--robot PROFILE.yaml)",
    )


def other_rates(parts: Sequence[Part]) -> str:
    """A sentence when datasets were recorded at different rates, else nothing."""
    first = parts[0].meta.fps
    if not any(differs(part.meta.fps, first) for part in parts):
        return ""
    listed = ", ".join(f"“{part.title}” has {part.meta.fps:g}" for part in parts)
    return f"the datasets differ in frames per second: {listed}. One policy has one rate: motions mix two speeds"


def other_units(parts: Sequence[Part]) -> str:
    """A sentence when a dataset's numbers are those of the first in degrees for radians (or back), else nothing."""
    for part in parts[1:]:
        for key in (STATE, ACTION):
            reach, span = _ratios(parts[0], part, key)
            if reach is None or span is None:
                continue
            for times, spans, one, other in ((reach, span, part, parts[0]), (1 / reach, 1 / span, parts[0], part)):
                if _TURN[0] <= times <= _TURN[1] and spans > _TURN[0] / 2:
                    return (
                        f"the values of “{one.title}” are {times:.0f} times those of “{other.title}” ('{key}', median "
                        "of the joints): degrees and radians"
                    )
    return ""


def _ratios(first: Part, part: Part, key: str) -> tuple[float | None, float | None]:
    """How many times the largest numbers, and the ranges, of `part` are those of `first`: medians of moving joints."""
    own, other = first.meta.statistics[key], part.meta.statistics[key]
    listed = [list(one.meta.state_names if key == STATE else one.meta.action_names) for one in (first, part)]
    if set(listed[0]) != set(listed[1]):
        return None, None
    order = [listed[1].index(name) for name in listed[0]]
    low, high = other["min"][order], other["max"][order]
    moving = ~is_still(own["min"], own["max"]) & ~is_still(low, high)
    if not moving.any():
        return None, None
    reach = np.maximum(np.abs(low), np.abs(high)) / np.maximum(np.abs(own["min"]), np.abs(own["max"]))
    span = (high - low) / np.where(moving, own["max"] - own["min"], 1.0)
    return float(np.median(reach[moving])), float(np.median(span[moving]))
