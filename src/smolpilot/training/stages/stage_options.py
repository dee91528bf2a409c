"""From a plan to the training options of each stage; what does not fit is found before anything is trained."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pydantic

from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.common.option_types import check_truths
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import shown
from smolpilot.compatibility.datasets_together import check_joints, other_rates
from smolpilot.compatibility.statistics_distance import check_drift
from smolpilot.datasets.read.joint_units import with_cameras
from smolpilot.robots import RobotProfile, list_profiles
from smolpilot.robots.layout import to_policy_order
from smolpilot.smolvla import FrameLayout, load_policy
from smolpilot.smolvla.create import parent_statistics
from smolpilot.training.data.run_datasets import Part, open_parts, own_statistics, set_layouts
from smolpilot.training.data.sources import Source
from smolpilot.training.run.setup import choose_profile, merged_with_parent, same_robot
from smolpilot.training.train_options import TrainOptions, check, resolve

from .plan import PREVIOUS, Plan
from .sequence_paths import Places

_FREEZE: dict[str | None, dict[str, bool]] = {
    None: {},
    "vision-language": {"train_expert_only": True},
    "vision": {"train_expert_only": False, "freeze_vision": True},
    "nothing": {"train_expert_only": False},
}


@dataclass
class Opened:
    """The datasets of all stages, each whole (not as replayed), and the robot that they share."""

    parts: list[Part]
    profile: RobotProfile
    notes: list[str]


def merge_defaults(plan: Plan, given: TrainOptions) -> TrainOptions:
    """The options of the command over the plan's `defaults`; a wrong value there is a UsageError."""
    bare = TrainOptions()
    own = {key: value for key, value in plan.defaults.items() if getattr(given, key) == getattr(bare, key)}
    return _with(given, own, f"{given.stages}: defaults")


def open_stages(plan: Plan, defaults: TrainOptions) -> Opened:
    """Open and split every dataset; UsageError or ProfileError when they do not go together."""
    sources = tuple(
        Source(stage.dataset, episodes=stage.episodes, instruction=stage.instruction, name=stage.name)
        for stage in plan.stages
    )
    notes: list[str] = []
    parts = open_parts(TrainOptions(mixture=sources, held_out=defaults.held_out, seed=defaults.seed), notes)
    for part in parts:
        if part.held_out is None:
            raise UsageError(
                f"Stage {part.title} holds no episode out, so nothing can tell what later stages forget of it.",
                expected="two or more episodes, and --held-out above 0",
            )
        part.whole.check_videos()
    profile = choose_profile(defaults.robot, parts[0].meta, notes)
    profile = with_cameras(profile, parts[0].meta, notes, named=defaults.robot is not None)
    set_layouts(parts, profile, defaults.units)
    check_joints(parts, profile, named=defaults.robot is not None)
    if rates := other_rates(parts):
        notes.append(f"WARNING: {rates}")
    return Opened(parts, profile, notes)


def shared_statistics(plan: Plan, defaults: TrainOptions, opened: Opened) -> tuple[Statistics, str]:
    """The statistics of all stages, in the profile's order, and where they are from.

    A stage that changed them would rescale what the stages before it have learned. So they are fixed before the first:
    those of all stages' datasets together, or the parent's where it drives the same joints (as in a single run).
    """
    parts, profile = opened.parts, opened.profile
    own = own_statistics(parts, profile)
    own_moved = to_policy_order(own, FrameLayout.of_dataset(parts[0].meta), profile)
    together = f"the datasets of all {len(parts)} stages together"
    init = plan.stages[0].init or defaults.policy
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
        merged = merged_with_parent(parent, parts[0].meta, own, profile)
        return to_policy_order(merged, FrameLayout.of_dataset(parts[0].meta), profile), f"the parent's and {together}"
    statistics = parent_statistics(parent, profile)
    for part in parts:
        moved = to_policy_order(part.meta.statistics, part.layout, profile)
        notes: list[str] = []
        try:
            check_drift(statistics, moved, profile, notes, stop=defaults.norm_stats is None)
        except TrainingError as error:
            raise TrainingError(f"Stage {part.title}: {error.found}", expected=error.expected, fix=error.fix) from error
        opened.notes += [f"{part.title}: {note}" for note in notes]
    return statistics, f"those of {init}"


