"""The sentences about rates and differences: the only place that may say "better", and only where a test rejected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from smolpilot.common.text import pluralize

from .counterfactual import LanguageTest, Listening, Share
from .intervals import Interval, difference_interval, rate_interval
from .paired import PairedCounts, mcnemar, tango_interval
from .power import ALPHA, RECIPE_SEEDS, RecipeError, episodes_needed, recipe_rate, smallest_difference
from .rate_tests import Successes, holm, unpaired_test

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
    test: str  # McNemar, Boschloo or Fisher, all exact; and how p was adjusted
    text: str
    unadjusted_p_value: float | None = None  # before Holm, where several were compared


@dataclass(frozen=True)
class ErrorComparison:
    """Errors of two policies on the same episodes: what the interval of their difference allows to say."""

    decision: Decision
    difference: float  # error of the first minus error of the second: negative is the first's smaller error
    interval: Interval | None
    text: str


FEW_EPISODES = 5
"""Below, an interval over episodes means little, and decides nothing: the bootstrap of so few covers far less than it
says, and excludes 0 whenever they agree."""


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
    return _decided(_paired(first, second, counts))


def compare_unpaired(first: str, second: str, a: tuple[int, int], b: tuple[int, int]) -> Comparison:
    """The verdict on two policies whose episodes are not, or not all, the same; a, b: (successes, episodes)."""
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


_LISTENING: Mapping[Listening, tuple[str, str]] = {
    "follows": ("The policy follows the text", "策略听从文字指令"),
    "opposes": ("The policy does the opposite of what it is told", "策略的行为与指令相反"),
    "ignores": (
        "The policy ignores the text in most scenes where it reaches a goal", "策略在多数达到目标的场景中忽略文字指令",
    ),
    "not told apart": (
        "The policy is not told apart from one that ignores the text", "无法将策略与忽略文字指令的策略区分",
    ),
}  # fmt: skip


def listening_text(found: LanguageTest, language: Language = "en") -> str:
    """The verdict of the language test: what was decided, on what grounds, and in how many scenes it shows."""
    if language == "zh":
        return _listening_zh(found)
    followed = f"Every text was followed in {_share_text(found.followed, 'scenes')}"
    if found.decision == "nothing reached":
        return (
            "Nothing can be said about language: no goal was reached in any of "
            f"{pluralize(found.right.episodes, 'episode')}, whatever the policy was told."
        )
    if found.decision == "not known":
        return (
            "Whether the policy follows the text is not known: the environment does not say which goals were reached. "
            f"{followed}."
        )
    effect, (low, high) = found.effect, found.interval
    return (
        f"{_LISTENING[found.decision][0]}: what it reached went with the texts in {effect.only_a} of "
        f"{pluralize(effect.episodes, 'scene')}, against them in {effect.only_b} (difference "
        f"{100 * effect.difference:+.3g} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}; "
        f"{_p_text(found.p_value)}, McNemar, exact). {followed}; it reached the same goals, whatever it was told, in "
        f"{_share_text(found.same)}, and some goal under every text in {found.reaching}."
    )


def _share_text(share: Share, noun: str = "") -> str:
    whole = f"{share.episodes}{f' {noun}' if noun else ''}"
    return f"{share.successes} of {whole} ({percent(share.rate)}, 95 % interval {_span(*share.interval)})"


def _listening_zh(found: LanguageTest) -> str:
    def share(one: Share) -> str:
        low, high = one.interval
        span = f"95 % 置信区间 {100 * low:.1f} 至 {100 * high:.1f} %"
        return f"{one.episodes} 个场景中有 {one.successes} 个（{percent(one.rate)}，{span}）"

    if found.decision == "nothing reached":
        return f"对语言无法作出判断：{found.right.episodes} 个回合中无论给出什么指令，都没有达到任何目标。"
    followed = f"所有指令都被执行的场景：{share(found.followed)}"
    if found.decision == "not known":
        return f"无法得知策略是否听从文字指令：环境未说明达到了哪些目标。{followed}。"
    effect, (low, high) = found.effect, found.interval
    return (
        f"{_LISTENING[found.decision][1]}：{effect.episodes} 个场景中，所达到的目标与指令相符的有 {effect.only_a} 个，"
        f"相反的有 {effect.only_b} 个"
        f"（差值 {100 * effect.difference:+.3g} 个百分点，95 % 置信区间 {100 * low:+.1f} 至 {100 * high:+.1f}；"
        f"{_p_text(found.p_value)}，McNemar 精确检验）。{followed}；无论给出什么指令都达到相同目标的场景："
        f"{share(found.same)}；在每条指令下都达到某个目标的场景：{found.reaching} 个。"
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
    counts = f"with {a[0]} of {a[1]} against {b[0]} of {b[1]}, not paired by episode"
    return _Tested((first, second), difference, difference_interval(a, b), p_value, f"{test}, exact", counts)


def compare_errors(
    names: tuple[str, str], errors: tuple[float, float], interval: Interval | None, episodes: int, unit: str
) -> ErrorComparison:
    """The verdict on two policies by their errors on the same episodes.

    errors: the means, in `unit`; interval: of their difference over the episodes, None where there is none.
    """
    difference = errors[0] - errors[1]
    decision: Decision = "not told apart"
    if interval is not None and episodes >= FEW_EPISODES and not interval.low <= 0 <= interval.high:
        decision = "better" if difference < 0 else "worse"
    text = (
        f"{_said(names, decision)} over {pluralize(episodes, 'episode')}: mean error {errors[0]:.4g} against "
        f"{errors[1]:.4g} ({unit}), difference {difference:+.3g}"
    )
    if interval is not None:
        text += f", 95 % interval {error_span(interval)} (bootstrap over episodes)"
    return ErrorComparison(decision, difference, interval, f"{text}. {few_episodes_text(episodes)}".strip())


def error_span(interval: Interval) -> str:
    """The ends of an interval of an error: "0.12 to 0.15"."""
    return f"{interval.low:.3g} to {interval.high:.3g}"


def few_episodes_text(episodes: int) -> str:
    """What is to be said of an interval over so few episodes; empty for enough."""
    if episodes >= FEW_EPISODES:
        return ""
    if episodes < 2:
        return "One episode says nothing about others."
    return f"An interval over {episodes} episodes means little: score {FEW_EPISODES} or more."


def recipe_error_text(found: RecipeError, seeds: int, episodes: int, unit: str) -> str:
    """What a recipe's held-out errors come to, with the two spreads apart."""
    mean = f"Mean held-out error {found.mean:.4g} {unit} over {pluralize(seeds, 'training seed')}"
    if found.interval is not None:
        mean += f", 95 % interval {error_span(found.interval)} over the seeds (Student's t)"
    spreads = f"another training seed moves it by {found.between_seeds:.2g} (standard deviation)"
    if math.isfinite(found.over_episodes):
        spreads += f", other episodes than these {episodes} would move a checkpoint's by {found.over_episodes:.2g}"
    return f"{mean}; {spreads}. {_claim(seeds)}".strip()


