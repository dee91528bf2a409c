"""The stages file of `smolpilot train --stages`: its keys and their checks. Loads no torch. See docs/stages.md."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.option_types import (
    Amount,
    AnySteps,
    Few,
    Limit,
    PositiveRate,
    PositiveSize,
    Rate,
    Seed,
    Steps,
    check_numbers,
    check_truths,
)  # fmt: skip
from smolpilot.common.renamed import renamed_keys
from smolpilot.common.text import LIMIT, plain, shown
from smolpilot.common.yaml_lines import Location, line_of, read_yaml, spell, yaml_text
from smolpilot.training.options.train_options import TrainOptions

PREVIOUS = "previous"
# A sequence decides these itself, or they must be the same in all of its stages.
NOT_IN_OPTIONS = frozenset(
    {"dataset", "mixture", "stages", "out", "resume", "policy", "preset", "from_scratch", "tokenizer", "robot", "units",
     "norm_stats", "policy_stats_from", "norm_stats_file", "episodes", "seed", "seeds", "split_seed", "held_out",
     "steps", "lr", "warmup_steps", "decay_lr", "train_expert_only", "freeze_vision"}
)  # fmt: skip
# Some of them hold for the whole sequence, and may stand under `defaults:`.
NOT_IN_DEFAULTS = NOT_IN_OPTIONS - {
    "policy", "preset", "from_scratch", "tokenizer", "robot", "units", "norm_stats", "policy_stats_from", "seed",
    "split_seed", "held_out", "lr",
}  # fmt: skip
STRICT = pydantic.ConfigDict(extra="forbid")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Gate:
    """Errors above which a stage counts as failed, in the unit of the report (robot units where joints share one)."""

    __pydantic_config__ = STRICT

    new: PositiveSize | None = None
    """Largest action error on the stage's own held-out episodes."""
    old: PositiveSize | None = None
    """Largest action error on those of any earlier stage."""
    retries: Few = 0
    """How often a failed stage is trained again from where it began."""
    retry_lr: PositiveRate = 0.5
    """Factor on the learning rate at each retry."""
    retry_steps: PositiveRate = 1.0
    """Factor on the steps at each retry."""
    otherwise: Literal["stop", "continue"] = "stop"
    """What happens when the last try has failed."""


@dataclass(frozen=True)
class Simulation:
    """An environment in which success at a task is counted."""

    __pydantic_config__ = STRICT

    env: str | None = None
    """Environment, by a name that `smolpilot plugins` lists. Default: the one that the dataset was recorded in."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the environment. Default: its own, with the dataset's task where it was recorded in it."""
    instruction: str | None = None
    """Text that is said in place of the environment's. Default: the stage's."""
    episodes: Amount = 100
    """Fresh episodes."""
    seed: Seed = 1_000_000
    """Seed of the first of them."""


@dataclass(frozen=True)
class Scoring:
    """How every task so far is evaluated after each stage."""

    __pydantic_config__ = STRICT

    frames: Steps = 500
    """Held-out frames of a task that are scored at most, spread evenly."""
    resamples: Amount = 2000
    """Bootstrap samples behind an interval."""
    against: tuple[str, ...] = ()
    """Other policies, as `smolpilot eval` takes them, that are scored once on each task and shown beside the stages."""


@dataclass(frozen=True)
class Stage:
    """One task: a training run of its own."""

    __pydantic_config__ = STRICT

    name: str
    """What folders and reports call it."""
    dataset: Path
    """Folder of a LeRobot dataset."""
    episodes: str | None = None
    """Episodes to use, such as `0-40,45`. Default: all."""
    instruction: str | None = None
    """Text that replaces the recorded instructions."""
    init: str | None = None
    """`previous` (the stage before, its best checkpoint), a bundle or a hub id. Default: `previous`; in the first stage
    the --policy or --preset of the command."""
    lr: PositiveRate | None = None
    """Peak learning rate."""
    warmup_steps: AnySteps | None = None
    """Steps of linear warm-up."""
    decay_lr: Rate | None = None
    """Learning rate at the last step."""
    epochs: PositiveSize | None = None
    """Length in passes over the stage's own training frames (replayed samples come on top)."""
    steps: Steps | None = None
    """Length in optimizer steps; this or epochs."""
    freeze: Literal["vision-language", "vision", "nothing"] | None = None
    """What is not trained: the whole vision-language model (a frame cache can serve then), its vision tower, nothing.
    Default: as the policy was trained before."""
    replay: tuple[Annotated[float, Limit(1_000.0)], ...] = ()
    """Shares of the samples drawn from each stage's dataset so far, this one's last. Default: its own alone."""
    gate: Gate | None = None
    """What the stage has to reach."""
    simulation: Simulation | Literal[False] | None = None
    """Where success is counted. Default: in the environment that the dataset was recorded in, where one says so; false:
    nowhere."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of `smolpilot train` for this stage."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the samples, this stage's last; earlier stages that are left out have 0."""
        return self.replay or (1.0,)


