"""Closed loop: the policy acts in an environment, many fresh episodes side by side; success is counted, not guessed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
            numbers = range(start, min(start + PARALLEL, episodes))
            policy.reset()
            group = [
                _Episode(environment, seed + number, History(policy.spec.n_obs_steps), number < video_episodes)
                for environment, number in zip(environments, numbers, strict=False)
            ]
            for episode in group:
                episode.begin(swap_instruction, instruction)
            plans = 0
            while running := [episode for episode in group if not episode.over]:
                _plan_and_act(policy, running, plans, horizon)
                plans += 1
                if progress is not None:
                    progress("episodes", start + sum(episode.over for episode in group), episodes)
            runs += [episode.run for episode in group]
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


class _Episode:
    """One episode: its environment, what the policy sees of it now, and how it went."""

    def __init__(self, environment: Environment, seed: int, history: History, recorded: bool) -> None:
        self.seed, self.over = seed, False
        self._spec, self._play = environment.spec, CheckedEnvironment(environment)
        self._history, self._recorded = history, recorded

    def begin(self, swap: bool, instruction: str | None) -> None:
        """Start it; `swap` takes the scene's alternative, `instruction` replaces its own one."""
        observation, info = self._play.reset(self.seed)
        if swap:
            others = tuple(info.alternatives)
            if not others:
                raise UsageError(
                    f"The environment {self._spec.name} has no other instruction for the scene of seed {self.seed}.",
                    expected="scenes with more than one goal",
                    fix="leave --swap-instruction out",
                )
            observation, info = self._play.reset(self.seed, others[0])
        groups = {str(group): str(value) for group, value in info.groups.items()}
        self.run = Run(self.seed, info.instruction if instruction is None else instruction, groups)
        self._see(observation)

    def act(self, action: npt.NDArray[np.float32]) -> None:
        """Take one action; SmolpilotError where the environment does not end the episode in time."""
        observation, outcome = self._play.step(action)
        self.run.steps += 1
        self._see(observation)
        if outcome is not None:
            self.run.label, self.run.success = str(outcome.label), bool(outcome.success)
            self.run.facts = {name: float(value) for name, value in outcome.facts.items()}
            self.over = True
        elif self.run.steps >= self._spec.max_steps:
            raise SmolpilotError(
                f"The environment {self._spec.name} did not end the episode of seed {self.seed} within its own "
                f"{self._spec.max_steps} steps.",
                expected="an Outcome from the step with which an episode ends",
            )

    def _see(self, observation: Observation) -> None:
        self.observation = self._history.add({**observation, TASK: self.run.instruction})
        if self._recorded:
            self.run.images.append(self._play.render())


def _plan_and_act(policy: Policy, running: Sequence[_Episode], number: int, horizon: int) -> None:
    """Plan for the episodes that still run, in one batch, and execute `horizon` actions of each plan."""
    seeds = [seed_of(episode.seed, number) for episode in running]  # whatever else runs beside it
    chunks = checked_chunks(policy, [episode.observation for episode in running], seeds)
    if not np.isfinite(chunks).all():
        raise CheckpointError(
            "The policy fails: its predictions hold NaN or infinite values.",
            expected="finite actions",
            fix="check the training loss and the statistics: smolpilot bundle BUNDLE shows what it holds",
        )
    for step in range(horizon):
        for episode, chunk in zip(running, chunks, strict=True):
            if not episode.over:
                episode.act(chunk[step])
