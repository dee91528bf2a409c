"""Preflight: dataset, policy, robot and instruction against each other, before an hour is spent or an arm moves.

Each line is ok, a warning or an error with the option that fixes it. With a policy it prepares a run as `train` does,
by the same functions, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smolpilot import contracts
from smolpilot.common.errors import SmolpilotError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.contracts.trained_on import layout_for, rate_of, trainings_on
from smolpilot.datasets import Dataset, DatasetMeta, open_dataset, parse_episodes, read_meta
from smolpilot.datasets.left_out import left_out_note
from smolpilot.datasets.read.joint_units import check_joints, derive_profile, doubt_units, find_profile, with_cameras
from smolpilot.datasets.statistics.stored_statistics import exact_statistics
from smolpilot.robots import RobotProfile, findings_of
from smolpilot.robots.layout import FrameLayout, frame_layout, map_layout, to_policy_order
from smolpilot.smolvla.transforms.camera_slots import Pairing, camera_text
from smolpilot.training.train_options import TrainOptions, check

from .comparisons import drift_lines, instruction_lines, number_lines, rate_lines, stored_lines
from .datasets_together import other_rates, other_units
from .options import PreflightOptions
from .verdict import Line, Verb, Verdict, failed, stop_on_errors

if TYPE_CHECKING:
    # Without a policy nothing here needs torch, which takes seconds and most of a gigabyte to load.
    from smolpilot.smolvla import Policy
    from smolpilot.training.run.setup import Prepared

__all__ = [
    "Line",
    "PreflightOptions",
    "Verdict",
    "preflight",
    "preflight_policy",
    "preflight_training",
    "stop_on_errors",
]


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
    parent, meta = prepared.parent, prepared.parts[0].meta
    assert parent is not None
    config = parent.policy.config
    profile = prepared.policy.profile
    assert profile is not None
    about = f"{options.policy}: state {config.state_dim}, action {config.action_dim}, chunk {config.chunk_size}"
    return [
        _dataset_line(prepared.parts[0].whole),
        Line("policy", "ok", about),
        _robot_line(prepared.notes, profile, known=prepared.robot_known),
        *_joints(meta, prepared.layout, profile),
        *_camera_slots(parent.cameras),
        *_scale_lines(prepared),
        *preflight_training(prepared, options.instruction, verb="preflight"),
    ]


def training_options(options: PreflightOptions) -> TrainOptions:
    """The training that a preflight with a policy stands for."""
    return TrainOptions(
        dataset=options.dataset, policy=options.policy, out=Path("never"), steps=1, robot=options.robot,
        units=options.units, norm_stats=options.norm_stats, policy_stats_from=options.policy_stats_from,
        tokenizer=options.tokenizer, camera_map=options.camera_map, chunk_size=options.chunk_size,
        max_tokens=options.max_tokens, episodes=options.episodes, device="cpu",
    )  # fmt: skip


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
    lines = [_dataset_line(dataset), *_left_out(meta)]
    try:
        notes: list[str] = []
        found = find_profile(meta, options.robot, notes)
        profile = with_cameras(found or derive_profile(meta), meta, notes, named=options.robot is not None)
        if options.units:
            check_joints(meta, profile)
        layout = frame_layout(meta, profile, options.units)
    except SmolpilotError as error:
        return [*lines, failed("robot", error)]
    lines.append(_robot_line(notes, profile, known=found is not None or options.robot is not None))
    checks: list[tuple[str, Callable[[], Iterator[Line]]]] = [
        ("joints", lambda: _joints(meta, layout, profile)),
        ("units", lambda: _units(meta, profile, told=bool(options.units))),
        ("ranges", lambda: _ranges(dataset, layout, profile, named=options.robot is not None)),
        ("cameras", lambda: _cameras(meta, profile)),
        ("rate", lambda: _rate(meta, profile, None)),
        ("statistics", lambda: number_lines(dataset, stored, exact_statistics(dataset), "preflight")),
        ("instruction", lambda: instruction_lines(dataset, None, options.instruction, "preflight")),
    ]
    for topic, compare in checks:
        if topic in ("units", "ranges") and any(line.topic == "joints" for line in lines):
            continue  # without the joints there is nothing to compare
        try:
            lines += list(compare())
        except SmolpilotError as error:
            lines.append(failed(topic, error))
    return lines


def preflight_training(prepared: Prepared, instruction: str | None = None, *, verb: Verb = "train") -> list[Line]:
    """What is left to compare once `prepare` has accepted joints, cameras and the parent's statistics."""
    policy, parent = prepared.policy, prepared.parent
    profile = policy.profile
    assert profile is not None
    lines: list[Line] = []
    for part in prepared.parts:
        own = [
            *_left_out(part.meta),
            *_units(part.meta, profile, told=bool(prepared.options.units)),
            # In training a note says already that nothing is known.
            *_ranges(part.whole, part.layout, profile, unknown=verb == "preflight", named=prepared.robot_named),
            *_rate(part.meta, profile, policy),
            *rate_lines(parent.rate if parent is not None else None, part.meta.fps, verb, "the parent"),
            *number_lines(part.whole, part.stored, part.meta.statistics, verb),
            *instruction_lines(part.whole, policy, instruction, verb),
        ]
        several = len(prepared.parts) > 1
        lines += [replace(line, topic=f"{part.title}: {line.topic}") if several else line for line in own]
    if rates := other_rates(prepared.parts):
        lines.append(Line("rate", "warning", rates, "train on datasets of one rate"))
    if units := other_units(prepared.parts):
        lines.append(Line("units", "error", units, "bring them to one unit before they are mixed"))
    return lines


