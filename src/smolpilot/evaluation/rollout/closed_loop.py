"""Closed loop: the policy acts in an environment, many fresh episodes side by side; success is counted, not guessed."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import CheckpointError, SimulationError, SmolpilotError, UsageError
from smolpilot.common.keys import TASK
from smolpilot.common.machine import machine_facts
from smolpilot.common.text import pluralize
from smolpilot.contracts import History, UntrainedInstructionWarning, check_horizon
from smolpilot.datasets.simulation_record import simulation_facts
from smolpilot.evaluation.checked_policy import checked_chunks, seed_of
from smolpilot.evaluation.provenance import describe_policy, instruction_warnings

from .checked_environment import CheckedEnvironment
from .environment_pool import LocalPool, Pool
from .fit import check_fit, check_simulation
from .results import CRASHED, Run, summarize_runs

if TYPE_CHECKING:
    from smolpilot.contracts import Environment, EnvironmentSpec, Observation, Outcome, Policy

type Asked = tuple[int, str]
"""A seed, and the instruction of its scene that is to be given."""

PARALLEL = 50  # environments stepped together: one forward pass plans for all of them


@dataclass(frozen=True)
class RolloutResult:
    """All episodes in order of their seeds, the document of results.json made from them, and the environment.

    told: the same scenes under their other texts, where the policy played these, too (`language.play_told`).
    """

    runs: list[Run]
    document: dict[str, Any]
    spec: EnvironmentSpec
    told: list[Run] = field(default_factory=list)


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
    workers: Callable[[int], Pool] | None = None,
    parallel: int | None = None,
    known: Iterable[Run] = (),
    on_episode: Callable[[Run], object] = lambda run: None,
    mixed_rendering: bool = False,
    gate: Mapping[str, Any] | None = None,
) -> RolloutResult:
    """Run `episodes` of the environment from the seeds `seed`, `seed + 1`, ...; the same arguments, the same result.

    make: a new environment; up to 50 (`parallel`) run side by side, and where one ends the next begins. workers: gives
    so many environments in processes of their own instead; there an episode whose simulation fails is no success.
    known: runs of before, which are not repeated; on_episode: told of each other one as it ends.
    With `swap_instruction` each scene stays what it is, but its first alternative is the instruction. `instruction`
    replaces the environment's own, whose goal stays. The first `video_episodes` keep their images. `settings` (of the
    environment), `untrained` (random weights) and `gate` (what is known of the environment: verdict, text, successes,
    episodes, overridden) are written into the results. `mixed_rendering`: also where the policy learned from images
    that were drawn otherwise. Raises UsageError for a horizon beyond
    the chunk, a policy that does not fit the environment and scenes without an alternative; SmolpilotError, with its
    seed, for an episode that the environment cannot finish.
    """
    spec = policy.spec
    horizon = check_horizon(spec.n_action_steps if n_action_steps is None else n_action_steps, spec.chunk_size)
    numbers = range(seed, seed + episodes)
    done = {run.seed: run for run in known if run.seed in numbers}
    count = min(PARALLEL if parallel is None else parallel, max(1, episodes - len(done)))
    with (
        closing(LocalPool(make, count) if workers is None else workers(count)) as pool,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UntrainedInstructionWarning)  # the document says it
        own = pool.environments[0].spec
        check_fit(spec, own)
        facts = getattr(pool.environments[0], "facts", {})
        mixed = check_simulation(spec, own, facts, allowed=mixed_rendering)
        play = _Episodes(policy, pool, horizon, swap=swap_instruction, instruction=instruction).play
        for run in play([one for one in numbers if one not in done], range(seed, seed + video_episodes)):
            done[run.seed] = run
            on_episode(run)
            if progress is not None:
                progress("episodes", len(done), episodes)
    runs = [done[one] for one in numbers]
    crashes = _crashes(runs)
    header = {
        "env": own.name,
        "env_settings": dict(settings or {}),
        "goal": own.goal,
        "labels": dict(own.labels) | ({CRASHED: "the simulation failed"} if crashes else {}),
        "seed": seed,
        "swap_instruction": swap_instruction,
        "untrained": untrained,
        "max_steps": own.max_steps,
        "execution_horizon": horizon,
        "chunk_size": spec.chunk_size,
        "rate": own.rate,
        "denoising_steps": spec.facts.num_steps,
        "video_episodes": min(video_episodes, episodes),
        "parallel": count,
        "gate": dict(gate) if gate is not None else None,
        "simulation": simulation_facts(facts),
    }
    document = summarize_runs(runs, header)
    spec = policy.spec  # as it stands after the work: an engine may have fallen back on the way
    asked = [run.instruction for run in runs if run.instruction]
    overridden = ["The environment's gate fails, and was overridden."] if gate and gate.get("overridden") else []
    told = [*spec.facts.warnings, *instruction_warnings(spec, asked), *mixed, *crashes, *overridden]
    document |= {"warnings": told, "bundle": describe_policy(spec), "machine": machine_facts(spec.facts.device)}
    return RolloutResult(runs, document, own)


def play(
    policy: Policy, pool: Pool, seeds: Sequence[int | Asked], *, swap: bool = False, n_action_steps: int | None = None
) -> Iterator[Run]:
    """The episodes of these seeds as they end, in the environments of a pool; what `rollout` counts, and others.

    A seed with one of its scene's instructions asks for that one.
    """
    horizon = policy.spec.n_action_steps if n_action_steps is None else n_action_steps
    yield from _Episodes(policy, pool, horizon, swap=swap, instruction=None).play(seeds, ())


def _crashes(runs: Sequence[Run]) -> list[str]:
    """What is to be said of episodes whose simulation failed."""
    crashed = [run for run in runs if run.label == CRASHED]
    if not crashed:
        return []
    return [
        f"The simulation failed in {len(crashed)} of {pluralize(len(runs), 'episode')}, counted as no success: seed "
        f"{', '.join(str(run.seed) for run in crashed[:10])}{' …' if len(crashed) > 10 else ''}. The first: "
        f"{crashed[0].error}"
    ]


type _Waiting = tuple[int, str | None]


class _Episodes:
    """Plays episodes in the environments of a pool: where one ends, the next begins; a batch plans for all that run."""

    def __init__(self, policy: Policy, pool: Pool, horizon: int, *, swap: bool, instruction: str | None) -> None:
        self._policy, self._pool, self._horizon = policy, pool, horizon
        self._swap, self._instruction = swap, instruction
        self._running: dict[int, _Episode] = {}  # by the place of its environment

    def play(self, seeds: Sequence[int | Asked], recorded: Collection[int]) -> Iterator[Run]:
        """The runs of the seeds as they end; those of the `recorded` ones keep their images."""
        waiting: deque[_Waiting] = deque((one, None) if isinstance(one, int) else one for one in seeds)
        self._policy.reset()
        while waiting or self._running:
            free = [place for place in range(len(self._pool.environments)) if place not in self._running]
            begun = [place for place, _ in zip(free, range(len(waiting)), strict=False)]
            for place in begun:
                seed, text = waiting.popleft()
                history = History(self._policy.spec.n_obs_steps)
                self._running[place] = _Episode(seed, history, seed in recorded, text)
            yield from self._done(begun, self._begin, waiting)
            places = sorted(self._running, key=lambda place: self._running[place].order)
            if places:
                self._plan(places)
                yield from self._done(places, self._act, waiting)

    def _begin(self, place: int) -> None:
        play = CheckedEnvironment(self._pool.environments[place], images=bool(self._policy.spec.cameras))
        self._running[place].begin(play, self._swap, self._instruction)

    def _act(self, place: int) -> None:
        self._running[place].act(self._horizon)

    def _plan(self, places: Sequence[int]) -> None:
        """A chunk for each, in one batch."""
        episodes = [self._running[place] for place in places]
        begin = time.perf_counter()
        seeds = [seed_of(episode.seed, episode.run.plans) for episode in episodes]  # whatever else runs beside it
        chunks = checked_chunks(self._policy, [episode.observation for episode in episodes], seeds)
        took = time.perf_counter() - begin
        if not np.isfinite(chunks).all():
            raise CheckpointError(
                "The policy fails: its predictions hold NaN or infinite values.",
                expected="finite actions",
                fix="check the training loss and the statistics: smolpilot bundle BUNDLE shows what it holds",
            )
        for episode, chunk in zip(episodes, chunks, strict=True):
            episode.chunk, episode.run.plans = chunk, episode.run.plans + 1
            episode.run.planning_s += took / len(episodes)

    def _done(self, places: Sequence[int], work: Callable[[int], None], waiting: deque[_Waiting]) -> Iterator[Run]:
        """Do the work in all environments, and give the runs that ended or failed in it."""
        results = self._pool.each(places, work)
        for place, result in zip(places, results, strict=True):
            if place not in self._running:
                continue  # begun again, with others of a process that ended
            if isinstance(result, SimulationError):
                lost = self._pool.renew(place)
                run = self._running.pop(place).failed(result)
                for other in lost:
                    if other in self._running:
                        waiting.appendleft(self._running.pop(other).asked)
                yield run
            elif self._running[place].over:
                yield self._running.pop(place).run


class _Episode:
    """One episode: its environment, what the policy sees of it now, and how it went."""

    def __init__(self, seed: int, history: History, recorded: bool, text: str | None) -> None:
        """text: the instruction of the scene that is asked for; None: its own."""
        self.seed, self.over = seed, False
        self._history, self._recorded, self._text = history, recorded, text
        self.run = Run(seed, text or "")
        self.chunk: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)

    @property
    def asked(self) -> _Waiting:
        return self.seed, self._text

    @property
    def order(self) -> tuple[int, str]:
        """What decides about its place in a batch."""
        return self.seed, self._text or ""

    def begin(self, play: CheckedEnvironment, swap: bool, instruction: str | None) -> None:
        """Start it; `swap` takes the scene's alternative, `instruction` replaces its own one."""
        self._play, self._spec = play, play.environment.spec
        observation, info = play.reset(self.seed, self._text)
        if swap:
            others = tuple(info.alternatives)
            if not others:
                raise UsageError(
                    f"The environment {self._spec.name} has no other instruction for the scene of seed {self.seed}.",
                    expected="scenes with more than one goal",
                    fix="leave --swap-instruction out",
                )
            observation, info = play.reset(self.seed, others[0])
        self.run.instruction = info.instruction if instruction is None else instruction
        self.run.groups = {str(group): str(value) for group, value in info.groups.items()}
        self.run.alternatives = list(dict.fromkeys(one for one in info.alternatives if one != info.instruction))
        self._see(observation)
        if self._recorded:
            self.run.images.append(play.render())

    def act(self, horizon: int) -> None:
        """Execute so many actions of the plan; SmolpilotError where the environment does not end in time."""
        # A policy that looks at several observations sees each step; others see the last one, and no image between.
        size = horizon if self._history.n_obs_steps == 1 else 1
        for begin in range(0, horizon, size):
            actions = self.chunk[begin : min(begin + size, horizon)]
            steps, observation, outcome, images = self._play.run(actions, frames=self._recorded)
            self.run.steps += steps
            self.run.images += images
            if outcome is not None:
                self._end(outcome)
                return
            assert observation is not None
            self._see(observation)
            if self.run.steps >= self._spec.max_steps:
                raise SmolpilotError(
                    f"The environment {self._spec.name} did not end the episode of seed {self.seed} within its own "
                    f"{self._spec.max_steps} steps.",
                    expected="an Outcome from the step with which an episode ends",
                )

    def failed(self, error: SimulationError) -> Run:
        """The run of an episode whose simulation failed: no success, and why is said."""
        self.run.label, self.run.success, self.run.error = CRASHED, False, error.found
        self.run.images.clear()
        return self.run

    def _end(self, outcome: Outcome) -> None:
        self.run.end(outcome)
        self.over = True

    def _see(self, observation: Observation) -> None:
        self.observation = self._history.add({**observation, TASK: self.run.instruction})
