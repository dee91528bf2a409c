"""From a plan to the training options of each stage; what does not fit is found before anything is trained."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from smolpilot.common.errors import TrainingError, UsageError, errors_of
from smolpilot.common.statistics import Statistics
from smolpilot.compatibility.datasets_together import other_rates
from smolpilot.compatibility.statistics_distance import check_drift
from smolpilot.robots import RobotProfile, list_profiles
from smolpilot.robots.layout import to_policy_order
from smolpilot.smolvla import FrameLayout, load_policy
from smolpilot.smolvla.create import parent_statistics
from smolpilot.training.data.run_datasets import RunDataset, open_datasets, shared_robot
from smolpilot.training.data.run_statistics import merged_with_parent, own_statistics, same_robot
from smolpilot.training.options.sources import Source
from smolpilot.training.options.train_options import TrainOptions, check, options_of, resolve

from .plan import PREVIOUS, Plan
from .sequence_paths import SequencePaths

_FREEZE: dict[str | None, dict[str, bool]] = {
    None: {},
    "vision-language": {"train_expert_only": True},
    "vision": {"train_expert_only": False, "freeze_vision": True},
    "nothing": {"train_expert_only": False},
}


@dataclass(frozen=True)
class OpenedStages:
    """A plan with the command's options and what they name: the datasets of all stages, each whole (not as replayed),
    and the robot that they share."""

    plan: Plan
    defaults: TrainOptions
    paths: SequencePaths
    datasets: list[RunDataset]
    profile: RobotProfile
    notes: list[str]


def merge_defaults(plan: Plan, given: TrainOptions) -> TrainOptions:
    """The options of the command over the plan's `defaults`; a wrong value there is a UsageError."""
    bare = TrainOptions()
    own = {key: value for key, value in plan.defaults.items() if getattr(given, key) == getattr(bare, key)}
    return options_of({**vars(given), **own}, f"{given.stages}: defaults: ")


def open_stages(plan: Plan, defaults: TrainOptions, paths: SequencePaths) -> OpenedStages:
    """Open and split every dataset; UsageError or ProfileError when they do not go together."""
    sources = tuple(
        Source(stage.dataset, episodes=stage.episodes, instruction=stage.instruction, name=stage.name)
        for stage in plan.stages
    )
    notes: list[str] = []
    datasets = open_datasets(sources, held_out=defaults.held_out, seed=defaults.seed, notes=notes)
    for dataset in datasets:
        if dataset.held_out is None:
            raise UsageError(
                f"Stage {dataset.title} holds no episode out, so nothing can tell what later stages forget of it.",
                expected="two or more episodes, and --held-out above 0",
            )
        dataset.whole.check_videos()
    profile, _ = shared_robot(datasets, defaults.robot, defaults.units, notes)
    if rates := other_rates(datasets):
        notes.append(f"WARNING: {rates}")
    return OpenedStages(plan, defaults, paths, datasets, profile, notes)


def shared_statistics(opened: OpenedStages) -> tuple[Statistics, str]:
    """The statistics of all stages, in the profile's order, and where they are from.

    A stage that changed them would rescale what the stages before it have learned. So they are fixed before the first:
    those of all stages' datasets together, or the parent's where it drives the same joints (as in a single run).
    """
    datasets, profile, defaults = opened.datasets, opened.profile, opened.defaults
    own, layout = own_statistics(datasets, profile), FrameLayout.of_dataset(datasets[0].meta)
    own_moved = to_policy_order(own, layout, profile)
    together = f"the datasets of all {len(datasets)} stages together"
    init = opened.plan.stages[0].init or defaults.policy
    if init is None:
        return own_moved, together
    parent = load_policy(
        init, device="cpu", dtype="float32", stats_from=defaults.policy_stats_from, tokenizer_dir=defaults.tokenizer,
        need_statistics=False,
    )  # fmt: skip
    kept = defaults.policy_stats_from is not None or same_robot(parent, profile)
    chosen = defaults.norm_stats or ("parent" if kept else "dataset")
    if chosen == "dataset":
        return own_moved, together
    if chosen == "merged":
        merged = merged_with_parent(parent, datasets[0].meta, own, profile)
        return to_policy_order(merged, layout, profile), f"the parent's and {together}"
    statistics = parent_statistics(parent, profile)
    for dataset in datasets:
        moved = to_policy_order(dataset.meta.statistics, dataset.layout, profile)
        notes: list[str] = []
        with errors_of(f"Stage {dataset.title}", TrainingError):
            check_drift(statistics, moved, profile, notes, stop=defaults.norm_stats is None)
        opened.notes.extend(f"{dataset.title}: {note}" for note in notes)
    return statistics, f"those of {init}"


