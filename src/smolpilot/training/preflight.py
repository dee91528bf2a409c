"""Preflight: dataset, policy, robot and instruction against each other, before an hour is spent or an arm moves.

Each line is ok, a warning or an error with the option that fixes it. What stops `train` is found here by the same code.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from smolpilot.datasets import Dataset, DatasetMeta, open_dataset
from smolpilot.datasets.left_out import left_out_note
from smolpilot.datasets.units import check_joints, derive_profile, doubt_units, find_profile
from smolpilot.errors import DatasetError, SmolpilotError
from smolpilot.keys import ACTION, STATE
from smolpilot.policy.camera_pairing import camera_text, typed_camera_map
from smolpilot.policy.lineage import trainings_on
from smolpilot.policy.units import frame_layout, layout_for
from smolpilot.robots import RobotProfile, findings_of
from smolpilot.robots.layout import FrameLayout, map_layout, to_policy_order
from smolpilot.words import numbered

from .drift import FAR, drift
from .preflight_options import PreflightOptions

if TYPE_CHECKING:
    # Without a policy nothing here needs torch, which takes seconds and most of a gigabyte to load.
    from smolpilot.policy import Policy

    from .setup import Prepared

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Line:
    """One comparison."""

    topic: str
    verdict: Verdict
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """As plain values."""
        return asdict(self)


def preflight(options: PreflightOptions) -> list[Line]:
    """All lines; the first error of the dataset or the policy itself ends the list, the others do not."""
    try:
        dataset = open_dataset(options.dataset)
        dataset.check_videos()
    except SmolpilotError as error:
        return [_failed("dataset", error)]
    meta = dataset.meta
    lines = [Line("dataset", "ok", f"LeRobot {meta.version}, {len(meta.episodes)} episodes, {len(dataset):,} frames, "
                  f"{meta.fps:g} per second"), *_left_out(meta)]  # fmt: skip
    policy: Policy | None = None
    if options.policy is not None:
        from smolpilot.policy import load_policy

        try:
            policy = load_policy(
                options.policy, device="cpu", dtype="float32", stats_from=options.stats_from,
                tokenizer_dir=options.tokenizer, need_statistics=False,
            )  # fmt: skip
            lines.append(Line("policy", "ok", f"{options.policy}: state {policy.config.state_dim}, action "
                              f"{policy.config.action_dim}, chunk {policy.config.chunk_size}"))  # fmt: skip
        except SmolpilotError as error:
            lines.append(_failed("policy", error))
    try:
        notes: list[str] = []
        found = find_profile(meta, options.robot, notes)
        profile = found or derive_profile(meta)
        if options.units:
            check_joints(meta, profile)
        layout = frame_layout(meta, profile, options.units)
    except SmolpilotError as error:
        return [*lines, _failed("robot", error)]
    known = found is not None or options.robot is not None
    said = "; ".join(note.removeprefix("robot: ") for note in notes) or profile.name
    lines.append(Line("robot", "ok" if known else "warning", said,
                      "" if known else "--robot NAME gives units and limits"))  # fmt: skip
    checks: list[tuple[str, Callable[[], Iterator[Line]]]] = [
        ("joints", lambda: _joints(meta, layout, profile)),
        ("units", lambda: _units(meta, profile, told=bool(options.units))),
        ("ranges", lambda: _ranges(dataset, layout, profile, named=options.robot is not None)),
        ("cameras", lambda: _cameras(meta, profile, policy, options.camera_map)),
        ("rate", lambda: _rate(meta, profile, policy)),
        ("statistics", lambda: _statistics(meta, layout, profile, policy)),
        ("instruction", lambda: _instructions(dataset, policy, options.instruction)),
    ]
    for topic, check in checks:
        if topic in ("units", "ranges", "statistics") and any(line.topic == "joints" for line in lines):
            continue  # without the joints there is nothing to compare
        try:
            lines += list(check())
        except SmolpilotError as error:
            lines.append(_failed(topic, error))
    return lines


def preflight_training(prepared: Prepared) -> list[Line]:
    """What is left to compare once `prepare` has accepted joints, cameras and the parent's statistics."""
    policy, lines = prepared.policy, []
    profile = policy.profile
    assert profile is not None
    for part in prepared.parts:
        own = [
            *_left_out(part.meta),
            *_units(part.meta, profile, told=bool(prepared.options.units)),
            # A note says already that nothing is known.
            *_ranges(part.train, part.layout, profile, unknown=False, named=prepared.robot_named),
            *_rate(part.meta, profile, policy),
            *_still(part.meta),
            *_instructions(part.train, policy, None),
        ]
        several = len(prepared.parts) > 1
        lines += [replace(line, topic=f"{part.title}: {line.topic}") if several else line for line in own]
    return lines


def preflight_policy(
    policy: Policy,
    dataset: Dataset,
    instruction: str | None = None,
    units: Mapping[str, str] | None = None,
    robot: str | None = None,
) -> list[Line]:
    """A trained policy against a recording that it is to be scored on, or against the text it will be told.

    The recording that it was trained on needs no comparison of statistics: training has made it. robot: the profile of
    a policy without one, as `--robot` says it.
    """
    profile, meta = policy.profile, dataset.meta
    if profile is None:
        # A policy without a profile works in the recording's own units: only what they are called is at stake.
        found = find_profile(meta, robot, [])
        plain = FrameLayout.of_dataset(meta)
        doubted = [] if found is None else list(_ranges(dataset, plain, found, unknown=False, named=robot is not None))
        if robot is None:
            doubted = [replace(line, verdict="warning") for line in doubted if line.verdict == "error"]
        return [*doubted, *_instructions(dataset, policy, instruction)]
    same = trainings_on(meta.fingerprint, policy.lineage)
    layout = layout_for(policy, meta, units)
    lines = [
        *_left_out(meta),
        *_ranges(dataset, layout, profile, unknown=False),
        *_instructions(dataset, policy, instruction),
    ]
    return lines if same else [*lines, *_statistics(meta, layout, profile, policy)]


