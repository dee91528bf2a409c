"""The sentences: nobody is better unless a test rejected, and who looks at several has looked at all."""

from __future__ import annotations

import itertools
import re

import pytest

from smolpilot.evaluation.rates.paired import PairedCounts, mcnemar
from smolpilot.evaluation.rates.wording import (
    compare_all,
    compare_paired,
    compare_unpaired,
    compare_with_each,
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
