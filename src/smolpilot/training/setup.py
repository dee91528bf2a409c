"""From options to what a run trains: robot, policy, statistics, the two halves of the dataset; all checked here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from smolpilot.datasets import Dataset, DatasetMeta
from smolpilot.datasets.units import check_joints, derive_profile, doubt_units, find_profile
from smolpilot.errors import TrainingError
from smolpilot.keys import ACTION, STATE
from smolpilot.policy import FrameLayout, Policy, adapt_policy, load_policy, new_policy
from smolpilot.policy.camera_pairing import Pairing, typed_camera_map
from smolpilot.policy.create import pair_for_training, parent_statistics
from smolpilot.policy.joints import map_layout, to_policy_order
from smolpilot.policy.lineage import seen_episodes, trainings_on
from smolpilot.robots import RobotProfile, list_profiles
from smolpilot.robots.profile import spellings
from smolpilot.statistics import Statistics, merge_statistics

from .drift import FAR, drift
from .lora import add_lora
from .options import TrainOptions
from .parts import (
    Part,
    check_fingerprints,
    instructions_of,
    lineage_of,
    open_parts,
    own_statistics,
    set_layouts,
)
from .shared_statistics import load_statistics

Stats = Literal["parent", "dataset", "merged"]
_HORIZON = 10  # execution horizon where none is given


@dataclass
class Prepared:
    """A policy and the datasets it trains on and is validated on; `options` with nothing left open."""

    options: TrainOptions
    policy: Policy
    parts: list[Part]
    notes: list[str] = field(default_factory=list)
    robot_named: bool = True  # by the user; else it was found by the dataset's robot_type or joint names

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


def prepare(options: TrainOptions, lineage: Mapping[str, Any] | None = None) -> Prepared:
    """Open, check and build everything for a new run; nothing is written. `lineage`: more for the bundles to say."""
    notes: list[str] = []
    parts = open_parts(options, notes)
    for part in parts:
        part.train.check_videos()
        if part.held_out is not None:
            part.held_out.check_videos()
    meta = parts[0].meta
    profile = choose_profile(options.robot, meta, notes)
    doubt = None if options.units else doubt_units(meta, profile)
    if doubt is not None and doubt.severity == "ok":  # a warning is preflight's to say
        notes.append(f"units: {doubt.text}")
    set_layouts(parts, profile, options.units)
    policy, stats, cameras = _policy(options, parts, profile, notes)
    _note_seen(policy, parts, notes)
    said: dict[str, Any] = {"seed": options.seed, "steps": options.steps, "ema": options.ema}
    said["lora"] = _adapt(policy, options)
    policy.lineage |= lineage_of(parts, options) | said | dict(lineage or {})
    settled = dataclasses.replace(
        options,
        robot=options.robot or (profile.name if _is_shipped(profile) else None),
        chunk_size=policy.config.chunk_size,
        n_action_steps=policy.n_action_steps,
        camera_map=cameras.options,
        stats=stats if options.policy is not None and options.statistics is None else None,
    )
    return Prepared(settled, policy, parts, notes, robot_named=options.robot is not None)


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
    check_joints(meta, profile)
    return profile


def _is_shipped(profile: RobotProfile) -> bool:
    return profile.name in list_profiles() and RobotProfile.load(profile.name) == profile


def _policy(
    options: TrainOptions, parts: list[Part], profile: RobotProfile, notes: list[str]
) -> tuple[Policy, Stats, Pairing]:
    """The policy to train, whose statistics it normalises with, and how the cameras were paired with its slots."""
    meta, texts = parts[0].meta, instructions_of(parts)
    cameras = typed_camera_map(options.camera_map) if options.camera_map else None
    own_frames = own_statistics(parts, profile)
    statistics = own_frames if options.statistics is None else load_statistics(options.statistics, meta, profile)
    overrides: dict[str, Any] = {}
    if options.chunk_size is not None:
        overrides |= {"chunk_size": options.chunk_size, "n_action_steps": min(_HORIZON, options.chunk_size)}
    if options.n_action_steps is not None:
        overrides["n_action_steps"] = options.n_action_steps
    if options.train_expert_only is not None:
        frozen = options.train_expert_only
        overrides |= {"train_expert_only": frozen, "freeze_vision_encoder": frozen}
    if options.freeze_vision is not None:
        overrides["freeze_vision_encoder"] = options.freeze_vision
    if options.policy is None:
        assert options.preset is not None
        # Random weights have to be trained, all of them.
        overrides |= {"train_expert_only": False, "freeze_vision_encoder": False}
        policy = new_policy(
            options.preset, meta=meta, statistics=statistics, profile=profile, camera_map=cameras,
            tokenizer_dir=options.tokenizer, instructions=texts, seed=options.seed, overrides=overrides,
            device=options.device,
        )  # fmt: skip
        notes += policy.report.notes
        return policy, "dataset", Pairing(policy.recipe.camera_map)
    parent = load_policy(
        options.policy, device=options.device, dtype="float32", stats_from=options.stats_from,
        tokenizer_dir=options.tokenizer, need_statistics=False,
    )  # fmt: skip
    paired = pair_for_training(parent, meta.camera_names, cameras)
    kept = options.stats_from is not None or same_robot(parent, profile)
    own: Stats = options.stats or ("parent" if kept else "dataset")
    if options.statistics is not None:
        own = "dataset"
    if own == "merged":
        statistics = merged_with_parent(parent, meta, own_frames, profile)
    policy = adapt_policy(
        parent, meta=meta, statistics=None if own == "parent" else statistics, profile=profile,
        camera_map=cameras, instructions=texts, overrides=overrides,
    )  # fmt: skip
    notes += policy.report.notes
    if own == "parent":
        moved = to_policy_order(own_frames, FrameLayout.of_dataset(meta), profile)
        check_drift(policy.statistics, moved, profile, notes, stop=options.stats is None)
    return policy, own, paired


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
                    fix="--stats parent keeps the parent's, --stats dataset takes the dataset's",
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


def check_drift(parent: Statistics, own: Statistics, profile: RobotProfile, notes: list[str], *, stop: bool) -> None:
    """Compare a dataset with the parent's statistics per joint; far away, the parent's scale no longer fits."""
    far: list[str] = []
    for feature, joints in ((STATE, profile.state_joints), (ACTION, profile.action_joints)):
        if not {"mean", "std"} <= parent[feature].keys():
            notes.append(f"{feature}: the parent keeps no mean and deviation, so the drift is unknown")
            continue
        sigmas, ratios = drift(parent, own, feature)
        notes.append(
            f"{feature}: the dataset's mean lies {sigmas.max():.2f} of the parent's standard deviations away at most "
            f"({joints[int(sigmas.argmax())].name})"
        )
        for joint, sigma, ratio in zip(joints, sigmas, ratios, strict=True):
            if sigma > FAR or ratio > FAR:
                far.append(f"{feature} {joint.name}: mean {sigma:.1f} sigma away, deviation {ratio:.1f} times")
    if not far:
        return
    if stop:
        raise TrainingError(
            f"The dataset lies far from the parent's statistics: {'; '.join(far[:5])}.",
            expected=f"within {FAR:g} standard deviations, deviations up to {FAR:g} times",
            fix="--stats dataset normalises with the new recordings (the parent's skills suffer); --stats parent "
            "keeps the parent's statistics all the same; check the units of both first",
        )
    notes.append(f"WARNING: far from the parent's statistics: {'; '.join(far[:5])}")
