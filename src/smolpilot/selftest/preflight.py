"""The verb `preflight`: does a dataset go with a robot and a policy? Nothing is written.

With a policy it prepares a run as `train` does, by the same functions, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.common.errors import SmolpilotError
from smolpilot.compatibility.comparisons import drift_lines, instruction_lines, limit_lines, number_lines
from smolpilot.compatibility.preflight_checks import (
    chunk_lines,
    dataset_line,
    joint_lines,
    left_out_lines,
    range_lines,
    robot_line,
    unit_lines,
)
from smolpilot.compatibility.verdict import Line, failed
from smolpilot.datasets import DatasetMeta, open_dataset, parse_episodes, read_meta
from smolpilot.datasets.read.joint_units import check_joints, derive_profile, find_profile, with_cameras
from smolpilot.datasets.statistics.operating_limits import demonstrated_by
from smolpilot.datasets.statistics.stored_statistics import exact_statistics
from smolpilot.robots import RobotProfile
from smolpilot.robots.layout import frame_layout, to_policy_order
from smolpilot.smolvla.transforms.camera_slots import Pairing, camera_text
from smolpilot.training.options.train_options import TrainOptions, check

from .preflight_options import PreflightOptions

if TYPE_CHECKING:
    # Without a policy nothing here needs torch, which takes seconds and most of a gigabyte to load.
    from smolpilot.training.run.setup import Prepared


def preflight(options: PreflightOptions) -> list[Line]:
    """All lines; the first error of the dataset or the policy itself ends the list, the others do not."""
    if options.policy is None:
        return _preflight_dataset(options)
    from smolpilot.training.run.setup import prepare

    reached = ["options"]
    try:
        prepared = prepare(check(training_options(options)), step=reached.append)
    except SmolpilotError as error:
        # What can be compared without the rest still is.
        others = [line for line in _preflight_dataset(options) if line.topic != reached[-1]]
        if any(line.verdict == "error" and line.topic in ("dataset", "robot", "joints") for line in others):
            return others
        place = 1 if others and others[0].topic == "dataset" else 0
        return [*others[:place], failed(reached[-1], error), *others[place:]]
    parent, meta = prepared.parent, prepared.datasets[0].meta
    assert parent is not None
    config = parent.policy.config
    profile = prepared.policy.profile
    assert profile is not None
    about = f"{options.policy}: state {config.state_dim}, action {config.action_dim}, chunk {config.chunk_size}"
    return [
        dataset_line(prepared.datasets[0].whole),
        Line("policy", "ok", about),
        robot_line(prepared.notes, profile, known=prepared.robot_known),
        *joint_lines(meta, prepared.datasets[0].layout, profile),
        *_camera_slots(parent.cameras),
        *_scale_lines(prepared),
        *prepared.preflight(options.instruction, verb="preflight"),
        *_limits(prepared),
    ]


def training_options(options: PreflightOptions) -> TrainOptions:
    """The training that a preflight with a policy stands for."""
    shared = {name: value for name, value in vars(options).items() if name not in ("instruction", "json")}
    return TrainOptions(**shared, out=Path("never"), steps=1, device="cpu")


def _preflight_dataset(options: PreflightOptions) -> list[Line]:
    """A dataset and a robot, without a policy."""
    try:
        chosen = None if options.episodes is None else parse_episodes(options.episodes, read_meta(options.dataset))
        dataset = open_dataset(options.dataset, episodes=chosen)
        dataset.check_videos()
    except SmolpilotError as error:
        return [failed("dataset", error)]
    meta = dataset.meta
    stored = meta.statistics if chosen is None else {}  # nobody stores those of some episodes
    lines = [dataset_line(dataset), *left_out_lines(meta)]
    try:
        notes: list[str] = []
        found = find_profile(meta, options.robot, notes)
        profile = with_cameras(found or derive_profile(meta), meta, notes, named=options.robot is not None)
        if options.units:
            check_joints(meta, profile)
        layout = frame_layout(meta, profile, options.units)
    except SmolpilotError as error:
        return [*lines, failed("robot", error)]
    lines.append(robot_line(notes, profile, known=found is not None or options.robot is not None))
    checks: list[tuple[str, Callable[[], Iterator[Line]]]] = [
        ("joints", lambda: joint_lines(meta, layout, profile)),
        ("units", lambda: unit_lines(meta, profile, given=bool(options.units))),
        ("ranges", lambda: range_lines(dataset, layout, profile, named=options.robot is not None)),
        ("cameras", lambda: _cameras(meta, profile)),
        ("rate", lambda: chunk_lines(meta, profile)),
        ("operating limits", lambda: limit_lines(demonstrated_by(dataset, layout, profile), "by all its episodes")),
        ("statistics", lambda: number_lines(dataset, stored, exact_statistics(dataset), "preflight")),
        ("instruction", lambda: instruction_lines(dataset, None, options.instruction, "preflight")),
    ]
    for topic, compare in checks:
        if topic in ("units", "ranges", "operating limits") and any(line.topic == "joints" for line in lines):
            continue  # without the joints there is nothing to compare
        try:
            lines += list(compare())
        except SmolpilotError as error:
            lines.append(failed(topic, error))
    return lines


def _scale_lines(prepared: Prepared) -> Iterator[Line]:
    """Whose statistics the run normalizes with, and how far the dataset lies from a parent's."""
    parent, profile = prepared.parent, prepared.policy.profile
    assert parent is not None
    assert profile is not None
    if prepared.stats != "parent":
        problem = parent.policy.report.statistics_problem
        why = f", which cannot be used: {problem}" if problem else ""
        text = {"dataset": "training takes the dataset's, not the policy's", "merged": "training takes both together"}
        yield Line("statistics", "ok", f"{text[prepared.stats]}{why}")
        return
    moved = to_policy_order(prepared.datasets[0].meta.statistics, prepared.datasets[0].layout, profile)
    state, action = ([joint.name for joint in own] for own in (profile.state_joints, profile.action_joints))
    for line in drift_lines(prepared.policy.statistics, moved, state, action, "preflight"):
        # Prepared in spite of it: --norm-stats parent was given.
        yield replace(line, verdict="warning") if line.verdict == "error" else line


def _limits(prepared: Prepared) -> Iterator[Line]:
    """What a training would keep of how fast the joints are moved."""
    if prepared.policy.demonstrated is not None:
        yield from limit_lines(prepared.policy.demonstrated, "what training keeps in the bundle")


def _camera_slots(paired: Pairing) -> Iterator[Line]:
    """Each camera of the dataset to its slot of the policy, as training pairs them."""
    text = "; ".join([camera_text(paired.map), *paired.notes, *paired.warnings])
    fix = "--camera-map NAME=SLOT, where another pair is meant" if paired.warnings else ""
    yield Line("cameras", "warning" if paired.warnings else "ok", text, fix)


def _cameras(meta: DatasetMeta, profile: RobotProfile) -> Iterator[Line]:
    """The dataset's cameras against those of a profile that states which there are."""
    known = set(profile.camera_names)
    strange = [name for name in meta.camera_names if known and name not in known]
    text = ", ".join(f"{name} {camera.width}x{camera.height}" for name, camera in meta.cameras.items()) or "none"
    fix = f"the profile's cameras are {', '.join(sorted(known))}: add {', '.join(strange)} to a copy of it"
    yield Line("cameras", "error" if strange else "ok", text, fix if strange else "")
