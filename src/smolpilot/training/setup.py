"""From options to what a run trains: robot, policy, statistics, the two halves of the dataset; all checked here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smolpilot.datasets import (
    Dataset,
    DatasetMeta,
    compute_statistics,
    open_dataset,
    parse_episodes,
    read_meta,
    split_episodes,
)
from smolpilot.errors import DatasetError, ProfileError, TrainingError
from smolpilot.keys import ACTION, STATE
from smolpilot.policy import FrameLayout, Policy, adapt_policy, load_policy, new_policy
from smolpilot.policy.create import derive_profile, parent_statistics
from smolpilot.policy.joints import map_layout, to_policy_order
from smolpilot.policy.lineage import seen_episodes, trainings_on
from smolpilot.robots import RobotProfile, list_profiles
from smolpilot.statistics import Statistics, merge_statistics

from .options import TrainOptions
from .units import frame_layout, in_profile_units

Stats = Literal["parent", "dataset", "merged"]
_UNUSED = "none"  # in a camera map: the camera is left out
_HORIZON = 10  # execution horizon where none is given
FAR = 3.0  # standard deviations between two means, or the ratio of two deviations, that stop a run


@dataclass
class Prepared:
    """A policy and the frames it trains on and is validated on; `options` with nothing left open."""

    options: TrainOptions
    policy: Policy
    layout: FrameLayout  # of the dataset's frames
    train: Dataset
    held_out: Dataset | None
    notes: list[str] = field(default_factory=list)


def prepare(options: TrainOptions) -> Prepared:
    """Open, check and build everything for a new run; nothing is written."""
    assert options.dataset is not None
    dataset = _open(options)
    notes: list[str] = []
    train, held_out = split(dataset, options, notes)
    dataset.check_videos()
    meta = dataset.meta
    if options.episodes is not None:
        # What the recording says of all its episodes may come from those that are left out.
        meta = dataclasses.replace(meta, statistics=meta.statistics | compute_statistics(dataset))
    profile = choose_profile(options.robot, meta, notes)
    layout = frame_layout(meta, profile, options.units)
    policy, stats = _policy(options, meta, profile, layout, list(train.instructions), notes)
    held = held_out.episodes if held_out is not None else []
    ancestors = trainings_on(meta.fingerprint, policy.lineage.get("parent") or {})
    if met := set(held) & (seen_episodes(meta, ancestors) or set()):
        notes.append(
            f"held out: the parent was trained on {len(met)} of these {len(held)} episodes, so its errors on them "
            "flatter (--seed and --held-out of the parent's training keep the same ones back)"
        )
    policy.lineage |= {
        "dataset_fingerprint": dataset.meta.fingerprint,
        "trained_episodes": train.episodes,
        "held_out_episodes": held,
        "dataset_units": {"state": layout.state.units, "action": layout.action.units} if options.units else None,
        "seed": options.seed,
        "steps": options.steps,
        "ema": options.ema,
    }
    settled = dataclasses.replace(
        options,
        robot=options.robot or (profile.name if _is_shipped(profile) else None),
        chunk_size=policy.config.chunk_size,
        n_action_steps=policy.n_action_steps,
        camera_map={camera: slot or _UNUSED for camera, slot in policy.transforms.camera_map.items()},
        stats=stats if options.policy is not None else None,
    )
    return Prepared(settled, policy, layout, train, held_out, notes)


def prepare_resumed(options: TrainOptions, checkpoint: Path) -> Prepared:
    """The policy of a checkpoint with the same frames as before; a changed dataset is a DatasetError."""
    assert options.dataset is not None
    policy = load_policy(checkpoint, device=options.device, dtype="float32")
    dataset = _open(options)
    expected, found = policy.lineage.get("dataset_fingerprint"), dataset.meta.fingerprint
    if expected != found:
        raise DatasetError(
            f"The dataset {options.dataset} is not the one the run began with (fingerprint {found}, was {expected}).",
            fix="restore it, or start a new run from the checkpoint with --policy",
        )
    notes: list[str] = []
    train, held_out = split(dataset, options, notes)
    layout = frame_layout(dataset.meta, policy.profile, options.units)
    return Prepared(options, policy, layout, train, held_out, notes)


def _open(options: TrainOptions) -> Dataset:
    """The dataset, or the chosen episodes of it."""
    assert options.dataset is not None
    if options.episodes is None:
        return open_dataset(options.dataset)
    return open_dataset(options.dataset, episodes=parse_episodes(options.episodes, read_meta(options.dataset)))


def split(dataset: Dataset, options: TrainOptions, notes: list[str]) -> tuple[Dataset, Dataset | None]:
    """Training and held-out frames, the same for the same dataset, share and seed."""
    train, held = split_episodes(dataset.meta, held_out=options.held_out, seed=options.seed, episodes=dataset.episodes)
    if not held:
        notes.append("no episode is held out: `best` is the last checkpoint, and nothing says how good it is")
        return dataset.select(train), None
    return dataset.select(train), dataset.select(held)


def choose_profile(robot: str | None, meta: DatasetMeta, notes: list[str]) -> RobotProfile:
    """The named profile, else the shipped one named like the dataset's robot, else one derived from the dataset."""
    if robot is not None:
        return RobotProfile.load(robot)
    shipped = (meta.robot_type or "").lower().replace("-", "_")
    if shipped in list_profiles():
        profile = RobotProfile.load(shipped)
        try:
            map_layout(FrameLayout.of_dataset(meta), profile)
        except ProfileError as error:
            notes.append(f"robot: the profile '{shipped}' does not fit ({error.found}) and is not used")
        else:
            notes.append(f"robot: {shipped}, by the dataset's robot_type")
            return profile
    notes.append(
        f"robot: no profile for '{meta.robot_type}' is named or shipped: joints and cameras are the dataset's, "
        "units and limits are unknown (--robot PROFILE gives them)"
    )
    return derive_profile(meta)


