"""The statistics that a run normalizes with: of its datasets, its parent, both, or a file shared by several runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import ProfileError, SmolpilotError, TrainingError, UsageError
from smolpilot.common.json_input import read_json_file
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, merge_statistics, plain_statistics, statistics_from_json
from smolpilot.datasets import DatasetMeta
from smolpilot.robots import RobotProfile
from smolpilot.robots.layout import map_layout, to_policy_order
from smolpilot.robots.profile import spellings
from smolpilot.smolvla import FrameLayout, Policy
from smolpilot.smolvla.create import parent_statistics
from smolpilot.smolvla.transforms.normalize import settle_still

from .run_datasets import RunDataset


def own_statistics(datasets: Sequence[RunDataset], profile: RobotProfile) -> Statistics:
    """Of all frames together: one scale for every dataset, in the joint order of the first, in the profile's units.

    Counted by frames, not by weights: a scale has to cover what is seldom drawn as well.
    """
    if len(datasets) == 1 and datasets[0].layout.state.units is None:
        return datasets[0].meta.statistics
    moved = [to_policy_order(dataset.meta.statistics, dataset.layout, profile) for dataset in datasets]
    return _in_order_of(datasets[0].meta, merge_statistics(moved) if len(moved) > 1 else moved[0], profile)


def settle_statistics(
    statistics: Statistics, mapping: Mapping[str, str], meta: DatasetMeta, notes: list[str]
) -> Statistics:
    """Statistics in the dataset's joint order with a scale for joints that never move; notes name those."""
    settled, still = settle_still(statistics, mapping)
    for feature, joints in still.items():
        names = meta.state_names if feature == STATE else meta.action_names
        listed = ", ".join(names[joint] for joint in joints)
        notes.append(f"{feature}: {listed} never moves (float noise at most): its noise is not scaled up to a motion")
    return settled


def merged_with_parent(parent: Policy, meta: DatasetMeta, own_frames: Statistics, profile: RobotProfile) -> Statistics:
    """Statistics of the parent's frames and `own_frames` together, in the dataset's order and the profile's units."""
    before, own = parent_statistics(parent, profile), to_policy_order(own_frames, FrameLayout.of_dataset(meta), profile)
    for feature in (STATE, ACTION):
        for whose, statistics in (("parent", before), ("dataset", own)):
            if "count" not in statistics.get(feature, {}):
                raise TrainingError(
                    f"The {whose}'s statistics of {feature} have no frame count.",
                    expected="a count: --norm-stats merged weights parent and dataset by their frames",
                    fix="--norm-stats parent keeps the parent's, --norm-stats dataset takes the dataset's",
                )
    both = [{feature: statistics[feature] for feature in (STATE, ACTION)} for statistics in (before, own)]
    return _in_order_of(meta, merge_statistics(both), profile)


def _in_order_of(meta: DatasetMeta, statistics: Statistics, profile: RobotProfile) -> Statistics:
    """Statistics of state and action in the profile's order, in that of the dataset."""
    mappings = zip((STATE, ACTION), map_layout(FrameLayout.of_dataset(meta), profile), strict=True)
    return {feature: mapping.backward_statistics(statistics[feature]) for feature, mapping in mappings}


def same_robot(parent: Policy, profile: RobotProfile) -> bool:
    """Whether the parent drives the same joints; LeRobot's `NAME.pos` is joint NAME."""
    if parent.profile is None:
        return False
    before, now = ([spellings(joint.name)[-1] for joint in p.action_joints] for p in (parent.profile, profile))
    return before == now


def save_statistics(path: Path, statistics: Statistics, profile: RobotProfile, origin: str) -> None:
    """Write statistics that are in the profile's joint order and units; `origin` says of which frames."""
    values = {
        "origin": origin,
        "state_joints": [joint.name for joint in profile.state_joints],
        "action_joints": [joint.name for joint in profile.action_joints],
        "statistics": plain_statistics({key: statistics[key] for key in (STATE, ACTION)}),
    }
    write_text_atomic(path, json.dumps(values, indent=2) + "\n")


def load_statistics(path: Path, meta: DatasetMeta, profile: RobotProfile) -> Statistics:
    """The statistics of a file, in the joint order of the dataset; ProfileError when they are of other joints."""
    try:
        values = read_json_file(path)
        statistics = statistics_from_json(values["statistics"])
        found = {STATE: list(values["state_joints"]), ACTION: list(values["action_joints"])}
        shapes = {key: {name: value.shape for name, value in statistics[key].items()} for key in found}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SmolpilotError) as error:
        raise UsageError(
            f"--norm-stats-file {path} cannot be read: {error}", expected="statistics.json of a sequence of stages"
        ) from error
    for key, joints in zip(found, (profile.state_joints, profile.action_joints), strict=True):
        names = [joint.name for joint in joints]
        wrong = [name for name, shape in shapes[key].items() if name != "count" and shape != (len(names),)]
        if found[key] != names or wrong:
            raise ProfileError(
                f"--norm-stats-file {path} is of the joints {', '.join(map(str, found[key]))} ({key}).",
                expected=f"those of robot '{profile.name}': {', '.join(names)}",
            )
    return statistics | _in_order_of(meta, statistics, profile)