def preflight_policy(
    policy: contracts.Policy,
    dataset: Dataset,
    instruction: str | None = None,
    units: Mapping[str, str] | None = None,
    robot: str | None = None,
) -> list[Line]:
    """A policy against a dataset that it is to be scored on, or against the text it will be told.

    Any policy: what it does not say of itself (`policy.spec`) is not compared. Far from the policy's statistics is no
    error on the dataset that it was trained on: training has accepted that. robot: the profile of a policy without
    one, as `--robot` says it.
    """
    spec, meta = policy.spec, dataset.meta
    profile, lineage = spec.profile, spec.facts.lineage
    lines = [*_left_out(meta), *rate_lines(rate_of(spec), meta.fps, "eval")]
    computed = exact_statistics(dataset)
    lines += stored_lines(dataset, meta.statistics, computed, "eval")
    same = bool(trainings_on(meta.fingerprint, lineage))
    layout = layout_for(profile, lineage, meta, units)
    if profile is not None:
        lines += _ranges(dataset, layout, profile, unknown=False)
        state, action = ([joint.name for joint in own] for own in (profile.state_joints, profile.action_joints))
    else:
        # A policy without a profile works in the dataset's own units: only what they are called is at stake.
        found = find_profile(meta, robot, [])
        plain = FrameLayout.of_dataset(meta)
        doubted = [] if found is None else list(_ranges(dataset, plain, found, unknown=False, named=robot is not None))
        for line in doubted:
            lines.append(replace(line, verdict="warning") if robot is None and line.verdict == "error" else line)
        state, action = meta.state_names, meta.action_names
    if spec.statistics:
        own = to_policy_order(computed, layout, profile)
        lines += drift_lines(spec.statistics, own, state, action, "eval", sure=profile is not None and not same)
    else:
        lines.append(Line("statistics", "ok", f"{spec.name} states none of its training, so none are compared"))
    return [*lines, *instruction_lines(dataset, policy, instruction, "eval")]


def _left_out(meta: DatasetMeta) -> Iterator[Line]:
    """What samples leave out; said once for each dataset."""
    note = left_out_note(meta)
    if note:
        found, _, fix = note.partition(". ")
        yield Line("features", "warning", found, fix)


def _dataset_line(dataset: Dataset) -> Line:
    meta = dataset.meta
    text = f"LeRobot {meta.version}, {len(dataset.episodes)} episodes, {len(dataset):,} frames, {meta.fps:g} per second"
    return Line("dataset", "ok", text)


def _robot_line(notes: list[str], profile: RobotProfile, *, known: bool) -> Line:
    said = "; ".join(note.removeprefix("robot: ") for note in notes if note.startswith("robot: ")) or profile.name
    return Line("robot", "ok" if known else "warning", said, "" if known else "--robot NAME gives units and limits")


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
    moved = to_policy_order(prepared.parts[0].meta.statistics, prepared.layout, profile)
    state, action = ([joint.name for joint in own] for own in (profile.state_joints, profile.action_joints))
    for line in drift_lines(prepared.policy.statistics, moved, state, action, "preflight"):
        # Prepared in spite of it: --norm-stats parent was given.
        yield replace(line, verdict="warning") if line.verdict == "error" else line


def _joints(meta: DatasetMeta, layout: FrameLayout, profile: RobotProfile) -> Iterator[Line]:
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


def _units(meta: DatasetMeta, profile: RobotProfile, *, told: bool) -> Iterator[Line]:
    """What is assumed of a robot whose recordings come in two units."""
    doubt = None if told else doubt_units(meta, profile)
    if doubt is not None:
        yield Line("units", doubt.severity, doubt.text, doubt.fix)


def _ranges(
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
                    "ranges", "warning", f"{key}: the profile knows no limits", "add position_limits to the profile"
                )
        elif outside:
            yield Line("ranges", "warning", f"{key} leaves the limits: {'; '.join(outside[:3])}"
                       + (f" and {len(outside) - 3} more" if len(outside) > 3 else ""),
                       "check units (--units) and the profile's limits")  # fmt: skip
        elif not findings[key]:
            yield Line("ranges", "ok", f"{key}: all of {known} joints with limits lie within them")


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


def _rate(meta: DatasetMeta, profile: RobotProfile, policy: Policy | None) -> Iterator[Line]:
    """Frames per second, and what a chunk and the execution horizon last."""
    if abs(meta.fps - profile.rate) > 0.05 * profile.rate:
        yield Line("rate", "warning", f"recorded at {meta.fps:g} per second, the robot runs at {profile.rate:g} Hz",
                   "a policy repeats the motion at the rate of its recording: run it at that rate")  # fmt: skip
    chunk = policy.config.chunk_size if policy is not None else 50
    horizon = policy.n_action_steps if policy is not None else 10
    text = f"a chunk of {chunk} lasts {chunk / meta.fps:.2f} s, {horizon} actions run before planning again " \
           f"({horizon / meta.fps:.2f} s)"  # fmt: skip
    short = chunk / meta.fps < 0.3
    yield Line("rate", "warning" if short else "ok", text, "--chunk-size larger: motion hardly shows in so short a time"
               if short else "")  # fmt: skip
