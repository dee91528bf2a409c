"""From options to what a run trains: datasets, robot, statistics and policy; all checked here, nothing written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from smolpilot.common.statistics import Statistics
from smolpilot.compatibility.preflight_checks import preflight_training
from smolpilot.compatibility.statistics_distance import check_drift
from smolpilot.compatibility.verdict import Line, Verb
from smolpilot.contracts.trained_on import seen_episodes, trained_rate, trainings_on
from smolpilot.datasets.read.joint_units import doubt_units
from smolpilot.datasets.statistics.stored_statistics import outliers
from smolpilot.robots import RobotProfile, is_shipped
from smolpilot.robots.demonstrated import Demonstrated, together
from smolpilot.robots.layout import frame_layout, to_policy_order
from smolpilot.smolvla import FrameLayout, Policy, adapt_policy, load_policy, new_policy
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.create import pair_for_training, parent_statistics
from smolpilot.smolvla.transforms.camera_slots import Pairing, typed_camera_map
from smolpilot.training.data.run_datasets import (
    RunDataset,
    check_fingerprints,
    check_simulations,
    demonstrated_in,
    instructions_of,
    lineage_of,
    open_datasets,
    shared_robot,
)
from smolpilot.training.data.run_statistics import (
    load_statistics,
    merged_with_parent,
    own_statistics,
    same_robot,
    settle_statistics,
)
from smolpilot.training.optimization.lora import add_lora
from smolpilot.training.options.train_options import TrainOptions

Stats = Literal["parent", "dataset", "merged"]
Step = Callable[[str], object]
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
    datasets: list[RunDataset]
    notes: list[str] = field(default_factory=list)
    robot_named: bool = True  # by the user; else it was found by the dataset's robot_type or joint names
    robot_known: bool = True  # by name or found; else the profile is derived from the dataset
    parent: Parent | None = None
    stats: Stats = "dataset"  # whose statistics the policy normalizes with
    demonstrated: Demonstrated | None = None  # by the run's own episodes; the policy's are its parent's, too

    def preflight(self, instruction: str | None = None, *, verb: Verb = "train") -> list[Line]:
        """What `preflight` says of this run, as far as preparing has not refused it already."""
        return preflight_training(
            self.datasets, self.policy, parent_rate=self.parent.rate if self.parent is not None else None,
            demonstrated=self.demonstrated, parent=self.parent.policy.demonstrated if self.parent is not None else None,
            units_given=bool(self.options.units), robot_named=self.robot_named, instruction=instruction, verb=verb,
        )  # fmt: skip


def prepare(
    options: TrainOptions, lineage: Mapping[str, Any] | None = None, *, step: Step = lambda name: None
) -> Prepared:
    """Open, check and build everything for a new run.

    lineage: more for the bundles to say. step: told what is being looked at, so that `preflight` can say where an error
    comes from.
    """
    notes: list[str] = []
    step("dataset")
    datasets = open_datasets(options.sources, held_out=options.held_out, seed=options.split, notes=notes)
    for dataset in datasets:
        dataset.whole.check_videos()
    check_simulations(datasets)
    profile, known = shared_robot(datasets, options.robot, options.units, notes, step)
    doubt = None if options.units else doubt_units(datasets[0].meta, profile)
    if doubt is not None and doubt.severity == "ok":  # a warning is preflight's to say
        notes.append(f"units: {doubt.text}")
    step("policy")
    parent: Parent | None = None
    stats: Stats = "dataset"
    if options.policy is None:
        policy = _new(options, datasets, profile, notes)
    else:
        policy, parent, stats = _fine_tuned(options, options.policy, datasets, profile, notes, step)
    paired = Pairing(policy.transforms_config.camera_map) if parent is None else parent.cameras
    notes += policy.report.notes
    _note_seen(policy, datasets, notes)
    said: dict[str, Any] = {"seed": options.seed, "steps": options.steps, "ema": options.ema}
    said["lora"] = _adapt(policy, options)
    own = _demonstrated(policy, datasets, profile)
    policy.lineage |= lineage_of(datasets, units_given=bool(options.units)) | said | dict(lineage or {})
    resolved = dataclasses.replace(
        options,
        robot=options.robot or (profile.name if is_shipped(profile) else None),
        chunk_size=policy.config.chunk_size,
        n_action_steps=policy.n_action_steps,
        camera_map=paired.options,
        norm_stats=stats if options.policy is not None and options.norm_stats_file is None else None,
    )
    return Prepared(resolved, policy, datasets, notes, options.robot is not None, known, parent, stats, own)


def prepare_resumed(options: TrainOptions, checkpoint: Path) -> Prepared:
    """The policy of a checkpoint with the same frames as before; a changed dataset is a DatasetError."""
    policy = load_policy(checkpoint, device=options.device, dtype="float32")
    notes: list[str] = []
    datasets = open_datasets(options.sources, held_out=options.held_out, seed=options.split, notes=notes)
    check_fingerprints(datasets, policy.lineage)
    for dataset in datasets:
        dataset.layout = frame_layout(dataset.meta, policy.profile, options.units)
    _adapt(policy, options)
    if policy.demonstrated is None and policy.profile is not None:  # begun by an earlier version
        _demonstrated(policy, datasets, policy.profile)
    return Prepared(options, policy, datasets, notes)


def _demonstrated(policy: Policy, datasets: list[RunDataset], profile: RobotProfile) -> Demonstrated:
    """What the run's own episodes say of speed and start poses; the policy keeps that together with its parent's."""
    own = demonstrated_in(datasets, policy.profile or profile)
    policy.demonstrated = together([own, policy.demonstrated]) if policy.demonstrated is not None else own
    return own


def _adapt(policy: Policy, options: TrainOptions) -> dict[str, Any] | None:
    """Put adapters into the network where --lora asks for them; what the lineage says of them."""
    if options.lora is None:
        return None
    alpha = options.lora if options.lora_alpha is None else options.lora_alpha
    names = add_lora(policy.model, rank=options.lora, alpha=alpha, targets=options.lora_targets, seed=options.seed)
    return {"rank": options.lora, "alpha": alpha, "layers": len(names)}


def _note_seen(policy: Policy, datasets: list[RunDataset], notes: list[str]) -> None:
    for dataset in datasets:
        held = dataset.held_out_episodes
        ancestors = trainings_on(dataset.meta.fingerprint, policy.lineage.get("parent") or {})
        if met := set(held) & (seen_episodes(dataset.meta, ancestors) or set()):
            notes.append(
                f"held out: the parent was trained on {len(met)} of these {len(held)} episodes, so its errors on them "
                "flatter (--seed and --held-out of the parent's training keep the same ones back)"
            )


def _new(options: TrainOptions, datasets: list[RunDataset], profile: RobotProfile, notes: list[str]) -> Policy:
    """A policy with random weights."""
    assert options.preset is not None
    meta = datasets[0].meta
    statistics = _statistics(options, datasets, profile)
    fresh = preset(options.preset).normalization_mapping
    return new_policy(
        options.preset, meta=meta, statistics=settle_statistics(statistics, fresh, meta, notes), profile=profile,
        camera_map=_camera_map(options), tokenizer_dir=options.tokenizer, instructions=instructions_of(datasets),
        seed=options.seed, overrides=_overrides(options), device=options.device,
    )  # fmt: skip


def _fine_tuned(
    options: TrainOptions, init: str, datasets: list[RunDataset], profile: RobotProfile, notes: list[str], step: Step
) -> tuple[Policy, Parent, Stats]:
    """The trained policy `init` made ready for the datasets, what it was, and whose statistics it normalizes with."""
    meta = datasets[0].meta
    parent = load_policy(
        init, device=options.device, dtype="float32", stats_from=options.policy_stats_from,
        tokenizer_dir=options.tokenizer, need_statistics=False,
    )  # fmt: skip
    step("statistics")
    stats = _whose(options, parent, profile, notes)
    statistics: Statistics | None = None
    if stats == "parent":
        # First: what follows would blame something else for statistics that are missing or far off.
        moved = to_policy_order(own_statistics(datasets, profile), FrameLayout.of_dataset(meta), profile)
        # One absurd number moves a mean: preflight names it, with the frame, and stops.
        broken = options.preflight and any(one.absurd for dataset in datasets for one in outliers(dataset.whole))
        if not broken:
            check_drift(parent_statistics(parent, profile), moved, profile, notes, stop=options.norm_stats is None)
    else:
        statistics = _statistics(options, datasets, profile)
        if stats == "merged":
            statistics = merged_with_parent(parent, meta, statistics, profile)
        statistics = settle_statistics(statistics, parent.config.normalization_mapping, meta, notes)
    step("cameras")
    cameras = _camera_map(options)
    paired = pair_for_training(parent, meta.camera_names, cameras)
    rate = trained_rate(parent.lineage, parent.profile.rate if parent.profile is not None else None)
    policy = adapt_policy(
        parent, meta=meta, statistics=statistics, profile=profile, camera_map=cameras,
        instructions=instructions_of(datasets), overrides=_overrides(options),
    )  # fmt: skip
    return policy, Parent(parent, rate, paired), stats


def _statistics(options: TrainOptions, datasets: list[RunDataset], profile: RobotProfile) -> Statistics:
    """Those of --norm-stats-file, else of all frames of the run."""
    if options.norm_stats_file is None:
        return own_statistics(datasets, profile)
    return load_statistics(options.norm_stats_file, datasets[0].meta, profile)


def _camera_map(options: TrainOptions) -> dict[str, str | None] | None:
    return typed_camera_map(options.camera_map) if options.camera_map else None


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
