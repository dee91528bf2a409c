"""Preflight: dataset, policy, robot and instruction against each other, before an hour is spent or an arm moves.

Each line is ok, a warning or an error with the option that fixes it. With a policy it prepares a run as `train` does,
by the same functions, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from smolpilot.datasets import Dataset, DatasetMeta, open_dataset, parse_episodes, read_meta
from smolpilot.datasets.stored_statistics import exact_statistics
from smolpilot.errors import SmolpilotError
from smolpilot.keys import ACTION, STATE
from smolpilot.policy import FrameLayout, Policy
from smolpilot.policy.create import propose_cameras
from smolpilot.policy.joints import map_layout, to_policy_order
from smolpilot.policy.lineage import trained_rate, trainings_on
from smolpilot.policy.units import frame_layout, layout_for
from smolpilot.robots import RobotProfile

from .checks import drift_lines, instruction_lines, number_lines, rate_lines, stored_lines
from .options import TrainOptions, check
from .preflight_options import PreflightOptions
from .setup import Prepared, choose_profile, prepare
from .together import other_rates, other_units, with_cameras
from .verdict import Line, Verb, Verdict, failed, stop_on_errors

__all__ = [
    "Line",
    "PreflightOptions",
    "Verdict",
    "preflight",
    "preflight_policy",
    "preflight_training",
    "stop_on_errors",
]

_TURN = 180 / np.pi
_NO_RADIANS = 3 * np.pi  # no arm's joint turns that far


def preflight(options: PreflightOptions) -> list[Line]:
    """All lines; the first error of the dataset or the policy itself ends the list, the others do not."""
    if options.policy is None:
        return _preflight_dataset(options)
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
        _robot_line(options, profile, [note for note in prepared.notes if note.startswith("robot: ")]),
        *_joints(meta, prepared.layout, profile),
        *_cameras(meta, profile, parent.policy, prepared.policy.transforms.camera_map if options.camera_map else None),
        *_scale_lines(prepared),
        *preflight_training(prepared, options.instruction, verb="preflight"),
    ]


def training_options(options: PreflightOptions) -> TrainOptions:
    """The training that a preflight with a policy stands for."""
    return TrainOptions(
        dataset=options.dataset, policy=options.policy, out=Path("never"), steps=1, robot=options.robot,
        units=options.units, stats=options.stats, stats_from=options.stats_from, tokenizer=options.tokenizer,
        camera_map=options.camera_map, chunk_size=options.chunk_size, max_tokens=options.max_tokens,
        episodes=options.episodes, device="cpu",
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
    lines = [_dataset_line(dataset)]
    try:
        notes: list[str] = []
        profile = choose_profile(options.robot, meta, notes)
        if options.robot is None:
            profile = with_cameras(profile, meta, notes)
        layout = frame_layout(meta, profile, options.units)
    except SmolpilotError as error:
        return [*lines, failed("robot", error)]
    lines.append(_robot_line(options, profile, notes))
    checks: list[tuple[str, Callable[[], Iterator[Line]]]] = [
        ("joints", lambda: _joints(meta, layout, profile)),
        ("ranges", lambda: _ranges(dataset, layout, profile)),
        ("cameras", lambda: _cameras(meta, profile, None)),
        ("rate", lambda: _rate(meta, profile, None)),
        ("statistics", lambda: number_lines(dataset, stored, exact_statistics(dataset), "preflight")),
        ("instruction", lambda: instruction_lines(dataset, None, options.instruction, "preflight")),
    ]
    for topic, compare in checks:
        if topic == "ranges" and any(line.topic == "joints" for line in lines):
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
            *_ranges(part.whole, part.layout, profile, unknown=verb == "preflight"),  # in training a note says it
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
    policy: Policy, dataset: Dataset, instruction: str | None = None, units: Mapping[str, str] | None = None
) -> list[Line]:
    """A trained policy against a dataset that it is to be scored on, or against the text it will be told.

    Far from the policy's statistics is no error on the dataset that it was trained on: training has accepted that.
    """
    profile, meta = policy.profile, dataset.meta
    trained = trained_rate(policy.lineage, profile.rate if profile is not None else None)
    lines = list(rate_lines(trained, meta.fps, "eval"))
    computed = exact_statistics(dataset)
    lines += stored_lines(dataset, meta.statistics, computed, "eval")
    same = bool(trainings_on(meta.fingerprint, policy.lineage))
    layout = layout_for(policy, meta, units)
    if profile is not None:
        lines += _ranges(dataset, layout, profile, unknown=False)
        state, action = ([joint.name for joint in own] for own in (profile.state_joints, profile.action_joints))
    else:
        state, action = meta.state_names, meta.action_names
    own = to_policy_order(computed, layout, profile)
    lines += drift_lines(policy.statistics, own, state, action, "eval", sure=profile is not None and not same)
    return [*lines, *instruction_lines(dataset, policy, instruction, "eval")]


def _dataset_line(dataset: Dataset) -> Line:
    meta = dataset.meta
    text = f"LeRobot {meta.version}, {len(dataset.episodes)} episodes, {len(dataset):,} frames, {meta.fps:g} per second"
    return Line("dataset", "ok", text)


def _robot_line(options: PreflightOptions, profile: RobotProfile, notes: list[str]) -> Line:
    fix = "" if options.robot else "--robot NAME gives units and limits"
    return Line("robot", "ok" if options.robot else "warning", "; ".join(notes) or profile.name, fix)


def _scale_lines(prepared: Prepared) -> Iterator[Line]:
    """Whose statistics the run normalises with, and how far the dataset lies from a parent's."""
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
        # Prepared in spite of it: --stats parent was given.
        yield replace(line, verdict="warning") if line.verdict == "error" else line


