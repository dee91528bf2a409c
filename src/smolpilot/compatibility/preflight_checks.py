"""Dataset, policy, robot and instruction against each other, before an hour is spent or an arm moves.

Each line is ok, a warning or an error with the option that fixes it. `train`, `eval` and `preflight` share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from smolpilot import contracts
from smolpilot.common.keys import ACTION, STATE
from smolpilot.contracts.trained_on import layout_for, rate_of, trainings_on
from smolpilot.datasets import Dataset, DatasetMeta
from smolpilot.datasets.left_out import left_out_note
from smolpilot.datasets.read.joint_units import check_joints, doubt_units, find_profile
from smolpilot.datasets.statistics.stored_statistics import exact_statistics
from smolpilot.robots import RobotProfile, findings_of
from smolpilot.robots.demonstrated import Demonstrated
from smolpilot.robots.layout import FrameLayout, map_layout, to_policy_order

from .comparisons import drift_lines, faster_lines, instruction_lines, number_lines, rate_lines, stored_lines
from .datasets_together import OpenedDataset, other_rates, other_units
from .verdict import Line, Verb


def preflight_training(
    datasets: Sequence[OpenedDataset],
    policy: contracts.Policy,
    *,
    parent_rate: float | None,
    demonstrated: Demonstrated | None = None,
    parent: Demonstrated | None = None,
    units_given: bool,
    robot_named: bool,
    instruction: str | None = None,
    verb: Verb = "train",
) -> list[Line]:
    """What is left to compare once a run is prepared, which has accepted joints, cameras and the parent's statistics.

    parent_rate: frames per second that the parent was trained at. demonstrated, parent: limits by the run's own
    demonstrations and by the parent's. units_given, robot_named: whether the user said them.
    """
    spec = policy.spec
    assert spec.profile is not None
    lines: list[Line] = []
    for dataset in datasets:
        meta = dataset.meta
        own = [
            *left_out_lines(meta),
            *unit_lines(meta, spec.profile, given=units_given),
            # In training a note says already that nothing is known.
            *range_lines(dataset.whole, dataset.layout, spec.profile, unknown=verb == "preflight", named=robot_named),
            *chunk_lines(meta, spec.profile, spec.chunk_size, spec.n_action_steps),
            *rate_lines(parent_rate, meta.fps, verb, "the parent"),
            *number_lines(dataset.whole, dataset.stored, meta.statistics, verb),
            *instruction_lines(dataset.whole, policy, instruction, verb),
        ]
        several = len(datasets) > 1
        lines += [replace(line, topic=f"{dataset.title}: {line.topic}") if several else line for line in own]
    if rates := other_rates(datasets):
        lines.append(Line("rate", "warning", rates, "train on datasets of one rate"))
    if units := other_units(datasets):
        lines.append(Line("units", "error", units, "bring them to one unit before they are mixed"))
    if demonstrated is not None and parent is not None:
        lines += faster_lines(demonstrated, parent)
    return lines


def preflight_policy(
    policy: contracts.Policy,
    dataset: Dataset,
    instruction: str | None = None,
    units: Mapping[str, str] | None = None,
    robot: str | None = None,
) -> list[Line]:
    """A policy against a dataset that it is to be scored on, or against the instruction it will be given.

    Any policy: what it does not say of itself (`policy.spec`) is not compared. Far from the policy's statistics is no
    error on the dataset that it was trained on: training has accepted that. robot: the profile of a policy without
    one, as `--robot` says it.
    """
    spec, meta = policy.spec, dataset.meta
    profile, lineage = spec.profile, spec.facts.lineage
    lines = [*left_out_lines(meta), *rate_lines(rate_of(spec), meta.fps, "eval")]
    computed = exact_statistics(dataset)
    lines += stored_lines(dataset, meta.statistics, computed, "eval")
    same = bool(trainings_on(meta.fingerprint, lineage))
    layout = layout_for(profile, lineage, meta, units)
    if profile is not None:
        lines += range_lines(dataset, layout, profile, unknown=False)
        state, action = ([joint.name for joint in own] for own in (profile.state_joints, profile.action_joints))
    else:
        # A policy without a profile works in the dataset's own units: only what they are called is at stake.
        found = find_profile(meta, robot, [])
        plain = FrameLayout.of_dataset(meta)
        doubted = (
            [] if found is None else list(range_lines(dataset, plain, found, unknown=False, named=robot is not None))
        )
        for line in doubted:
            lines.append(replace(line, verdict="warning") if robot is None and line.verdict == "error" else line)
        state, action = meta.state_names, meta.action_names
    if spec.statistics:
        own = to_policy_order(computed, layout, profile)
        lines += drift_lines(spec.statistics, own, state, action, "eval", sure=profile is not None and not same)
    else:
        lines.append(Line("statistics", "ok", f"{spec.name} has no training statistics, so they are not compared"))
    return [*lines, *instruction_lines(dataset, policy, instruction, "eval")]


def left_out_lines(meta: DatasetMeta) -> Iterator[Line]:
    """What samples leave out; said once for each dataset."""
    note = left_out_note(meta)
    if note:
        found, _, fix = note.partition(". ")
        yield Line("features", "warning", found, fix)


def dataset_line(dataset: Dataset) -> Line:
    meta = dataset.meta
    text = f"LeRobot {meta.version}, {len(dataset.episodes)} episodes, {len(dataset):,} frames, {meta.fps:g} per second"
    return Line("dataset", "ok", text)


def robot_line(notes: list[str], profile: RobotProfile, *, known: bool) -> Line:
    said = "; ".join(note.removeprefix("robot: ") for note in notes if note.startswith("robot: ")) or profile.name
    return Line("robot", "ok" if known else "warning", said, "" if known else "--robot NAME gives units and limits")


def joint_lines(meta: DatasetMeta, layout: FrameLayout, profile: RobotProfile) -> Iterator[Line]:
    """Every dimension has its joint; widths beyond the network's."""
    check_joints(meta, profile)
    mappings = map_layout(layout, profile)
    for what, mapping, joints in zip(
        ("state", "action"), mappings, (profile.state_joints, profile.action_joints), strict=True
    ):
        moved = list(mapping.order) != list(range(len(joints)))
        units = ", ".join(sorted({joint.unit for joint in joints}))
        order = "put into the profile's order by name" if moved else "in the profile's order"
        yield Line(f"{what} joints", "ok", f"{len(joints)} joints {order}; units {units}")
        if len(joints) > 32:
            wide = f"{len(joints)} dimensions: a pretrained policy is widened from 32 by untrained columns"
            yield Line(f"{what} joints", "warning", wide, "train long enough for them")


