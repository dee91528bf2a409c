"""A file of statistics that several runs normalize with (`--norm-stats-file`): a sequence of stages writes one."""

from __future__ import annotations

import json
from pathlib import Path

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import ProfileError, SmolpilotError, UsageError
from smolpilot.common.json_input import read_json_file
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, plain_statistics, statistics_from_json
from smolpilot.datasets import DatasetMeta
from smolpilot.robots import RobotProfile
from smolpilot.robots.layout import map_layout
from smolpilot.smolvla import FrameLayout


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
    mappings = map_layout(FrameLayout.of_dataset(meta), profile)
    for key, joints, mapping in zip(found, (profile.state_joints, profile.action_joints), mappings, strict=True):
        names = [joint.name for joint in joints]
        wrong = [name for name, shape in shapes[key].items() if name != "count" and shape != (len(names),)]
        if found[key] != names or wrong:
            raise ProfileError(
                f"--norm-stats-file {path} is of the joints {', '.join(map(str, found[key]))} ({key}).",
                expected=f"those of robot '{profile.name}': {', '.join(names)}",
            )
        statistics[key] = mapping.backward_statistics(statistics[key])
    return statistics
