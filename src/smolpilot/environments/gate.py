"""The gate of an environment: does its own scripted expert succeed here? If not, no policy's score means anything.

A simulator's version changes more than its speed: with MuJoCo 3.8 as shipped, ALOHA's published expert fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from smolpilot.common.text import pluralize

from .installing import SIMULATORS, simulator
from .making import checked_settings, named_factory
from .worker_process import WorkerProcess

LEAST = 0.95  # share of demonstrations that has to succeed

type Verdict = Literal["passed", "failed", "not gated"]
type Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Gate:
    """What the gate says of an environment with these settings and packages."""

    verdict: Verdict
    text: str
    successes: int = 0
    episodes: int = 0
    failed_seeds: list[int] = field(default_factory=list)
    simulation: Mapping[str, Any] = field(default_factory=dict)  # physics, render settings, packages


def check_gate(
    name: str, settings: Mapping[str, Any], *, episodes: int = 20, seed: int = 0, jobs: int = 1,
    python: Path | None = None, progress: Progress | None = None,
) -> Gate:  # fmt: skip
    """Let the expert of a simulation play so many episodes: passed where 95 % of them succeed.

    seed: of the first episode. python: the interpreter to ask, by default this one. Environments without an expert are
    not gated. UsageError for settings that cannot be, and where the simulation does not start.
    """
    checked = checked_settings(name, settings)
    known = getattr(named_factory(name), "expert_succeeds", None)
    if name in SIMULATORS and getattr(simulator(name), "EXPERT", False):
        outcomes, kept = _in_workers(name, checked, range(seed, seed + episodes), jobs, python, progress)
    elif known is not None:
        kept, outcomes = {}, {one: bool(known(one, **checked)) for one in range(seed, seed + episodes)}
    else:
        return Gate("not gated", f"{name} is not gated: it has no expert, and no demonstrations are at hand.")
    successes = sum(outcomes.values())
    passed = successes >= LEAST * episodes
    end = "a policy's success means something here" if passed else "no score of a policy means anything with these"
    text = (
        f"{name}'s expert succeeds in {successes} of {pluralize(episodes, 'episode')}, "
        f"{'at least' if passed else 'below'} {100 * LEAST:.0f} %: {end}."
    )
    failed = sorted(one for one, success in outcomes.items() if not success)
    return Gate("passed" if passed else "failed", text, successes, episodes, failed, kept)


def _in_workers(
    name: str, settings: Mapping[str, Any], seeds: range, jobs: int, python: Path | None, progress: Progress | None
) -> tuple[dict[int, bool], dict[str, Any]]:
    """Seed -> success of a simulation's expert, and what it was simulated with."""
    outcomes: dict[int, bool] = {}
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(WorkerProcess.of(name, python))) for _ in range(min(jobs, len(seeds)))]
        drawn = {key: value for key, value in settings.items() if key != "instruction"}
        facts, *_ = [worker.ask("make", slot=0, name=name, settings=drawn)[0]["facts"] for worker in workers]

        def play(number: int) -> None:
            for one in seeds[number :: len(workers)]:
                header, _ = workers[number].ask("demonstrate", slot=0, seed=one)
                outcomes[one] = bool(header["outcome"]["success"])
                if progress is not None:
                    progress("demonstrations", len(outcomes), len(seeds))

        with ThreadPoolExecutor(len(workers)) as threads:
            list(threads.map(play, range(len(workers))))
    return outcomes, {key: facts[key] for key in ("physics", "render", "packages")}