def unit_lines(meta: DatasetMeta, profile: RobotProfile, *, given: bool) -> Iterator[Line]:
    """What is assumed of a robot whose datasets come in two units."""
    doubt = None if given else doubt_units(meta, profile)
    if doubt is not None:
        yield Line("units", doubt.severity, doubt.text, doubt.fix)


def range_lines(
    dataset: Dataset, layout: FrameLayout, profile: RobotProfile, *, unknown: bool = True, named: bool = True
) -> Iterator[Line]:
    """Recorded values against the profile: in another unit, or beyond the limits. One cause hides its consequences."""
    ends = {key: (values.min(axis=0), values.max(axis=0)) for key, values in
            ((STATE, dataset.states), (ACTION, dataset.actions))}  # fmt: skip
    findings = findings_of(profile, layout, ends, chosen=named)
    extremes = {key: {"min": low.astype(np.float64), "max": high.astype(np.float64)}
                for key, (low, high) in ends.items()}  # fmt: skip
    moved = to_policy_order(extremes, layout, profile)
    for key, joints in ((STATE, profile.state_joints), (ACTION, profile.action_joints)):
        yield from (Line("ranges", found.severity, found.text, found.fix) for found in findings[key])
        explained = {name for found in findings[key] for name in found.joints}
        outside, known = [], 0
        for joint, low, high in zip(joints, moved[key]["min"], moved[key]["max"], strict=True):
            if joint.position_limits is None:
                continue
            known += 1
            first, last = joint.position_limits
            room = 0.02 * (last - first)
            if joint.name not in explained and (low < first - room or high > last + room):
                outside.append(f"{joint.name} {low:.4g} to {high:.4g} (limits {first:g} to {last:g} {joint.unit})")
        if not known:
            if unknown:
                yield Line(
                    "ranges",
                    "warning",
                    f"{key}: the profile has no position limits",
                    "add position_limits to the profile",
                )
        elif outside:
            yield Line("ranges", "warning", f"{key} is outside the limits: {'; '.join(outside[:3])}"
                       + (f" and {len(outside) - 3} more" if len(outside) > 3 else ""),
                       "check units (--units) and the profile's limits")  # fmt: skip
        elif not findings[key]:
            yield Line("ranges", "ok", f"{key}: all {known} joints with limits are within them")


def chunk_lines(meta: DatasetMeta, profile: RobotProfile, chunk: int = 50, horizon: int = 10) -> Iterator[Line]:
    """Frames per second, and how long a chunk and the execution horizon last."""
    if abs(meta.fps - profile.rate) > 0.05 * profile.rate:
        yield Line("rate", "warning", f"recorded at {meta.fps:g} per second, the robot runs at {profile.rate:g} Hz",
                   "run the robot at the dataset's rate: a policy reproduces the recorded speed")  # fmt: skip
    text = f"a chunk of {chunk} lasts {chunk / meta.fps:.2f} s, {horizon} actions run before planning again " \
           f"({horizon / meta.fps:.2f} s)"  # fmt: skip
    short = chunk / meta.fps < 0.3
    fix = "use a larger --chunk-size: there is hardly any motion in so short a time" if short else ""
    yield Line("rate", "warning" if short else "ok", text, fix)