def stage_options(opened: OpenedStages, number: int, attempt: int = 1) -> TrainOptions:
    """The complete training options of stage `number` (1 is the first) at its attempt `attempt` (from 1)."""
    plan, paths = opened.plan, opened.paths
    stage = plan.stages[number - 1]
    options = options_of({**vars(opened.defaults), **stage.options}, f"stage {stage.name}: options: ")
    # A preset says the usual batch size and rate of its kind of policy, in every stage that starts from it.
    usual = resolve(dataclasses.replace(options, steps=1000))
    batch_size = usual.batch_size or 1
    gate = stage.gate
    slower = gate.retry_lr ** (attempt - 1) if gate is not None else 1.0
    longer = gate.retry_steps ** (attempt - 1) if gate is not None else 1.0
    steps = stage.steps
    if steps is None:
        assert stage.epochs is not None
        frames = len(opened.datasets[number - 1].train)
        # As a limited number: a share of nearly nothing makes more steps than there are whole numbers.
        steps = math.ceil(min(stage.epochs * frames / (batch_size * stage.shares[-1]), 1e15))
    peak = stage.lr or usual.lr or 0.0
    values: dict[str, Any] = {
        "out": paths.stage(number, stage),
        "stages": None,
        "resume": False,
        "dataset": None,
        "mixture": _sources(plan, number),
        "batch_size": batch_size,
        "micro_batch": usual.micro_batch,
        "lr": peak * slower,
        "steps": max(1, round(min(steps * longer, 1e15))),
        "warmup_steps": stage.warmup_steps,
        "decay_lr": None if stage.decay_lr is None else stage.decay_lr * slower,
        "norm_stats_file": paths.statistics,
        "norm_stats": None,
        "policy_stats_from": None,
        "robot": _robot(opened),
        **_FREEZE[stage.freeze],
        **_init(opened, number),
    }
    return dataclasses.replace(options, **values)


def check_stages(opened: OpenedStages) -> None:
    """Check the options of every stage as `train` will; a UsageError names the stage."""
    for number, stage in enumerate(opened.plan.stages, 1):
        with errors_of(f"Stage {stage.name}", UsageError):
            check(stage_options(opened, number))


def _sources(plan: Plan, number: int) -> tuple[Source, ...]:
    """What the stage draws from: its own dataset first, then those of the earlier stages that it replays."""
    own = plan.stages[number - 1]
    shares = own.shares
    drawn = [(own, shares[-1])]
    drawn += [(stage, share) for stage, share in zip(plan.stages, shares[:-1], strict=False) if share > 0]
    return tuple(Source(stage.dataset, share, stage.episodes, stage.instruction, stage.name) for stage, share in drawn)


def _init(opened: OpenedStages, number: int) -> dict[str, Any]:
    """The policy that a stage begins with."""
    plan, paths = opened.plan, opened.paths
    stage = plan.stages[number - 1]
    if number == 1 and stage.init is None:
        return {}
    fresh = {"preset": None, "from_scratch": False}
    if number > 1 and stage.init in (None, PREVIOUS):
        folder = paths.stage(number - 1, plan.stages[number - 2]) / "checkpoints"
        # There is no best where no validation gave a finite error.
        name = "last" if (folder / "last").exists() and not (folder / "best").exists() else "best"
        return {**fresh, "policy": str(folder / name), "tokenizer": None}
    return {**fresh, "policy": stage.init, "tokenizer": opened.defaults.tokenizer}


def _robot(opened: OpenedStages) -> str:
    """One robot for all stages: the named or shipped one, else the one made from the first dataset, kept in a file."""
    if opened.defaults.robot is not None:
        return opened.defaults.robot
    name = opened.profile.name
    shipped = name in list_profiles() and RobotProfile.load(name) == opened.profile
    return name if shipped else str(opened.paths.robot)