def _left_out(meta: DatasetMeta) -> Iterator[Line]:
    """What samples leave out; said once for each dataset."""
    note = left_out_note(meta)
    if note:
        found, _, fix = note.partition(". ")
        yield Line("features", "warning", found, fix)


def stop_on_errors(lines: Iterable[Line], *, overruled: bool, say: Callable[[str], object]) -> None:
    """Say warnings (and overruled errors); a DatasetError with all errors unless `overruled`."""
    errors = []
    for line in lines:
        if line.verdict == "warning" or (line.verdict == "error" and overruled):
            say(f"{line.verdict}: {line.topic}: {line.found}" + (f" ({line.fix})" if line.fix else ""))
        elif line.verdict == "error":
            errors.append(line)
    if errors:
        fixes = [line.fix for line in errors if line.fix]
        raise DatasetError(
            f"Preflight found {numbered(len(errors), 'error')}: "
            + "; ".join(f"{line.topic}: {line.found}" for line in errors),
            fix="; ".join([*fixes, "or --no-preflight, to go on all the same"]),
        )


def _failed(topic: str, error: SmolpilotError) -> Line:
    return Line(topic, "error", error.found, error.fix or error.expected)


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


def _cameras(
    meta: DatasetMeta, profile: RobotProfile, policy: Policy | None, typed: Mapping[str, str]
) -> Iterator[Line]:
    """Each camera of the dataset to its slot."""
    if policy is not None:
        from smolpilot.policy.create import pair_for_training

        paired = pair_for_training(policy, meta.camera_names, typed_camera_map(typed))
        text = "; ".join([camera_text(paired.map), *paired.notes, *paired.warnings])
        fix = "--camera-map NAME=SLOT, where another pair is meant" if paired.warnings else ""
        yield Line("cameras", "warning" if paired.warnings else "ok", text, fix)
        return
    known = set(profile.camera_names)
    strange = [name for name in meta.camera_names if known and name not in known]
    text = ", ".join(f"{name} {camera.width}x{camera.height}" for name, camera in meta.cameras.items()) or "none"
    fix = f"the profile's cameras are {', '.join(sorted(known))}" if strange else ""
    yield Line("cameras", "warning" if strange else "ok", text, fix)


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


def _still(meta: DatasetMeta) -> Iterator[Line]:
    for key, names in ((STATE, meta.state_names), (ACTION, meta.action_names)):
        still = [name for name, std in zip(names, meta.statistics[key]["std"], strict=True) if std < 1e-6]
        if still:
            text = f"{key}: without any motion: {', '.join(still[:5])}"
            yield Line("statistics", "warning", text, "a policy keeps them where they are")


def _statistics(meta: DatasetMeta, layout: FrameLayout, profile: RobotProfile, policy: Policy | None) -> Iterator[Line]:
    """Constant joints of the recording; with a policy, how far the recording lies from its statistics."""
    yield from _still(meta)
    if policy is None:
        yield Line("statistics", "ok", "computed from the recording")
        return
    own = to_policy_order(meta.statistics, layout, profile)
    for key, joints in ((STATE, profile.state_joints), (ACTION, profile.action_joints)):
        stored = policy.statistics.get(key, {})
        if "mean" not in stored or len(stored["mean"]) != len(joints):
            yield Line("statistics", "warning", f"{key}: the policy has none for these joints; the dataset's are taken",
                       "nothing, when the policy was trained on another robot; else --stats-from")  # fmt: skip
            continue
        sigmas, ratios = drift(policy.statistics, own, key)
        worst = int(np.maximum(sigmas, ratios).argmax())
        far = sigmas[worst] > FAR or ratios[worst] > FAR
        text = (
            f"{key}: {joints[worst].name} lies {sigmas[worst]:.2f} of the policy's standard deviations away and moves "
            f"{ratios[worst]:.2f} times as much; no joint is farther"
        )
        fix = "check the units; then --stats dataset, or --stats parent" if far else ""
        yield Line("statistics", "error" if far else "ok", text, fix)


def _instructions(dataset: Dataset, policy: Policy | None, given: str | None) -> Iterator[Line]:
    """The recorded texts, and the given one, against the texts that the policy knows."""
    recorded = [text.strip() for text in dataset.instructions]
    if any(not text for text in recorded):
        yield Line("instruction", "error", "some frames have an empty instruction", "smolpilot dataset tasks sets them")
    known = [text.strip() for text in (policy.instructions if policy is not None else [])] or recorded
    asked = given.strip() if given is not None else None
    if asked is None:
        yield Line("instruction", "ok", f"{len(recorded)} recorded: {'; '.join(recorded[:3])}"
                   + (" ..." if len(recorded) > 3 else ""))  # fmt: skip
        return
    if asked in known:
        yield Line("instruction", "ok", f"“{asked}” is a trained text")
        return
    nearest = difflib.get_close_matches(asked, known, n=1, cutoff=0.0)
    yield Line("instruction", "error", f"“{asked}” was never recorded or trained",
               f"say “{nearest[0]}”" if nearest else "record it")  # fmt: skip
