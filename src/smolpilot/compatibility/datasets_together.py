"""Datasets against each other: one robot has the same joints, cameras, units and rate in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from smolpilot.common.errors import ProfileError, UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, is_still
from smolpilot.common.text import listed_joints
from smolpilot.contracts.trained_on import differs
from smolpilot.robots import RobotProfile, better_robot
from smolpilot.robots.layout import map_layout

if TYPE_CHECKING:
    from smolpilot.datasets import Dataset, DatasetMeta
    from smolpilot.robots.layout import FrameLayout

_LISTED = 4
_TURN = (40.0, 80.0)  # degrees are 57.3 times radians


class OpenedDataset(Protocol):
    """A dataset that is compared with others, as a run opens it (`RunDataset`)."""

    title: str
    layout: FrameLayout
    whole: Dataset
    stored: Statistics

    @property
    def path(self) -> Path: ...

    @property
    def meta(self) -> DatasetMeta: ...


def check_cameras(datasets: Sequence[OpenedDataset]) -> None:
    """UsageError when a dataset has other cameras, or another image size, than the first."""
    first, own = datasets[0].path, datasets[0].meta
    for name, meta in ((dataset.path, dataset.meta) for dataset in datasets[1:]):
        if set(meta.camera_names) != set(own.camera_names):
            raise UsageError(
                f"{name} has the cameras {', '.join(meta.camera_names)}, {first} has {', '.join(own.camera_names)}.",
                expected="datasets of one robot: the same camera names in every dataset of the mixture",
            )
        for key, camera in meta.cameras.items():
            other = own.cameras[key]
            if (camera.width, camera.height) != (other.width, other.height):
                raise UsageError(
                    f"Camera '{key}' is {camera.width}x{camera.height} in {name}, {other.width}x{other.height} in "
                    f"{first}.",
                    expected="one image size per camera in all of a mixture's datasets",
                )


def check_joints(datasets: Sequence[OpenedDataset], profile: RobotProfile, *, named: bool) -> None:
    """ProfileError for joints that the robot does not have; UsageError for a dataset of another robot than the first.

    named: whether the user chose the profile; one that was found or made is blamed for nothing.
    """
    for dataset in datasets:
        try:
            map_layout(dataset.layout, profile)
        except ProfileError as error:
            hint = better_robot(profile, dataset.meta.robot_type, dataset.meta.state_names, dataset.meta.action_names)
            if named and len(datasets) > 1:
                raise ProfileError(f"{dataset.path}: {error.found}", expected=error.expected,
                                   fix=hint or error.fix) from error  # fmt: skip
            if named or dataset is datasets[0]:
                raise ProfileError(error.found, expected=error.expected, fix=hint or error.fix) from error
            raise not_one_robot(dataset, datasets[0]) from error


def not_one_robot(dataset: OpenedDataset, first: OpenedDataset) -> UsageError:
    """The error for a dataset whose joints are not those of the first: both are named, no profile is."""
    metas = dataset.meta, first.meta
    wrong = STATE if set(metas[0].state_names) != set(metas[1].state_names) else ACTION
    found, expected = (meta.state_names if wrong == STATE else meta.action_names for meta in metas)
    return UsageError(
        f"{dataset.path} has {listed_joints(found, _LISTED)}, {first.path} has {listed_joints(expected, _LISTED)} "
        f"('{wrong}'): not one robot.",
        expected="datasets of one robot: the same joint names in all of them",
        fix="train on one robot's datasets; where two names mean one joint, a profile lists the other as an alias "
        "(--robot PROFILE.yaml)",
    )


def other_rates(datasets: Sequence[OpenedDataset]) -> str:
    """A sentence when datasets were recorded at different rates, else nothing."""
    first = datasets[0].meta.fps
    if not any(differs(dataset.meta.fps, first) for dataset in datasets):
        return ""
    listed = ", ".join(f"“{dataset.title}” has {dataset.meta.fps:g}" for dataset in datasets)
    return (
        f"the datasets differ in frames per second: {listed}. A policy has one rate, so motions would have different "
        "speeds"
    )


def other_units(datasets: Sequence[OpenedDataset]) -> str:
    """A sentence when a dataset's numbers are those of the first in degrees for radians (or back), else nothing."""
    for dataset in datasets[1:]:
        for key in (STATE, ACTION):
            reach, span = _ratios(datasets[0], dataset, key)
            if reach is None or span is None:
                continue
            pairs = ((reach, span, dataset, datasets[0]), (1 / reach, 1 / span, datasets[0], dataset))
            for times, spans, one, other in pairs:
                if _TURN[0] <= times <= _TURN[1] and spans > _TURN[0] / 2:
                    return (
                        f"the values of “{one.title}” are {times:.0f} times those of “{other.title}” ('{key}', median "
                        "of the joints): degrees and radians"
                    )
    return ""


def _ratios(first: OpenedDataset, dataset: OpenedDataset, key: str) -> tuple[float | None, float | None]:
    """By how much numbers and ranges of `dataset` are larger than those of `first`: medians over moving joints."""
    own, other = first.meta.statistics[key], dataset.meta.statistics[key]
    listed = [list(one.meta.state_names if key == STATE else one.meta.action_names) for one in (first, dataset)]
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
