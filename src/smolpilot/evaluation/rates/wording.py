"""The sentences about rates and differences: the only place that may say "better", and only where a test rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smolpilot.common.text import pluralize

from .intervals import Interval, difference_interval, rate_interval
from .paired import PairedCounts, mcnemar, tango_interval
from .power import ALPHA, episodes_needed, smallest_difference
from .rate_tests import unpaired_test

Decision = Literal["better", "worse", "not told apart"]
"""Of the first policy against the second. Not told apart is no proof of being alike."""

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Comparison:
    """Two policies compared: what the test decided, and on what grounds."""

    decision: Decision
    difference: float  # rate of the first minus rate of the second, as a fraction
    interval: Interval
    p_value: float
    test: str  # "McNemar", "Boschloo" or "Fisher"
    text: str


def percent(share: float) -> str:
    """0.875 -> "87.5 %"."""
    return f"{100 * share:.3g} %"


def rate_text(successes: int, episodes: int, language: Language = "en") -> str:
    """A rate as it is always given: counts, and the interval; never a percentage alone."""
    if episodes == 0:
        return "no episodes" if language == "en" else "没有回合"
    low, high = rate_interval(successes, episodes)
    if language == "zh":
        span = f"95 % 置信区间 {100 * low:.1f} 至 {100 * high:.1f} %"
        return f"{episodes} 个回合中成功 {successes} 个（{percent(successes / episodes)}，{span}）"
    return f"{successes} of {episodes} ({percent(successes / episodes)}, 95 % interval {_span(low, high)})"


def paired_text(first: str, second: str, counts: PairedCounts, compared: Comparison, language: Language = "en") -> str:
    """The sentence on a comparison that was decided before, of two policies that met the same episodes.

    The Chinese one names the better policy, too, only where the p value rejects.
    """
    if language == "en":
        return compared.text
    said = {"better": f"{first}优于{second}", "worse": f"{first}差于{second}"}.get(compared.decision)
    if said is None or compared.p_value >= ALPHA:
        said = f"{first}与{second}无法区分"
    low, high = compared.interval
    tested = f"{_p_text(compared.p_value)}（{name_of_test(compared.test, 'zh')}）"
    return (
        f"{said}（相同的 {counts.episodes} 个回合：两者都成功 {counts.both} 个，仅{first}成功 {counts.only_a} 个，"
        f"仅{second}成功 {counts.only_b} 个，都不成功 {counts.neither} 个）；"
        f"差值 {100 * compared.difference:+.3g} 个百分点，"
        f"95 % 置信区间 {100 * low:+.1f} 至 {100 * high:+.1f}；{tested}。"
    )


def name_of_test(test: str, language: Language = "en") -> str:
    """The test of a comparison: its name, that it is exact, and how its p value was adjusted."""
    if language == "en":
        return test if "exact" in test else f"{test}, exact"
    return f"{test.partition(',')[0]} 精确检验{'，按 Holm 校正' if 'Holm' in test else ''}"


def _planning_zh(rate: float, other: float, episodes: int, shown: float | None) -> str:
    can = "无法显示任何差异" if shown is None else f"能显示 {100 * shown:.0f} 个百分点以上的差异"
    needed = episodes_needed(rate, other)
    enough = f"；要显示 10 个百分点需要 {needed:,} 个回合" if needed is not None else ""
    return f"相对于 {percent(rate)} 的成功率，{episodes:,} 个回合{can}（按种子配对，检验功效 80 %）{enough}。"


def planning_text(successes: int, episodes: int, language: Language = "en") -> str:
    """What this number of episodes can show against a rate like the observed one, and how many would show 10 points."""
    if episodes == 0:
        return "Without episodes nothing can be shown." if language == "en" else "没有回合，什么也无法说明。"
    rate = successes / episodes
    other = rate - 0.1 if rate >= 0.5 else rate + 0.1
    shown = smallest_difference(rate, episodes)
    if language == "zh":
        return _planning_zh(rate, other, episodes, shown)
    can = (
        "can show no difference, however large,"
        if shown is None
        else f"show {100 * shown:.0f} points or more of difference"
    )
    text = f"{pluralize(episodes, 'episode')} {can} from a rate of {percent(rate)}"
    needed = episodes_needed(rate, other)
    enough = f"; to show 10 points takes {needed:,}" if needed is not None else ""
    return f"{text} (paired by seed, power 80 %){enough}."


def compare_paired(first: str, second: str, counts: PairedCounts) -> Comparison:
    """The verdict on two policies that met the same episodes; first, second: their names."""
    return _compared(
        (first, second), counts.difference, tango_interval(counts), mcnemar(counts), "McNemar",
        f"on the same {pluralize(counts.episodes, 'episode')}: both succeeded in {counts.both}, only {first} in "
        f"{counts.only_a}, only {second} in {counts.only_b}, neither in {counts.neither}",
    )  # fmt: skip


def compare_unpaired(first: str, second: str, a: tuple[int, int], b: tuple[int, int]) -> Comparison:
    """The verdict on two policies that met different episodes; a, b: (successes, episodes)."""
    p_value, test = unpaired_test(a, b)
    difference = (a[0] / a[1] if a[1] else 0.0) - (b[0] / b[1] if b[1] else 0.0)
    counts = f"{a[0]} of {a[1]} against {b[0]} of {b[1]}, in different episodes"
    return _compared((first, second), difference, difference_interval(a, b), p_value, test, counts)


def _compared(
    names: tuple[str, str], difference: float, interval: Interval, p_value: float, test: str, grounds: str
) -> Comparison:
    decision: Decision = "not told apart"
    if p_value < ALPHA and difference != 0:
        decision = "better" if difference > 0 else "worse"
    said = (
        f"{names[0]} and {names[1]} are not told apart"
        if decision == "not told apart"
        else f"{names[0]} is {decision} than {names[1]}"
    )
    text = (
        f"{said} {grounds}; difference {100 * difference:+.3g} points, 95 % interval "
        f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}; {_p_text(p_value)} ({test}, exact)."
    )
    return Comparison(decision, difference, interval, p_value, test, text)


def _span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
