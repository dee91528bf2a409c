"""The sentences: nobody is better unless a test rejected, and who looks at several has looked at all."""

from __future__ import annotations

import itertools
import re

import pytest

from smolpilot.evaluation.rates.counterfactual import Told, language_test
from smolpilot.evaluation.rates.paired import PairedCounts, mcnemar
from smolpilot.evaluation.rates.wording import (
    compare_all,
    compare_paired,
    compare_unpaired,
    compare_with_each,
    listening_text,
    several_text,
    verdict_text,
)


@pytest.mark.parametrize("only_a", [0, 1, 5, 6, 9, 20])
@pytest.mark.parametrize("only_b", [0, 1, 5, 6, 9, 20])
def test_better_is_said_only_where_the_test_rejected(only_a: int, only_b: int) -> None:
    counts = PairedCounts(3, only_a, only_b, 5)
    alone = compare_paired("A", "B", counts)
    together = compare_with_each("A", {"B": counts, "C": PairedCounts(8, 0, 0, 0), "D": counts})
    for found in (alone, *together.values()):
        text = verdict_text("A", 3 + only_a, counts.episodes, "episodes", floor=("B", (1, 2), found))
        decided = found.p_value < 0.05
        assert (found.decision != "not told apart") is decided
        for said in (found.text, text):
            assert bool(re.search("better|worse", said)) is decided
            assert ("not told apart" in said) is not decided
    assert alone.decision == compare_unpaired("A", "B", (8, 8), (8, 8)).decision or mcnemar(counts) < 0.05


def test_p_values_of_several_are_adjusted() -> None:
    near, far = PairedCounts(0, 6, 0, 14), PairedCounts(0, 12, 0, 8)
    assert compare_paired("A", "B", near).decision == "better"  # p = 0.031
    found = compare_with_each("A", {"B": near, "C": far, "D": near})
    assert [one.decision for one in found.values()] == ["not told apart", "better", "not told apart"]
    assert found["B"].unadjusted_p_value == pytest.approx(0.03125)
    assert found["B"].p_value == pytest.approx(0.0625)
    assert "p = 0.062 (McNemar, exact; adjusted for 3 by Holm)" in found["B"].text
    assert compare_with_each("A", {"B": near})["B"].unadjusted_p_value is None
    assert compare_with_each("A", {}) == {}


def test_the_verdict_has_n_interval_gate_and_the_floor() -> None:
    found = compare_with_each("the policy", {"random": PairedCounts(2, 35, 0, 13)})["random"]
    text = verdict_text(
        "The policy", 37, 50, "fresh episodes of aloha", gate="gate passed", floor=("random", (2, 50), found)
    )
    assert text == (
        "The policy succeeded in 37 of 50 fresh episodes of aloha (74 %, 95 % interval 59.7 to 85.4 %; gate passed) "
        "and is better than the best floor, random, with 2 of 50 on the same seeds (p < 0.001, McNemar, exact)."
    )
    assert verdict_text("The policy", 0, 5, "episodes").endswith("52.2 %); it was not compared with a floor.")
    assert verdict_text("The policy", 0, 0, "episodes of x") == "The policy played no episodes of x."


def test_all_pairs_of_several() -> None:
    good = dict.fromkeys(range(20), True)
    bad = dict.fromkeys(range(20), False)
    found = compare_all(["a", "b", "c"], [good, bad, good])
    assert {pair: one.decision for pair, one in found.items()} == {
        (0, 1): "better", (0, 2): "not told apart", (1, 2): "worse",
    }  # fmt: skip
    assert all("on the same 20 episodes" in one.text for one in found.values())
    other = {seed + 100: True for seed in range(20)}
    unpaired = compare_all(["a", "b", "c"], [good, bad, other])
    assert [one.decision for one in unpaired.values()] == ["better", "not told apart", "worse"]
    assert all("not paired by episode" in one.text and "Boschloo" in one.text for one in unpaired.values())
    assert list(found) == list(itertools.combinations(range(3), 2))


def test_the_sentence_on_several_has_letters() -> None:
    text = several_text(["x", "y"], ["a", "ab"], 0.0001)
    assert text.startswith(
        "Cochran's Q over all: p < 0.001. x a, y ab: policies that share a letter are not told apart"
    )
    assert "Cochran" not in several_text(["x", "y"], ["a", "b"], None)


A, B = "touch the red one", "touch the blue one"


def scenes(*reached: tuple[str | None, str | None]) -> list[list[Told]]:
    """Of each scene what was reached, told A, which is its own text, and told B."""
    return [
        [Told(text, text == end, (end,) if end else ()) for text, end in zip((A, B), pair, strict=True)]
        for pair in reached
    ]


@pytest.mark.parametrize(
    ("reached", "begins", "chinese"),
    [
        ((A, B), "The policy follows the text: what", "策略听从文字指令："),
        ((B, A), "The policy does the opposite of what it is told: what", "策略的行为与指令相反："),
        (
            (B, B),
            "The policy ignores the text in most scenes where it reaches a goal: what",
            "策略在多数达到目标",
        ),
        (
            (None, "C"),
            "The policy is not told apart from one that ignores the text: what",
            "无法将策略与忽略文字指令的",
        ),
        (
            (None, None),
            "Nothing can be said about language: no goal was reached in any of 24",
            "对语言无法作出判断：24",
        ),
    ],
)
def test_the_verdict_on_language(reached: tuple[str | None, str | None], begins: str, chinese: str) -> None:
    found = language_test(scenes(*[reached] * 12))
    english = listening_text(found)
    assert english.startswith(begins)
    said = listening_text(found, "zh")
    assert said.startswith(chinese)
    assert not re.search("better|worse", english)
    numbers = r"[+-]?\d+(?:\.\d+)?"
    assert sorted(re.findall(numbers, said)) == sorted(re.findall(numbers, english))


def test_the_verdict_on_language_has_counts_interval_and_test() -> None:
    text = listening_text(language_test(scenes(*[(A, B)] * 9, *[(A, A)] * 2, (None, None))))
    assert text == (
        "The policy follows the text: what it reached went with the texts in 9 of 12 scenes, against them in 0 "
        "(difference +75 points, 95 % interval +32.6 to +91.1; p = 0.004, McNemar, exact). Every text was "
        "followed in 9 of 12 scenes (75 %, 95 % interval 42.8 to 94.5 %); it reached the same goals, whatever it was "
        "told, in 2 of 12 (16.7 %, 95 % interval 2.1 to 48.4 %), and some goal under every text in 11."
    )
    unknown = language_test([[Told(A, True, ()), Told(B, False, ())]] * 4)
    assert listening_text(unknown).startswith("Whether the policy follows the text is not known: the environment does")
    assert listening_text(unknown, "zh").startswith("无法得知策略是否听从文字指令")