@dataclass(frozen=True)
class Plan:
    """A stages file."""

    __pydantic_config__ = STRICT

    stages: tuple[Stage, ...]
    """The tasks, in order."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Options of `smolpilot train` for all stages; those on the command line win."""
    evaluation: Scoring = field(default_factory=Scoring)
    """How the tasks are evaluated."""


def load_plan(path: Path) -> Plan:
    """Read and check a stages file; a UsageError names the line, the key and what was meant."""
    if not path.is_file():
        raise UsageError(f"The stages file {path} does not exist.", fix="check the path given to --stages")
    values, lines = read_yaml(path, str(path), empty="stages", expected="a list under `stages:`", first=1)
    values = _with_new_names(values)
    _move_old_settings(values, lines)
    try:
        plan = pydantic.TypeAdapter(Plan).validate_python(values)
    except pydantic.ValidationError as error:
        raise _refusal(error, path, lines) from error
    check_truths(values, plan, where=f"{path}: ")
    check_plan(plan, str(path))
    return plan


def plan_text(plan: Plan) -> str:
    """The plan as YAML that `load_plan` reads back, with absolute paths; what is open is left out."""
    return yaml_text(plan)


def absolute(plan: Plan) -> Plan:
    """The plan with paths that hold from any working directory."""

    def moved(stage: Stage) -> Stage:
        init = stage.init
        if init is not None and init != PREVIOUS and Path(init).expanduser().exists():
            init = str(Path(init).expanduser().absolute())
        return dataclasses.replace(stage, dataset=stage.dataset.expanduser().absolute(), init=init)

    return dataclasses.replace(plan, stages=tuple(moved(stage) for stage in plan.stages))


def check_plan(plan: Plan, where: str) -> None:
    """Refuse contradictions and numbers out of range."""
    if not plan.stages:
        raise UsageError(f"{where} holds no stages.", expected="a list under `stages:`")
    _check_options(plan.defaults, f"{where}: defaults", NOT_IN_DEFAULTS)
    names = [stage.name for stage in plan.stages]
    for number, stage in enumerate(plan.stages):
        place = f"{where}: stage {number + 1} ({stage.name})"
        if not _NAME.fullmatch(stage.name):
            raise UsageError(f"{place}: the name cannot be a folder's.", expected="letters, digits, `-`, `_`, `.`")
        if names.count(stage.name) > 1:
            raise UsageError(f"{where}: two stages are called '{stage.name}'.", fix="give each its own name")
        check_numbers(stage, where=f"{place}: ")
        if (stage.epochs is None) == (stage.steps is None):
            raise UsageError(f"{place} needs either `steps` or `epochs`.", fix="say how long it trains, in one of them")
        if stage.gate is not None and stage.gate.new is None and stage.gate.old is None:
            raise UsageError(f"{place}: the gate asks for nothing.", fix="give it `new` or `old`, or leave it out")
        _check_replay(stage, number, place)
        _check_options(stage.options, f"{place}: options", NOT_IN_OPTIONS)
        if number == 0 and stage.init == PREVIOUS:
            raise UsageError(f"{place}: there is no stage before it.", fix="leave `init` out, or name a policy")
        if stage.instruction is not None and not stage.instruction.strip():
            raise UsageError(f"{place}: the instruction is empty.", fix="leave it out, or say what the robot does")
        if isinstance(stage.simulation, Simulation) and not (stage.simulation.instruction or "-").strip():
            raise UsageError(f"{place}: simulation.instruction is empty.", fix="leave it out, or say a text")
    check_numbers(plan.evaluation, where=f"{where}: evaluation.")
    against = plan.evaluation.against
    if len(set(against)) < len(against) or not all(name.strip() for name in against):
        raise UsageError(f"{where}: evaluation.against is {list(against)}.", expected="names of policies, each once")


