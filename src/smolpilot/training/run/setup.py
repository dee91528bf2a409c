"""From options to what a run trains: robot, policy, statistics, the two halves of the dataset; all checked here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from smolpilot.common.errors import TrainingError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, merge_statistics
from smolpilot.compatibility.datasets_together import check_joints
from smolpilot.compatibility.statistics_distance import check_drift
from smolpilot.contracts.lineage import seen_episodes, trained_rate, trainings_on
from smolpilot.datasets import Dataset, DatasetMeta
from smolpilot.datasets.read.joint_units import check_joints as check_own_joints
from smolpilot.datasets.read.joint_units import derive_profile, doubt_units, find_profile, with_cameras
from smolpilot.datasets.statistics.stored_statistics import outliers
from smolpilot.robots import RobotProfile, is_shipped
from smolpilot.robots.layout import map_layout, to_policy_order
from smolpilot.robots.profile import spellings
from smolpilot.smolvla import FrameLayout, Policy, adapt_policy, load_policy, new_policy
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.create import pair_for_training, parent_statistics
from smolpilot.smolvla.transforms.camera_slots import Pairing, typed_camera_map
from smolpilot.smolvla.transforms.normalize import settle_still
from smolpilot.training.data.run_datasets import (
    Part,
    check_fingerprints,
    instructions_of,
    lineage_of,
    open_parts,
    own_statistics,
    set_layouts,
)
from smolpilot.training.data.shared_statistics import load_statistics
from smolpilot.training.optimization.lora import add_lora
from smolpilot.training.train_options import TrainOptions

Stats = Literal["parent", "dataset", "merged"]
_HORIZON = 10  # execution horizon where none is given


@dataclass(frozen=True)
class Parent:
    """What is worth knowing of the policy that a run starts from, once its weights have gone into the new one."""

    policy: Policy  # its facts; the weights may be the new policy's
    rate: float | None  # frames per second that it was trained at
    cameras: Pairing  # the dataset's cameras and its slots


@dataclass
class Prepared:
    """A policy and the datasets it trains on and is validated on; `options` with nothing left open."""

    options: TrainOptions
    policy: Policy
    parts: list[Part]
    notes: list[str] = field(default_factory=list)
    robot_named: bool = True  # by the user; else it was found by the dataset's robot_type or joint names
    robot_known: bool = True  # by name or found; else the profile is derived from the dataset
    parent: Parent | None = None
    stats: Stats = "dataset"  # whose statistics the policy normalizes with

    @property
    def train(self) -> Dataset:
        """Training frames of the first (mostly the only) dataset; so are `held_out` and `layout` of it."""
        return self.parts[0].train

    @property
    def held_out(self) -> Dataset | None:
        return self.parts[0].held_out

    @property
    def layout(self) -> FrameLayout:
        return self.parts[0].layout

    @property
    def instructions(self) -> list[str]:
        return instructions_of(self.parts)

    @property
    def frames(self) -> int:
        """Frames to train on."""
        return sum(len(part.train) for part in self.parts)


def prepare(
    options: TrainOptions,
    lineage: Mapping[str, Any] | None = None,
    *,
    step: Callable[[str], object] = lambda name: None,
) -> Prepared:
    """Open, check and build everything for a new run; nothing is written.

    lineage: more for the bundles to say. step: told what is being looked at, so that `preflight` can say where an error
    comes from.
    """
    notes: list[str] = []
    step("dataset")
    parts = open_parts(options, notes)
    for part in parts:
        part.whole.check_videos()
    meta = parts[0].meta
    step("robot")
    found = find_profile(meta, options.robot, notes)
    profile, known = found or derive_profile(meta), found is not None
    if options.units:
        check_own_joints(meta, profile)
    doubt = None if options.units else doubt_units(meta, profile)
    if doubt is not None and doubt.severity == "ok":  # a warning is preflight's to say
        notes.append(f"units: {doubt.text}")
    profile = with_cameras(profile, meta, notes, named=options.robot is not None)
    set_layouts(parts, profile, options.units)
    step("joints")
    check_joints(parts, profile, named=options.robot is not None)
    step("policy")
    policy, stats, parent = _policy(options, parts, profile, notes, step)
    paired = Pairing(policy.transforms_config.camera_map) if parent is None else parent.cameras
    _note_seen(policy, parts, notes)
    said: dict[str, Any] = {"seed": options.seed, "steps": options.steps, "ema": options.ema}
    said["lora"] = _adapt(policy, options)
    policy.lineage |= lineage_of(parts, options) | said | dict(lineage or {})
    settled = dataclasses.replace(
        options,
        robot=options.robot or (profile.name if is_shipped(profile) else None),
        chunk_size=policy.config.chunk_size,
        n_action_steps=policy.n_action_steps,
        camera_map=paired.options,
        norm_stats=stats if options.policy is not None and options.norm_stats_file is None else None,
    )
    return Prepared(
        settled, policy, parts, notes, options.robot is not None, known or options.robot is not None, parent, stats
    )


def prepare_resumed(options: TrainOptions, checkpoint: Path) -> Prepared:
    """The policy of a checkpoint with the same frames as before; a changed dataset is a DatasetError."""
    policy = load_policy(checkpoint, device=options.device, dtype="float32")
    notes: list[str] = []
    parts = open_parts(options, notes)
    check_fingerprints(parts, policy.lineage)
    set_layouts(parts, policy.profile, options.units)
    _adapt(policy, options)
    return Prepared(options, policy, parts, notes)


def _adapt(policy: Policy, options: TrainOptions) -> dict[str, Any] | None:
    """Put adapters into the network where --lora asks for them; what the lineage says of them."""
    if options.lora is None:
        return None
    alpha = options.lora if options.lora_alpha is None else options.lora_alpha
    names = add_lora(policy.model, rank=options.lora, alpha=alpha, targets=options.lora_targets, seed=options.seed)
    return {"rank": options.lora, "alpha": alpha, "layers": len(names)}


def _note_seen(policy: Policy, parts: list[Part], notes: list[str]) -> None:
    for part in parts:
        held = part.held_out_episodes
        ancestors = trainings_on(part.meta.fingerprint, policy.lineage.get("parent") or {})
        if met := set(held) & (seen_episodes(part.meta, ancestors) or set()):
            notes.append(
                f"held out: the parent was trained on {len(met)} of these {len(held)} episodes, so its errors on them "
                "flatter (--seed and --held-out of the parent's training keep the same ones back)"
            )


def choose_profile(robot: str | None, meta: DatasetMeta, notes: list[str]) -> RobotProfile:
    """The profile that every verb takes for the dataset, else one derived from it; ProfileError where it has others."""
    profile = find_profile(meta, robot, notes)
    if profile is None:
        return derive_profile(meta)
    check_own_joints(meta, profile)
    return profile


def _policy(
    options: TrainOptions,
    parts: list[Part],
    profile: RobotProfile,
    notes: list[str],
    step: Callable[[str], object],
) -> tuple[Policy, Stats, Parent | None]:
    """The policy to train, whose statistics it normalizes with, and its parent."""
    meta, texts = parts[0].meta, instructions_of(parts)
    cameras = typed_camera_map(options.camera_map) if options.camera_map else None
    own_frames = own_statistics(parts, profile)
    statistics = (
        own_frames if options.norm_stats_file is None else load_statistics(options.norm_stats_file, meta, profile)
    )
    if options.policy is None:
        assert options.preset is not None
        fresh = preset(options.preset).normalization_mapping
        policy = new_policy(
            options.preset, meta=meta, statistics=_settled(statistics, fresh, meta, notes), profile=profile,
            camera_map=cameras, tokenizer_dir=options.tokenizer, instructions=texts, seed=options.seed,
            overrides=_overrides(options), device=options.device,
        )  # fmt: skip
        notes += policy.report.notes
        return policy, "dataset", None
    parent = load_policy(
        options.policy, device=options.device, dtype="float32", stats_from=options.policy_stats_from,
        tokenizer_dir=options.tokenizer, need_statistics=False,
    )  # fmt: skip
    step("statistics")
    own = _whose(options, parent, profile, notes)
    if own == "merged":
        statistics = merged_with_parent(parent, meta, own_frames, profile)
    if own == "parent":
        # First: what follows would blame something else for statistics that are missing or far off.
        moved = to_policy_order(own_frames, FrameLayout.of_dataset(meta), profile)
        # One absurd number moves a mean: preflight names it, with the frame, and stops.
        broken = options.preflight and any(one.absurd for part in parts for one in outliers(part.whole))
        if not broken:
            check_drift(parent_statistics(parent, profile), moved, profile, notes, stop=options.norm_stats is None)
    else:
        statistics = _settled(statistics, parent.config.normalization_mapping, meta, notes)
    step("cameras")
    paired = pair_for_training(parent, meta.camera_names, cameras)
    rate = trained_rate(parent.lineage, parent.profile.rate if parent.profile is not None else None)
    policy = adapt_policy(
        parent, meta=meta, statistics=None if own == "parent" else statistics, profile=profile,
        camera_map=cameras, instructions=texts, overrides=_overrides(options),
    )  # fmt: skip
    notes += policy.report.notes
    return policy, own, Parent(parent, rate, paired)


def _overrides(options: TrainOptions) -> dict[str, Any]:
    """Fields of PolicyConfig that the options set."""
    found: dict[str, Any] = {}
    if options.chunk_size is not None:
        found |= {"chunk_size": options.chunk_size, "n_action_steps": min(_HORIZON, options.chunk_size)}
    if options.n_action_steps is not None:
        found["n_action_steps"] = options.n_action_steps
    if options.max_tokens is not None:
        found["tokenizer_max_length"] = options.max_tokens
    if options.train_expert_only is not None:
        frozen = options.train_expert_only
        found |= {"train_expert_only": frozen, "freeze_vision_encoder": frozen}
    if options.freeze_vision is not None:
        found["freeze_vision_encoder"] = options.freeze_vision
    if options.policy is None:
        # Random weights have to be trained, all of them.
        found |= {"train_expert_only": False, "freeze_vision_encoder": False}
    return found


def _whose(options: TrainOptions, parent: Policy, profile: RobotProfile, notes: list[str]) -> Stats:
    """Whose statistics a fine-tuned policy normalizes with, where the options leave it open."""
    if options.norm_stats_file is not None:
        return "dataset"
    if options.norm_stats is not None:
        return options.norm_stats
    problem = parent.report.statistics_problem
    if problem:
        notes.append(f"statistics: the dataset's, since the parent's cannot be used: {problem}")
        return "dataset"
    return "parent" if options.policy_stats_from is not None or same_robot(parent, profile) else "dataset"


def _settled(statistics: Statistics, mapping: Mapping[str, str], meta: DatasetMeta, notes: list[str]) -> Statistics:
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
    back = map_layout(FrameLayout.of_dataset(meta), profile)
    merged: Statistics = {}
    for feature, mapping in zip((STATE, ACTION), back, strict=True):
        for whose, statistics in (("parent", before), ("dataset", own)):
            if "count" not in statistics.get(feature, {}):
                raise TrainingError(
                    f"The {whose}'s statistics of {feature} do not say of how many frames they are.",
                    expected="a count, to weigh the parent's frames against the dataset's",
                    fix="--norm-stats parent keeps the parent's, --norm-stats dataset takes the dataset's",
                )
        whole = merge_statistics([{feature: before[feature]}, {feature: own[feature]}])
        merged[feature] = mapping.backward_statistics(whole[feature])
    return merged


def same_robot(parent: Policy, profile: RobotProfile) -> bool:
    """Whether the parent drives the same joints; LeRobot's `NAME.pos` is joint NAME."""
    if parent.profile is None:
        return False
    before, now = ([spellings(joint.name)[-1] for joint in p.action_joints] for p in (parent.profile, profile))
    return before == now
