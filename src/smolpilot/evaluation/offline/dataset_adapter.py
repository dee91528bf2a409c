"""How a dataset fits a policy: joint order and units, cameras, baselines. What does not fit is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics
from smolpilot.contracts import Embodiment
from smolpilot.contracts.trained_on import layout_for
from smolpilot.datasets.read.joint_units import find_profile, joint_units
from smolpilot.evaluation.metrics import Floats
from smolpilot.evaluation.predictions import F32
from smolpilot.robots import Joint, JointMapping, map_joints
from smolpilot.robots.layout import FrameLayout, frame_layout, map_layout, to_policy_order

if TYPE_CHECKING:
    from smolpilot.contracts import Policy, PolicySpec
    from smolpilot.datasets import DatasetMeta
    from smolpilot.robots import RobotProfile

UNKNOWN_UNIT = "dataset units"  # LeRobot datasets carry no units; a profile derived from one cannot know them


@dataclass(frozen=True)
class DatasetAdapter:
    """The dataset's vectors -> the policy's (`state`, `action`), the cameras to hand over, the action's joints."""

    state: JointMapping
    action: JointMapping
    cameras: list[str]
    joints: list[str]
    units: list[str]
    limits: list[tuple[float, float] | None]
    mean_action: Floats  # [A]; nan when the policy's statistics do not hold it
    trained_span: Floats | None  # [A] range of the training actions
    _state_of_action: list[int | None]

    def hold(self, states: F32) -> F32:
        """The states [N, S] (policy order) laid out as actions [N, A]; nan for joints that the state does not hold."""
        held = np.full((len(states), len(self.joints)), np.nan, dtype=np.float32)
        for a, s in enumerate(self._state_of_action):
            if s is not None:
                held[:, a] = states[:, s]
        return held


def adapt(
    policy: Policy, meta: DatasetMeta, units: Mapping[str, str] | None = None, *, robot: str | None = None
) -> DatasetAdapter:
    """Match joints by name, and see that the policy's cameras are there.

    `units` of the dataset's joints where they differ from the profile's, as for training; without them those that
    training was told, for the very dataset. `robot`: the profile that names the units of a policy without one, as
    `--robot` says it; None: the dataset's by robot_type or joint names.

    Raises ProfileError when the joints differ, UsageError when a camera or a dimension is missing.
    """
    spec = policy.spec
    profile = spec.profile
    if profile is not None:
        state_joints, action_joints = profile.state_joints, profile.action_joints
    else:
        # Without a profile the policy's own order is the dataset's, as LeRobot takes it.
        state_joints, action_joints = _as_recorded(meta, robot)
    layout = layout_for(profile, spec.facts.lineage, meta, units)
    state = map_joints(layout.state, state_joints, what="the recorded state")
    action = map_joints(layout.action, action_joints, what="the recorded action")
    _check_width("state", spec.state_dim, state.names, meta)
    _check_width("action", spec.action_dim, action.names, meta)
    places = {name: s for s, name in enumerate(state.names)}
    return DatasetAdapter(
        state=state,
        action=action,
        cameras=_cameras(spec, meta),
        joints=list(action.names),
        units=[UNKNOWN_UNIT if joint.unit == "unknown" else joint.unit for joint in action_joints],
        limits=[joint.position_limits for joint in action_joints],
        mean_action=_mean_action(spec.statistics, len(action.names)),
        trained_span=_trained_span(spec.statistics),
        _state_of_action=[places.get(name) for name in action.names],
    )


def _as_recorded(meta: DatasetMeta, robot: str | None) -> tuple[list[Joint], list[Joint]]:
    """State and action joints in the dataset's order and under its names; unit and limits where a profile has them."""
    plain = FrameLayout.of_dataset(meta)
    profile = find_profile(meta, robot, [])
    mappings = map_layout(plain, profile) if profile is not None else (None, None)
    known = joint_units(meta, profile, chosen=robot is not None)
    sides = []
    for key, layout, mapping, joints in zip(
        (STATE, ACTION), (plain.state, plain.action), mappings,
        (profile.state_joints, profile.action_joints) if profile is not None else ((), ()), strict=True,
    ):  # fmt: skip
        found = []
        for place, (name, unit) in enumerate(zip(layout.names, known[key], strict=True)):
            # Limits in a unit that the numbers are not in say nothing.
            own = joints[mapping.order.index(place)] if mapping is not None and unit is not None else None
            limits = own.position_limits if own is not None else None
            label = own.unit if own is not None else "unknown"
            found.append(Joint(name=name, unit=label, position_limits=limits, velocity_limit=None))
        sides.append(found)
    return sides[0], sides[1]