def _check_replay(stage: Stage, number: int, place: str) -> None:
    if not stage.replay:
        return
    if len(stage.replay) != number + 1:
        raise UsageError(
            f"{place}: replay has {len(stage.replay)} shares.",
            expected=f"{number + 1}: one for each stage so far, its own last",
        )
    if any(not share >= 0 for share in stage.replay) or not stage.replay[-1] > 0:
        raise UsageError(f"{place}: replay is {list(stage.replay)}.", expected="shares of 0 or more, its own above 0")
    if not math.isclose(sum(stage.replay), 1.0, abs_tol=1e-6):
        raise UsageError(f"{place}: the shares of replay add up to {sum(stage.replay):g}.", expected="1")


def _check_options(options: Mapping[str, Any], place: str, refused: Iterable[str]) -> None:
    known = {item.name for item in dataclasses.fields(TrainOptions)}
    for key in options:
        if key not in known:
            raise UsageError(
                f"{place}: unknown option '{plain(key, LIMIT)}'.", fix=did_you_mean(str(key), known - set(refused))
            )
        if key in refused:
            raise UsageError(
                f"{place}: '{key}' has no place here.",
                expected="an option that may differ between stages; the others are keys of the stage, or given once "
                "for all stages on the command line or under `defaults:`",
            )


def _with_new_names(values: dict[str, Any]) -> dict[str, Any]:
    """The mapping with the options of `train` in it as they are called now: `defaults`, and `options` of a stage."""
    if isinstance(defaults := values.get("defaults"), dict):
        values["defaults"] = renamed_keys("train", defaults)
    stages = values.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        if isinstance(stage, dict) and isinstance(options := stage.get("options"), dict):
            stage["options"] = renamed_keys("train", options)
    return values


def _move_old_settings(values: Mapping[str, Any], lines: dict[Location, int]) -> None:
    """Settings that stages files once had beside `env` go to `settings`, where an environment knows them so."""
    known = {item.name for item in dataclasses.fields(Simulation)}
    stages = values.get("stages")
    for number, stage in enumerate(stages if isinstance(stages, list) else []):
        simulation = stage.get("simulation") if isinstance(stage, dict) else None
        strange = [key for key in simulation if key not in known] if isinstance(simulation, dict) else []
        if not isinstance(simulation, dict) or not strange or "settings" in simulation:
            continue
        env = simulation.get("env")
        if not isinstance(env, str | None):
            continue  # refused with its type below
        # Loaded for old files alone: environments take seconds.
        from smolpilot.environments.of_datasets import settings_of_before

        found = settings_of_before([str(key) for key in strange], env)
        if found is None or len(set(found[1].values())) < len(strange):
            continue
        place: Location = ("stages", number, "simulation")
        simulation["env"], names = found
        simulation["settings"] = {names[str(key)]: simulation.pop(key) for key in strange}
        for key in strange:
            if (line := lines.get((*place, key))) is not None:
                lines[(*place, "settings", names[str(key)])] = line


def _refusal(error: pydantic.ValidationError, path: Path, lines: dict[Location, int]) -> UsageError:
    """What is wrong: first a key that a plan, a stage, a gate, ... does not have, else a value."""
    strange = ("unexpected_keyword_argument", "invalid_key")
    first = min(error.errors(), key=lambda one: one["type"] not in strange)
    # Of a union pydantic names the tried type too: only what a person wrote is said.
    place: Location = ()
    for part in first["loc"]:
        place = (*place, part) if (*place, part) in lines or part == first["loc"][-1] else place
    if first["type"] in strange:
        place = (*place[:-1], str(place[-1]))  # a key that is a number is no number of an entry
    where = f"{path}{line_of(place, lines)}"
    if first["type"] not in strange:
        return UsageError(f"{where}: '{_spell(place)}' is {shown(first['input'])}: {first['msg']}.")
    kinds = {"stages": Stage, "gate": Gate, "simulation": Simulation, "evaluation": Scoring}
    kind = next((kinds[part] for part in reversed(place[:-1]) if isinstance(part, str)), Plan)
    known = [item.name for item in dataclasses.fields(kind)]
    return UsageError(f"{where}: unknown key '{plain(_spell(place), LIMIT)}'.", fix=did_you_mean(str(place[-1]), known))


def _spell(place: Location) -> str:
    """`("stages", 1, "lr")` -> `stages[2].lr`: stages are counted from 1, as everywhere else."""
    return spell(place, first=1)