def _is_shipped(profile: RobotProfile) -> bool:
    return profile.name in list_profiles() and RobotProfile.load(profile.name) == profile


def _policy(
    options: TrainOptions,
    meta: DatasetMeta,
    profile: RobotProfile,
    layout: FrameLayout,
    texts: list[str],
    notes: list[str],
) -> tuple[Policy, Stats]:
    """The policy to train and whose statistics it normalises with."""
    cameras = _camera_map(options)
    statistics = in_profile_units(meta, layout, profile)
    overrides: dict[str, Any] = {}
    if options.chunk_size is not None:
        overrides |= {"chunk_size": options.chunk_size, "n_action_steps": min(_HORIZON, options.chunk_size)}
    if options.n_action_steps is not None:
        overrides["n_action_steps"] = options.n_action_steps
    if options.train_expert_only is not None:
        frozen = options.train_expert_only
        overrides |= {"train_expert_only": frozen, "freeze_vision_encoder": frozen}
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
        return policy, "dataset"
    parent = load_policy(
        options.policy, device=options.device, dtype="float32", stats_from=options.stats_from,
        tokenizer_dir=options.tokenizer, need_statistics=False,
    )  # fmt: skip
    kept = options.stats_from is not None or _same_robot(parent, profile)
    own: Stats = options.stats or ("parent" if kept else "dataset")
    if own == "merged":
        statistics = _merged(parent, meta, layout, profile)
    policy = adapt_policy(
        parent, meta=meta, statistics=None if own == "parent" else statistics, profile=profile,
        camera_map=cameras, instructions=texts, overrides=overrides,
    )  # fmt: skip
    notes += policy.report.notes
    if own == "parent":
        own_statistics = to_policy_order(meta.statistics, layout, profile)
        _check_drift(policy, own_statistics, profile, notes, stop=options.stats is None)
    return policy, own


def _merged(parent: Policy, meta: DatasetMeta, layout: FrameLayout, profile: RobotProfile) -> Statistics:
    """Statistics of the parent's frames and the dataset's together, in the dataset's order and the profile's units."""
    before, own = parent_statistics(parent, profile), to_policy_order(meta.statistics, layout, profile)
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


def _camera_map(options: TrainOptions) -> dict[str, str | None] | None:
    if not options.camera_map:
        return None
    return {camera: None if slot == _UNUSED else slot for camera, slot in options.camera_map.items()}


def _same_robot(parent: Policy, profile: RobotProfile) -> bool:
    if parent.profile is None:
        return False
    return [j.name for j in parent.profile.action_joints] == [j.name for j in profile.action_joints]


def _check_drift(policy: Policy, own: Statistics, profile: RobotProfile, notes: list[str], *, stop: bool) -> None:
    """Compare the dataset with the parent's statistics per joint; far away, the parent's scale no longer fits."""
    far: list[str] = []
    for feature, joints in ((STATE, profile.state_joints), (ACTION, profile.action_joints)):
        if not {"mean", "std"} <= policy.statistics[feature].keys():
            notes.append(f"{feature}: the parent keeps no mean and deviation, so the drift is unknown")
            continue
        sigmas, ratios = drift(policy.statistics, own, feature)
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


def drift(parent: Statistics, own: Statistics, feature: str) -> tuple[Any, Any]:
    """Per joint: distance of the means in the parent's standard deviations; ratio own/parent of the deviations."""
    deviation = np.maximum(parent[feature]["std"], 1e-6)
    return np.abs(own[feature]["mean"] - parent[feature]["mean"]) / deviation, own[feature]["std"] / deviation