def recipe_rate_text(counts: Sequence[tuple[int, int]]) -> str:
    """What the success rates of one checkpoint for each training seed come to; counts: (successes, episodes)."""
    if len(counts) < RECIPE_SEEDS:
        return f"{pluralize(len(counts), 'training seed')}. {_claim(len(counts))}"
    found = recipe_rate(counts)
    low, high = found.interval
    return (
        f"The recipe succeeded in {percent(found.mean)} on average over {pluralize(len(counts), 'training seed')}, "
        f"95 % interval {_span(low, high)} (Student's t over the seeds, no narrower than one checkpoint's). Training "
        "seeds differ by "
        f"{100 * found.between_seeds:.1f} points (standard deviation) beyond the {100 * found.within_seeds:.1f} points "
        "that so many episodes give by themselves."
    )


def _claim(seeds: int) -> str:
    """What has to be said of so few training seeds; empty for enough."""
    if seeds >= RECIPE_SEEDS:
        return ""
    return (
        f"A claim about a recipe needs {RECIPE_SEEDS} training seeds or more: another seed moves success by 10 to 15 "
        "points."
    )


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
    said = _said(names, decision)
    said = f"The {said.removeprefix('the ')}" if said.startswith("the ") else said
    text = (
        f"{said} {one.grounds}; difference {100 * difference:+.3g} points, 95 % interval "
        f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}; {_p_text(one.p_value)} ({one.test})."
    )
    return Comparison(decision, difference, interval, one.p_value, one.test, text)


def _said(names: tuple[str, str], decision: Decision) -> str:
    if decision == "not told apart":
        return f"{names[0]} and {names[1]} are not told apart"
    return f"{names[0]} is {decision} than {names[1]}"


def _span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def p_value(value: float) -> str:
    """0.0312 -> "0.031"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_text(value: float) -> str:
    return f"p {'' if value < 0.001 else '= '}{p_value(value)}"
