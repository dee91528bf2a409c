"""Floors and ceilings: what needs no policy, and the environment's own expert, on the seeds that a policy met.

A success rate shows something only beside what is reached without any skill, in the same scenes. Floors are policies
that look at the state alone; the ceiling is the environment's expert, where it has one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from smolpilot.common.errors import SimulationError, SmolpilotError, UsageError
from smolpilot.evaluation.rates.intervals import rate_row
from smolpilot.evaluation.rates.paired import PairedCounts
from smolpilot.evaluation.rates.wording import Comparison, compare_paired, compare_with_each, verdict_text

from .checked_environment import CheckedEnvironment
from .closed_loop import play
from .results import CRASHED, Run, mean_facts

if TYPE_CHECKING:
    from smolpilot.contracts import Policy

    from .environment_pool import Pool
    from .floor_cache import FloorCache

EXPERT = "expert"
TEXTS = {
    "no-op": "commands the start pose for the whole episode",
    "random": "goes to random targets within the joints' limits, a new one every 8 steps",
    "hold-state": "commands the state that it reads, anew every 10 steps",
    EXPERT: "the environment's own expert, which sees the state of the simulation",
}
GATES = {"passed": "gate passed", "replay-exact": "gate replay-exact", "failed": "gate failed"}

type Kind = Literal["floor", "ceiling"]  # and `reference`, of people: see `recording_row`
type Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Floor:
    """What something that is no policy under test reached; `runs` of other seeds than the policy's are not paired."""

    name: str
    kind: Kind
    text: str
    runs: Sequence[Run]


def play_floors(
    policies: Mapping[str, Callable[[], Policy]],
    pool: Callable[[], Pool],
    seeds: Sequence[int],
    *,
    expert: bool,
    swap: bool = False,
    cache: FloorCache | None = None,
    progress: Progress | None = None,
) -> tuple[list[Floor], list[str]]:
    """Let each of the policies (name -> what opens it) play these seeds; with `expert` the environment's own, too.

    pool: opens environments, only where something is left to play. cache: episodes of before. Also the sentences on
    those that could not be played: a floor that fails does not take the policy's results along.
    """
    found: list[Floor] = []
    failed: list[str] = []
    series = _Series(pool, seeds, swap, cache, progress)
    for name in (*policies, *([EXPERT] if expert else [])):
        kind: Kind = "ceiling" if name == EXPERT else "floor"
        text = TEXTS.get(name, name)
        try:
            if kind == "ceiling":
                runs = series.runs(name, lambda there, left: _demonstrations(there, left, swap))
            else:
                with closing(policies[name]()) as policy:
                    text = "; ".join([text, *policy.spec.facts.notes])
                    runs = series.of_policy(name, policy)
        except SmolpilotError as error:
            failed.append(f"The {kind} {name} is missing: {error.found}")
        else:
            if crashed := sum(run.label == CRASHED for run in runs):
                text = f"{text}; the simulation failed in {crashed} of {len(runs)} episodes, counted as no success"
            found.append(Floor(name, kind, text, runs))
    return found, failed


def floor_rows(runs: Sequence[Run], floors: Sequence[Floor]) -> list[dict[str, Any]]:
    """A row for each floor as results.json has it: counts, interval, facts, and the policy's runs compared with it.

    Floors are looked at together, so their p values are adjusted for their number (Holm); a ceiling is a question of
    its own. Not compared (`paired` is None): what was played on other seeds.
    """
    own = _successes(runs)
    counts = {one.name: PairedCounts.of(own, other) for one in floors
              if (other := _successes(one.runs)).keys() == own.keys()}  # fmt: skip
    kinds = {one.name: one.kind for one in floors}
    compared = compare_with_each("the policy", {name: own for name, own in counts.items() if kinds[name] == "floor"})
    for name in counts.keys() - compared.keys():
        compared[name] = compare_paired("the policy", name, counts[name])
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "text": one.text,
            **rate_row(sum(run.success for run in one.runs), len(one.runs)),
            "successes_at_end": sum(run.success_at_end for run in one.runs),
            "facts": mean_facts([run.facts for run in one.runs]),
            "paired": paired_document(counts[one.name], compared[one.name]) if one.name in counts else None,
        }
        for one in floors
    ]