def _joints(meta: DatasetMeta, layout: FrameLayout, profile: RobotProfile) -> Iterator[Line]:
    """Every dimension has its joint; widths beyond the network's."""
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


def _ranges(dataset: Dataset, layout: FrameLayout, profile: RobotProfile, *, unknown: bool = True) -> Iterator[Line]:
    """Recorded values against the profile's limits: degrees taken for radians show here."""
    extremes = {
        key: {"min": values.min(axis=0).astype(np.float64), "max": values.max(axis=0).astype(np.float64)}
        for key, values in ((STATE, dataset.states), (ACTION, dataset.actions))
    }
    moved = to_policy_order(extremes, layout, profile)
    for key, joints in ((STATE, profile.state_joints), (ACTION, profile.action_joints)):
        outside, turned, known = [], 0, 0
        for joint, low, high in zip(joints, moved[key]["min"], moved[key]["max"], strict=True):
            if joint.position_limits is None:
                continue
            known += 1
            first, last = joint.position_limits
            room = 0.02 * (last - first)
            if low < first - room or high > last + room:
                outside.append(f"{joint.name} {low:.4g} to {high:.4g} (limits {first:g} to {last:g} {joint.unit})")
                turned += (
                    joint.unit == "rad"
                    and max(-low, high) > _NO_RADIANS
                    and (first - room <= low / _TURN and high / _TURN <= last + room)
                )
        if not known:
            if unknown:
                yield Line(
                    "ranges", "warning", f"{key}: the profile knows no limits", "add position_limits to the profile"
                )
        elif not outside:
            yield Line("ranges", "ok", f"{key}: all of {known} joints with limits lie within them")
        elif turned == len(outside):
            yield Line("ranges", "error", f"{key} looks like degrees: {'; '.join(outside[:3])}", "--units all=deg")
        else:
            yield Line("ranges", "warning", f"{key} leaves the limits: {'; '.join(outside[:3])}"
                       + (f" and {len(outside) - 3} more" if len(outside) > 3 else ""),
                       "check units (--units) and the profile's limits")  # fmt: skip


def _cameras(
    meta: DatasetMeta, profile: RobotProfile, policy: Policy | None, chosen: Mapping[str, str | None] | None = None
) -> Iterator[Line]:
    """Each camera of the dataset to its slot; `chosen`: by --camera-map."""
    if policy is not None:
        notes: list[str] = []
        found = dict(chosen) if chosen is not None else propose_cameras(policy.config, meta, notes)
        text = ", ".join(f"{camera} -> {slot or 'not used'}" for camera, slot in found.items())
        fix = "--camera-map NAME=SLOT keeps the policy's slots" if notes else ""
        yield Line("cameras", "warning" if notes else "ok", "; ".join([text, *notes]), fix)
        return
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