def _check_width(what: str, expected: int, names: Sequence[str], meta: DatasetMeta) -> None:
    if len(names) != expected:
        raise UsageError(
            f"The {what} of {meta.root} has {len(names)} joints ({', '.join(names)}), the policy's has {expected}.",
            fix="evaluate on datasets of the robot that the policy was trained for",
        )


def _cameras(spec: PolicySpec, meta: DatasetMeta) -> list[str]:
    """The robot cameras that the policy reads, each present in the dataset."""
    missing = [camera for camera in spec.cameras if camera not in meta.camera_names]
    if missing:
        raise UsageError(
            f"The dataset {meta.root} lacks the camera {', '.join(missing)}; it has "
            f"{', '.join(meta.camera_names) or 'none'}.",
            expected=f"the cameras of the policy: {', '.join(spec.cameras)}",
            fix="say which of them takes its place: --camera-map NAME=SLOT ... (in Python: open_policy with "
            "PolicyOptions(camera_map=...))",
        )
    return list(spec.cameras)


def _mean_action(statistics: Statistics, width: int) -> Floats:
    mean = statistics.get(ACTION, {}).get("mean")
    return np.full(width, np.nan) if mean is None else np.asarray(mean, dtype=np.float64).reshape(-1)


def _trained_span(statistics: Statistics) -> Floats | None:
    stats = statistics.get(ACTION, {})
    if "min" not in stats or "max" not in stats:
        return None
    span: Floats = np.asarray(stats["max"] - stats["min"], dtype=np.float64).reshape(-1)
    return span


def embodiment_of(meta: DatasetMeta, robot: str | None = None, units: Mapping[str, str] | None = None) -> Embodiment:
    """What a policy is opened for that will read this dataset: joints, cameras, rate, statistics, instructions.

    robot: the profile that names the units, as `--robot` says it; None: by robot_type or joint names. Where the
    dataset has that profile's joints in its order and units, the profile goes along, else the order is the dataset's.
    Joints are spelled as the dataset does. units: of its joints where they differ, as in `adapt`; the profile and its
    order are then what policies see. Raises ProfileError for an unknown or unfit `robot`, UsageError for a joint that
    `units` should not name.
    """
    profile = find_profile(meta, robot, [])
    plain = FrameLayout.of_dataset(meta)
    if profile is not None and units:
        layout = frame_layout(meta, profile, units)
    else:
        layout, profile = plain, profile if profile is not None and _is_as_recorded(meta, profile, robot) else None
    state, action = meta.state_names, meta.action_names
    if profile is not None:
        # As the dataset spells them: a policy may know its joints by these names.
        places = [mapping.order for mapping in map_layout(layout, profile)]
        state, action = ([own[i] for i in order] for own, order in zip((state, action), places, strict=True))
    return Embodiment(
        owner="the dataset",
        cameras=tuple(meta.camera_names),
        state_names=tuple(state),
        action_names=tuple(action),
        profile=profile,
        rate=meta.fps,
        statistics=to_policy_order(meta.statistics, layout, profile),
        instructions=tuple(meta.tasks.values()),
    )


def _is_as_recorded(meta: DatasetMeta, profile: RobotProfile, robot: str | None) -> bool:
    """Whether the dataset has the profile's joints by name, in its order and units."""
    mappings = map_layout(FrameLayout.of_dataset(meta), profile)
    known = joint_units(meta, profile, chosen=robot is not None)
    return all(mapping.is_identity and not mapping.positional for mapping in mappings) and all(
        None not in units for units in known.values()
    )