def stage_options(
    plan: Plan, defaults: TrainOptions, opened: Opened, places: Places, number: int, attempt: int = 1
) -> TrainOptions:
    """The complete training options of stage `number` (1 is the first) at its attempt `attempt` (from 1)."""
    stage = plan.stages[number - 1]
    options = _with(defaults, stage.options, f"stage {stage.name}: options")
    # A preset says the usual batch size and rate of its kind of policy, in every stage that goes on from it.
    usual = resolve(dataclasses.replace(options, steps=1000))
    batch_size = usual.batch_size or 1
    gate = stage.gate
    slower = gate.retry_lr ** (attempt - 1) if gate is not None else 1.0
    longer = gate.retry_steps ** (attempt - 1) if gate is not None else 1.0
    steps = stage.steps
    if steps is None:
        assert stage.epochs is not None
        frames = len(opened.parts[number - 1].train)
        # As a limited number: a share of nearly nothing makes more steps than there are whole numbers.
        steps = math.ceil(min(stage.epochs * frames / (batch_size * stage.shares[-1]), 1e15))
    peak = stage.lr or usual.lr or 0.0
    values: dict[str, Any] = {
        "out": places.stage(number, stage),
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
        "norm_stats_file": places.statistics,
        "norm_stats": None,
        "policy_stats_from": None,
        "robot": _robot(defaults, opened, places),
        **_FREEZE[stage.freeze],
        **_init(plan, defaults, places, number),
    }
    return dataclasses.replace(options, **values)


def check_stages(plan: Plan, defaults: TrainOptions, opened: Opened, places: Places) -> None:
    """Check the options of every stage as `train` will; a UsageError names the stage."""
    for number, stage in enumerate(plan.stages, 1):
        try:
            check(stage_options(plan, defaults, opened, places, number))
        except UsageError as error:
            raise UsageError(f"Stage {stage.name}: {error.found}", expected=error.expected, fix=error.fix) from error


def _sources(plan: Plan, number: int) -> tuple[Source, ...]:
    """What the stage draws from: its own dataset first, then those of the earlier stages that it replays."""
    own = plan.stages[number - 1]
    shares = own.shares
    drawn = [(own, shares[-1])]
    drawn += [(stage, share) for stage, share in zip(plan.stages, shares[:-1], strict=False) if share > 0]
    return tuple(Source(stage.dataset, share, stage.episodes, stage.instruction, stage.name) for stage, share in drawn)


def _init(plan: Plan, defaults: TrainOptions, places: Places, number: int) -> dict[str, Any]:
    """The policy that a stage begins with."""
    stage = plan.stages[number - 1]
    if number == 1 and stage.init is None:
        return {}
    fresh = {"preset": None, "from_scratch": False}
    if number > 1 and stage.init in (None, PREVIOUS):
        folder = places.stage(number - 1, plan.stages[number - 2]) / "checkpoints"
        # There is no best where no validation gave a finite error.
        name = "last" if (folder / "last").exists() and not (folder / "best").exists() else "best"
        return {**fresh, "policy": str(folder / name), "tokenizer": None}
    return {**fresh, "policy": stage.init, "tokenizer": defaults.tokenizer}


def _robot(defaults: TrainOptions, opened: Opened, places: Places) -> str:
    """One robot for all stages: the named or shipped one, else the one made from the first dataset, kept in a file."""
    if defaults.robot is not None:
        return defaults.robot
    name = opened.profile.name
    shipped = name in list_profiles() and RobotProfile.load(name) == opened.profile
    return name if shipped else str(places.robot)


def _with(options: TrainOptions, values: dict[str, Any], where: str) -> TrainOptions:
    """The options with others from YAML, checked for their types."""
    try:
        made: TrainOptions = pydantic.TypeAdapter(TrainOptions).validate_python({**_as_dict(options), **values})
        check_truths(values, made, where=f"{where}: ")
        return made
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: '{key}' is {shown(first['input'])}: {first['msg']}.") from error


def _as_dict(options: TrainOptions) -> dict[str, Any]:
    return {item.name: getattr(options, item.name) for item in dataclasses.fields(options)}