def recording_row(gate: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The row of people's own episodes as the gate replayed them, beside the floors; none where it replayed none.

    Their scenes are others than the policy's, and they end where people stopped: to look at, compared with nobody.
    """
    facts = (gate or {}).get("facts") or {}
    if gate is None or "people_succeed" not in facts:
        return []
    return [
        {
            "name": "replay",
            "kind": "reference",
            "text": "people's recorded episodes, replayed by the gate: other scenes, and each ends where they stopped",
            **rate_row(int(facts["people_succeed"]), int(gate["episodes"])),
            "successes_at_end": None,
            "facts": {"max_coverage": float(facts["best_coverage"])},
            "paired": None,
        }
    ]


def paired_document(counts: PairedCounts, compared: Comparison) -> dict[str, Any]:
    """A paired comparison of the policy with another as results.json has it; shares are fractions."""
    return {
        "both": counts.both,
        "only_policy": counts.only_a,
        "only_other": counts.only_b,
        "neither": counts.neither,
        **comparison_document(compared),
    }


def comparison_document(compared: Comparison) -> dict[str, Any]:
    """What a test decided, as results.json has it."""
    more = {} if compared.unadjusted_p_value is None else {"unadjusted_p_value": compared.unadjusted_p_value}
    return {
        "difference": compared.difference,
        "interval": list(compared.interval),
        "p_value": compared.p_value,
        **more,
        "test": compared.test,
        "decision": compared.decision,
        "text": compared.text,
    }


def verdict(document: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a rollout: a sentence, the decision against the best floor, and which one that is.

    The best floor has the most successes, of several the one that the policy is told apart from least.
    """
    floors = [row for row in document.get("floors", ()) if row["kind"] == "floor" and row["paired"] is not None]
    best = max(floors, key=lambda row: (row["successes"], row["paired"]["p_value"]), default=None)
    about = {} if best is None else best["paired"]
    against = None if best is None else (best["name"], (best["successes"], best["episodes"]), comparison_of(about))
    who = "The untrained policy" if document["untrained"] else "The policy"
    swapped = " with the instruction swapped" if document["swap_instruction"] else ""
    return {
        "text": verdict_text(
            who, document["successes"], document["episodes"], f"fresh episodes of {document['env']}{swapped}",
            gate=_gate(document.get("gate")), floor=against,
        ),
        "decision": about.get("decision"),
        "against": None if best is None else best["name"],
    }  # fmt: skip


def _gate(gate: Mapping[str, Any] | None) -> str:
    if gate is None:
        return ""
    word = str(gate["verdict"])
    return f"{GATES.get(word, word)}{', scored all the same' if gate.get('overridden') else ''}"


def comparison_of(paired: Mapping[str, Any]) -> Comparison:
    """What a test decided, of a document that has it."""
    names = ("decision", "difference", "interval", "p_value", "test", "text")
    return Comparison(**{name: paired[name] for name in names})


def _successes(runs: Sequence[Run]) -> dict[int, bool]:
    return {run.seed: run.success for run in runs}


@dataclass(frozen=True)
class _Series:
    """The same seeds, played by one after the other."""

    pool: Callable[[], Pool]
    seeds: Sequence[int]
    swap: bool
    cache: FloorCache | None
    progress: Progress | None

    def of_policy(self, name: str, policy: Policy) -> list[Run]:
        """The runs of a policy in order of the seeds."""
        return self.runs(name, lambda there, left: play(policy, there, left, swap=self.swap))

    def runs(self, name: str, start: Callable[[Pool, Sequence[int]], Iterator[Run]]) -> list[Run]:
        """Those of the cache, and the rest in environments that are opened for them: one that failed is used up."""
        done = {} if self.cache is None else {run.seed: run for run in self.cache.known(name) if run.seed in self.seeds}
        left = [one for one in self.seeds if one not in done]
        if not left:
            return [done[one] for one in self.seeds]
        try:
            with closing(self.pool()) as there:
                for run in start(there, left):
                    done[run.seed] = run
                    if self.progress is not None:
                        self.progress(f"playing {name}", len(done), len(self.seeds))
        finally:
            if self.cache is not None:
                self.cache.keep(name, list(done.values()))
        return [done[one] for one in self.seeds]


def _demonstrations(pool: Pool, seeds: Sequence[int], swap: bool) -> Iterator[Run]:
    """The expert's episodes; one whose simulation fails is no success."""
    waiting = deque(seeds)
    while waiting:
        begun = {place: waiting.popleft() for place in range(min(len(pool.environments), len(waiting)))}

        def work(place: int, begun: Mapping[int, int] = begun) -> Run:
            return _demonstrate(CheckedEnvironment(pool.environments[place], images=False), begun[place], swap)

        lost: set[int] = set()
        for (place, seed), result in zip(begun.items(), pool.each([*begun], work), strict=True):
            if not isinstance(result, SimulationError):
                yield result
            elif place in lost:
                waiting.append(seed)  # its process ended with another's episode
            else:
                lost |= {*pool.renew(place)}
                yield Run(seed, "", label=CRASHED, error=result.found)


def _demonstrate(play: CheckedEnvironment, seed: int, swap: bool) -> Run:
    instruction = None
    if swap:
        _, info = play.reset(seed)
        if not info.alternatives:
            raise UsageError(f"The scene of seed {seed} has no other instruction.")
        instruction = info.alternatives[0]
    found = play.demonstrate(seed, instruction)
    groups = {str(group): str(value) for group, value in found.info.groups.items()}
    run = Run(seed, found.info.instruction, groups, steps=found.steps)
    run.end(found.outcome)
    return run
