"""Closed loop: the policy acts in an environment, many fresh episodes side by side; success is counted, not guessed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import CheckpointError, SmolpilotError, UsageError
from smolpilot.common.keys import TASK
from smolpilot.common.machine import machine_facts
from smolpilot.contracts import History, UntrainedInstructionWarning, check_horizon
from smolpilot.evaluation.checked_policy import checked_chunks, seed_of
from smolpilot.evaluation.provenance import describe_policy, instruction_warnings

from .checked_environment import CheckedEnvironment, close_environment
from .fit import check_fit
from .results import Run, summarize_runs

if TYPE_CHECKING:
    from smolpilot.contracts import Environment, EnvironmentSpec, Observation, Policy

PARALLEL = 50  # environments stepped together: one forward pass plans for all of them


@dataclass(frozen=True)
class RolloutResult:
    """All episodes in order of their seeds, the document of results.json made from them, and the environment."""

    runs: list[Run]
    document: dict[str, Any]
    spec: EnvironmentSpec


def rollout(
    policy: Policy,
    make: Callable[[], Environment],
    *,
    episodes: int = 100,
    seed: int = 1_000_000,
    swap_instruction: bool = False,
    n_action_steps: int | None = None,
    instruction: str | None = None,
    video_episodes: int = 0,
    settings: Mapping[str, Any] | None = None,
    untrained: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> RolloutResult:
    """Run `episodes` of the environment from the seeds `seed`, `seed + 1`, ...; the same arguments, the same result.

    make: a new environment; up to 50 run side by side. With `swap_instruction` each scene stays what it is, but its
    first alternative is the instruction. `instruction` replaces the environment's own, whose goal stays.
    The first `video_episodes` keep their images. `settings` (of the environment) and `untrained` (random weights)
    are written into the results. Raises UsageError for a horizon beyond the chunk, a policy that does not fit the
    environment and scenes without an alternative; SmolpilotError, with its seed, for an episode that the environment
    cannot finish.
    """
    spec = policy.spec
    horizon = check_horizon(spec.n_action_steps if n_action_steps is None else n_action_steps, spec.chunk_size)
    runs: list[Run] = []
    with _made(make, min(PARALLEL, episodes)) as environments, warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedInstructionWarning)  # the document says it
        own = environments[0].spec
        check_fit(spec, own)
        for start in range(0, episodes, PARALLEL):
            seeds = range(seed + start, seed + min(start + PARALLEL, episodes))
            group = _Group(policy, environments[: len(seeds)], list(seeds), max(0, video_episodes - start))
            group.begin(swap_instruction, instruction)
            while group.active:
                group.plan_and_act(horizon)
                if progress is not None:
                    progress("episodes", start + len(seeds) - len(group.active), episodes)
            runs += group.runs
    header = {
        "env": own.name,
        "env_settings": dict(settings or {}),
        "goal": own.goal,
        "labels": dict(own.labels),
        "seed": seed,
        "swap_instruction": swap_instruction,
        "untrained": untrained,
        "execution_horizon": horizon,
        "chunk_size": spec.chunk_size,
        "denoising_steps": spec.facts.num_steps,
        "video_episodes": min(video_episodes, episodes),
    }
    document = summarize_runs(runs, header)
    spec = policy.spec  # as it stands after the work: an engine may have fallen back on the way
    document["warnings"] = [*spec.facts.warnings, *instruction_warnings(spec, [run.instruction for run in runs])]
    document |= {"bundle": describe_policy(spec), "machine": machine_facts(spec.facts.device)}
    return RolloutResult(runs, document, own)


@contextmanager
def _made(make: Callable[[], Environment], count: int) -> Iterator[list[Environment]]:
    """So many environments, closed at the end."""
    made: list[Environment] = []
    try:
        for _ in range(max(1, count)):
            made.append(make())  # one by one: what is there when one fails is closed
        yield made
    except BaseException:
        for environment in made:
            with suppress(SmolpilotError):  # the first failure is the one to tell
                close_environment(environment)
        raise
    for environment in made:
        close_environment(environment)


class _Group:
    """Environments that run in step: every one plans at the same time, so that one batch serves all."""

    def __init__(self, policy: Policy, environments: list[Environment], seeds: list[int], recorded: int) -> None:
        self._policy, self._environments, self._seeds, self._recorded = policy, environments, seeds, recorded
        self._plays = [CheckedEnvironment(environment) for environment in environments]
        self._observations: list[Observation] = []
        self._histories = [History(policy.spec.n_obs_steps) for _ in seeds]
        self._plans = 0
        self.runs: list[Run] = []
        self.active: list[int] = []

    def begin(self, swap: bool, instruction: str | None) -> None:
        """Start the episodes; `swap` takes each scene's alternative, `instruction` replaces its own one."""
        self._policy.reset()
        for i, seed in enumerate(self._seeds):
            observation, run = self._reset(i, seed, swap)
            run.instruction = instruction if instruction is not None else run.instruction
            self.runs.append(run)
            self._observations.append(self._histories[i].add({**observation, TASK: run.instruction}))
            self._record(i)
        self.active = list(range(len(self._seeds)))

    def plan_and_act(self, horizon: int) -> None:
        """Plan for every episode that still runs, and execute `horizon` actions of each plan."""
        seeds = [seed_of(self._seeds[i], self._plans) for i in self.active]  # whatever else runs beside it
        chunks = checked_chunks(self._policy, [self._observations[i] for i in self.active], seeds)
        self._plans += 1
        if not np.isfinite(chunks).all():
            raise CheckpointError(
                "The policy fails: its predictions hold NaN or infinite values.",
                expected="finite actions",
                fix="check the training loss and the statistics: smolpilot bundle BUNDLE shows what it holds",
            )
        plans = dict(zip(self.active, chunks, strict=True))
        for step in range(horizon):
            for i in list(self.active):
                self._act(i, plans[i][step])

    def _reset(self, i: int, seed: int, swap: bool) -> tuple[Observation, Run]:
        play = self._plays[i]
        observation, info = play.reset(seed)
        if swap:
            others = tuple(info.alternatives)
            if not others:
                raise UsageError(
                    f"The environment {self._environments[i].spec.name} has no other instruction for the scene of "
                    f"seed {seed}.",
                    expected="scenes with more than one goal",
                    fix="leave --swap-instruction out",
                )
            observation, info = play.reset(seed, others[0])
        groups = {str(group): str(value) for group, value in info.groups.items()}
        return {**observation}, Run(seed, info.instruction, groups)

    def _act(self, i: int, action: npt.NDArray[np.float32]) -> None:
        run, environment = self.runs[i], self._environments[i]
        observation, outcome = self._plays[i].step(action)
        self._observations[i] = self._histories[i].add({**observation, TASK: run.instruction})
        run.steps += 1
        self._record(i)
        if outcome is not None:
            run.label, run.success = str(outcome.label), bool(outcome.success)
            run.facts = {name: float(value) for name, value in outcome.facts.items()}
            self.active.remove(i)
        elif run.steps >= environment.spec.max_steps:
            raise SmolpilotError(
                f"The environment {environment.spec.name} did not end the episode of seed {run.seed} within its own "
                f"{environment.spec.max_steps} steps.",
                expected="an Outcome from the step with which an episode ends",
            )

    def _record(self, i: int) -> None:
        if i < self._recorded:
            self.runs[i].images.append(self._plays[i].render())
