"""The gate of an environment: do demonstrations succeed here? If not, no policy's score means anything.

A simulator's version changes more than its speed: with MuJoCo 3.8 as shipped, ALOHA's published expert fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smolpilot.common.errors import SimulationError
from smolpilot.common.text import LIMIT, plain, pluralize
from smolpilot.contracts.plugins import blamed
from smolpilot.environments.installing import SIMULATORS, simulator
from smolpilot.environments.making import checked_settings, environment_maker, make_environment, named_factory

from .gate_workers import GateWorkers, Progress

LEAST = 0.95  # share of demonstrations that has to succeed
EPISODES = 20
PIXELS, COVERAGE = 0.1, 0.01  # how far from its recording a replay may be

type Verdict = Literal["passed", "replay-exact", "failed", "not gated"]


@dataclass(frozen=True)
class Gate:
    """What the gate says of an environment with these settings and packages."""

    verdict: Verdict
    text: str
    successes: int = 0  # demonstrations that did what they should
    episodes: int = 0
    failed_seeds: list[int] = field(default_factory=list)  # of the others: seeds, or numbers of recorded episodes
    facts: Mapping[str, float] = field(default_factory=dict)  # what was measured
    simulation: Mapping[str, Any] = field(default_factory=dict)  # physics, render settings, packages
    note: str = ""  # what else was found
    errors: int = 0  # episodes whose simulation failed

    def document(self, *, overridden: bool = False) -> dict[str, Any]:
        """As results.json has it. overridden: scored although it failed."""
        said = {"verdict": self.verdict, "text": self.text, "successes": self.successes, "episodes": self.episodes}
        return {**said, "facts": dict(self.facts), "overridden": overridden}


def check_gate(
    name: str, settings: Mapping[str, Any], *, episodes: int = EPISODES, seed: int = 0, jobs: int = 1,
    python: Path | None = None, progress: Progress | None = None,
) -> Gate:  # fmt: skip
    """Let a simulation's expert play so many episodes, passed where 95 % of them succeed; or replay recorded ones,
    replay-exact where all stay within 0.1 px and their mean maximal coverage within 0.01.

    seed: of the expert's first episode; recorded ones are spread over the recording. python: the interpreter to ask, by
    default this one. Environments without both are not gated, nor are tasks whose expert is known to be weak.
    UsageError for settings that cannot be, and where the simulation does not start.
    """
    checked = checked_settings(name, settings)
    if name in SIMULATORS:
        recorded = getattr(simulator(name), "RECORDED", 0)
        if getattr(simulator(name), "EXPERT", False):
            return _by_expert_there(name, checked, range(seed, seed + episodes), jobs, python, progress)
        if recorded:
            return _by_recording(name, checked, spread(recorded, episodes), jobs, python, progress)
        with GateWorkers(name, checked, 1, python) as workers:  # that it starts, with these settings
            return _not_gated(name, workers.simulation)
    with ExitStack() as stack:
        where, expert = _expert_here(name, checked, stack)
        if expert is not None:
            outcomes: dict[int, bool] = {}
            for one in range(seed, seed + episodes):
                with blamed(f"The environment '{plain(name, LIMIT)}' fails in {where}"):
                    outcomes[one] = bool(expert(one))
                if progress is not None:
                    progress("gate", len(outcomes), episodes)
            return judged(f"{plain(name, LIMIT)}'s expert succeeds", outcomes)
    return _not_gated(name, {})


def _not_gated(name: str, simulation: Mapping[str, Any]) -> Gate:
    text = f"{plain(name, LIMIT)} is not gated: it has no expert, and no demonstrations are at hand."
    return Gate("not gated", text, simulation=simulation)


def _expert_here(name: str, settings: Mapping[str, Any], stack: ExitStack) -> tuple[str, Callable[[int], bool] | None]:
    """The name of what plays an episode of the expert in this process, and a function that does it: `expert_succeeds`
    of the factory, else `demonstrate` of the environment, which the stack closes; None where there is neither."""
    if (own := getattr(named_factory(name), "expert_succeeds", None)) is not None:
        return "expert_succeeds", lambda seed: own(seed, **settings)
    if name not in SIMULATORS and environment_maker(name, settings).hosted:
        environment: Any = stack.enter_context(closing(make_environment(name, settings)))
        if getattr(environment, "has_expert", False):
            return "demonstrate", lambda seed: environment.demonstrate(seed).outcome.success
    return "", None


def spread(count: int, wanted: int) -> list[int]:
    """So many of the numbers below `count`, as far apart as they can be; all of them where there are no more."""
    return sorted({int(one) for one in np.linspace(0, count - 1, min(wanted, count)).round()})


def _by_expert_there(
    name: str, settings: Mapping[str, Any], seeds: Sequence[int], jobs: int, python: Path | None,
    progress: Progress | None,
) -> Gate:  # fmt: skip
    with GateWorkers(name, settings, min(jobs, len(seeds)), python) as workers:
        answers = workers.each(seeds, lambda ask, seed: ask("demonstrate", seed=seed)[0]["outcome"], progress)
        outcomes = {one: not isinstance(found, SimulationError) and found["success"] for one, found in answers.items()}
        weak = bool(workers.facts.get("weak_expert"))
        return judged(f"{name}'s expert succeeds", outcomes, answers, workers.simulation, weak=weak)


def judged(
    what: str, outcomes: Mapping[int, bool], answers: Mapping[int, Any] | None = None,
    simulation: Mapping[str, Any] | None = None, *, weak: bool = False,
) -> Gate:  # fmt: skip
    """Passed where enough demonstrations did what they should. what: `NAME's expert succeeds`. answers: what the
    simulation gave for each, or its error. weak: an expert that fails by itself more often than that, where the
    simulation is as it should be; too few successes of it say nothing."""
    errors = errors_of(answers or {})
    successes = sum(outcomes.values())
    passed = successes >= LEAST * len(outcomes)
    verdict: Verdict = "passed" if passed else "not gated" if weak and successes else "failed"
    end = "this expert is not reliable enough to tell anything" if verdict == "not gated" else _end(passed)
    text = (
        f"{what} in {successes} of {pluralize(len(outcomes), 'episode')}, "
        f"{'at least' if passed else 'below'} {100 * LEAST:.0f} %: {end}.{_broken(errors)}"
    )
    failed = sorted(one for one, success in outcomes.items() if not success)
    return Gate(
        verdict, text, successes, len(outcomes), failed, simulation=simulation or {},
        errors=len(errors),
    )  # fmt: skip


def _by_recording(
    name: str, settings: Mapping[str, Any], numbers: Sequence[int], jobs: int, python: Path | None,
    progress: Progress | None,
) -> Gate:  # fmt: skip
    with GateWorkers(name, settings, min(jobs, len(numbers)), python) as workers:
        answers = workers.each(numbers, lambda ask, number: ask("compare", number=number)[0]["found"], progress)
        return compared(f"{name} replays", answers, workers.simulation)


def compared(
    what: str, answers: Mapping[int, Mapping[str, Any] | SimulationError], simulation: Mapping[str, Any]
) -> Gate:
    """Replay-exact where each episode stays within 0.1 px of its recording, and the coverage within 0.01 on average."""
    found = {one: answer for one, answer in answers.items() if not isinstance(answer, SimulationError)}
    exact = {one: one in found and found[one]["block_px"] <= PIXELS for one in answers}
    if not found:
        return judged(what, exact, answers, simulation)
    facts = {
        "block_px": max(float(one["block_px"]) for one in found.values()),
        **{
            key: float(np.mean([one[key] for one in found.values()]))
            for key in ("max_coverage", "recorded_coverage", "best_coverage")
        },
        "people_succeed": float(sum(one["success"] for one in found.values())),
    }
    same = abs(facts["max_coverage"] - facts["recorded_coverage"]) <= COVERAGE
    passed = same and all(exact.values())
    text = (
        f"{what} {sum(exact.values())} of {pluralize(len(exact), 'recorded episode')} with the block within "
        f"{PIXELS:g} px (farthest {facts['block_px']:.2g} px); mean maximal coverage {facts['max_coverage']:.3f}, the "
        f"recording's own {facts['recorded_coverage']:.3f}: {_end(passed)}.{_broken(errors_of(answers))}"
    )
    note = (
        f"people: success in {facts['people_succeed']:.0f} of {len(found)} by the environment's own measure, mean "
        f"maximal coverage {facts['best_coverage']:.3f} with what each episode's last action led to"
    )
    failed = sorted(one for one, ok in exact.items() if not ok)
    return Gate(
        "replay-exact" if passed else "failed",
        text,
        sum(exact.values()),
        len(exact),
        failed,
        facts,
        simulation,
        note,
        len(answers) - len(found),
    )


def errors_of(answers: Mapping[int, Any]) -> list[SimulationError]:
    """The errors among what simulations gave."""
    return [found for found in answers.values() if isinstance(found, SimulationError)]


def _broken(errors: Sequence[SimulationError]) -> str:
    return f" The simulation failed in {len(errors)} of them: {errors[0].found}" if errors else ""


def _end(passed: bool) -> str:
    bad = "no score of a policy means anything with these settings and packages"
    return "a policy's success means something here" if passed else bad
