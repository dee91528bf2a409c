"""The sentences about rates and differences: the only place that may say "better", and only where a test rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from smolpilot.common.text import pluralize

from .intervals import Interval, difference_interval, rate_interval
from .paired import PairedCounts, mcnemar, tango_interval
from .power import ALPHA, episodes_needed, smallest_difference
from .rate_tests import Successes, holm, unpaired_test

Decision = Literal["better", "worse", "not told apart"]
"""Of the first policy against the second. Not told apart is no proof of being alike."""


@dataclass(frozen=True)
class Comparison:
    """Two policies compared: what the test decided, and on what grounds."""

    decision: Decision
    difference: float  # rate of the first minus rate of the second, as a fraction
    interval: Interval
    p_value: float
    test: str  # McNemar, Boschloo or Fisher, all exact; and how p was adjusted
    text: str
    unadjusted_p_value: float | None = None  # before Holm, where several were compared


def percent(share: float) -> str:
    """0.875 -> "87.5 %"."""
    return f"{100 * share:.3g} %"


def rate_text(successes: int, episodes: int) -> str:
    """A rate as it is always given: counts, and the interval; never a percentage alone."""
    if episodes == 0:
        return "no episodes"
    low, high = rate_interval(successes, episodes)
    return f"{successes} of {episodes} ({percent(successes / episodes)}, 95 % interval {_span(low, high)})"


def planning_text(successes: int, episodes: int) -> str:
    """What this number of episodes can show against a rate like the observed one, and how many would show 10 points."""
    if episodes == 0:
        return "Without episodes nothing can be shown."
    rate = successes / episodes
    shown = smallest_difference(rate, episodes)
    can = (
        "can show no difference, however large,"
        if shown is None
        else f"show {100 * shown:.0f} points or more of difference"
    )
    text = f"{pluralize(episodes, 'episode')} {can} from a rate of {percent(rate)}"
    other = rate - 0.1 if rate >= 0.5 else rate + 0.1
    needed = episodes_needed(rate, other)
    enough = f"; to show 10 points takes {needed:,}" if needed is not None else ""
    return f"{text} (paired by seed, power 80 %){enough}."


def compare_paired(first: str, second: str, counts: PairedCounts) -> Comparison:
    """The verdict on two policies that met the same episodes; first, second: their names."""
    return _decided(_paired(first, second, counts))


def compare_unpaired(first: str, second: str, a: tuple[int, int], b: tuple[int, int]) -> Comparison:
    """The verdict on two policies that met different episodes; a, b: (successes, episodes)."""
    return _decided(_unpaired(first, second, a, b))


def compare_with_each(first: str, others: Mapping[str, PairedCounts]) -> dict[str, Comparison]:
    """The verdicts on a policy against each of several that met the same episodes; others: name -> counts.

    p values are adjusted for their number (Holm): whoever looks for the best of them has looked at all.
    """
    return dict(zip(others, _together([_paired(first, name, one) for name, one in others.items()]), strict=True))


def compare_all(names: Sequence[str], policies: Sequence[Successes]) -> dict[tuple[int, int], Comparison]:
    """The verdict on each pair of several policies, by their places, with p values adjusted for their number (Holm).

    Paired where all met the same seeds, else unpaired.
    """
    pairs = list(combinations(range(len(policies)), 2))
    if all(one.keys() == policies[0].keys() for one in policies):
        found = [_paired(names[a], names[b], PairedCounts.of(policies[a], policies[b])) for a, b in pairs]
    else:
        counts = [(sum(one.values()), len(one)) for one in policies]
        found = [_unpaired(names[a], names[b], counts[a], counts[b]) for a, b in pairs]
    return dict(zip(pairs, _together(found), strict=True))


def several_text(names: Sequence[str], letters: Sequence[str], cochran: float | None) -> str:
    """What was found of several policies; letters: of the compact letter display. cochran: p value, where paired."""
    rows = ", ".join(f"{name} {letter}" for name, letter in zip(names, letters, strict=True))
    first = "" if cochran is None else f"Cochran's Q over all: {_p_text(cochran)}. "
    return f"{first}{rows}: policies that share a letter are not told apart (adjusted by Holm)."


def verdict_text(
    policy: str, successes: int, episodes: int, where: str, *, gate: str = "",
    floor: tuple[str, tuple[int, int], Comparison] | None = None,
) -> str:  # fmt: skip
    """The one sentence on a rollout: its rate with n and interval, the gate, and the comparison with the best floor.

    policy: who, as a sentence begins. where: as "fresh episodes of pusht". gate: its words, such as "gate passed".
    floor: its name, (successes, episodes) and the comparison with it; None where there is none.
    """
    if episodes == 0:
        return f"{policy} played no {where}."
    low, high = rate_interval(successes, episodes)
    facts = f"{percent(successes / episodes)}, 95 % interval {_span(low, high)}{f'; {gate}' if gate else ''}"
    said = f"{policy} succeeded in {successes} of {episodes} {where} ({facts})"
    if floor is None:
        return f"{said}; it was not compared with a floor."
    name, (reached, played), found = floor
    decided = {
        "better": "is better than", "worse": "is worse than", "not told apart": "is not told apart from",
    }[found.decision]  # fmt: skip
    return (
        f"{said} and {decided} the best floor, {name}, with {reached} of {played} on the same seeds "
        f"({_p_text(found.p_value)}, {found.test})."
    )


@dataclass(frozen=True)
class _Tested:
    """A pair of policies after its test, before anything is decided."""

    names: tuple[str, str]
    difference: float
    interval: Interval
    p_value: float
    test: str
    grounds: str


def _paired(first: str, second: str, counts: PairedCounts) -> _Tested:
    return _Tested(
        (first, second), counts.difference, tango_interval(counts), mcnemar(counts), "McNemar, exact",
        f"on the same {pluralize(counts.episodes, 'episode')}: both succeeded in {counts.both}, only {first} in "
        f"{counts.only_a}, only {second} in {counts.only_b}, neither in {counts.neither}",
    )  # fmt: skip


def _unpaired(first: str, second: str, a: tuple[int, int], b: tuple[int, int]) -> _Tested:
    p_value, test = unpaired_test(a, b)
    difference = (a[0] / a[1] if a[1] else 0.0) - (b[0] / b[1] if b[1] else 0.0)
    counts = f"with {a[0]} of {a[1]} against {b[0]} of {b[1]}, in different episodes"
    return _Tested((first, second), difference, difference_interval(a, b), p_value, f"{test}, exact", counts)


def _together(found: Sequence[_Tested]) -> list[Comparison]:
    """Decided together: p values adjusted for their number."""
    if len(found) < 2:
        return [_decided(one) for one in found]
    return [
        replace(
            _decided(replace(one, p_value=adjusted, test=f"{one.test}; adjusted for {len(found)} by Holm")),
            unadjusted_p_value=one.p_value,
        )
        for one, adjusted in zip(found, holm([one.p_value for one in found]), strict=True)
    ]


def _decided(one: _Tested) -> Comparison:
    names, difference, interval = one.names, one.difference, one.interval
    decision: Decision = "not told apart"
    if one.p_value < ALPHA and difference != 0:
        decision = "better" if difference > 0 else "worse"
    said = (
        f"{names[0]} and {names[1]} are not told apart"
        if decision == "not told apart"
        else f"{names[0]} is {decision} than {names[1]}"
    )
    said = f"The {said.removeprefix('the ')}" if said.startswith("the ") else said
    text = (
        f"{said} {one.grounds}; difference {100 * difference:+.3g} points, 95 % interval "
        f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}; {_p_text(one.p_value)} ({one.test})."
    )
    return Comparison(decision, difference, interval, one.p_value, one.test, text)


def _span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def p_value(value: float) -> str:
    """0.0312 -> "0.031"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_text(value: float) -> str:
    return f"p {'' if value < 0.001 else '= '}{p_value(value)}"
