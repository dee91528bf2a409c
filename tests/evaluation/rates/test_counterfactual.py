"""The language test on scenes whose answer is known, and against the numbers counted by hand."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest

from smolpilot.evaluation.rates.counterfactual import LanguageTest, Scene, Told, language_test
from smolpilot.evaluation.rates.intervals import clustered_interval, rate_interval
from smolpilot.evaluation.rates.paired import PairedCounts, tango_interval

A, B, C = "touch the red one", "touch the blue one", "touch the green one"


def episode(told: str, *reached: str) -> Told:
    return Told(told, told in reached, reached)


def scene(*reached: str | None, texts: tuple[str, ...] = (A, B, C)) -> Scene:
    """What was reached under each text, the scene's own one first."""
    return [episode(told, *([found] if found else [])) for told, found in zip(texts, reached, strict=False)]


def counts(found: LanguageTest) -> tuple[int, int, int, int]:
    return found.right.successes, found.other.successes, found.followed.successes, found.same.successes


FOLLOWS, RED, SWAPS, NOTHING = scene(A, B), scene(A, A), scene(B, A), scene(None, None)


def test_who_follows_perfectly() -> None:
    found = language_test([FOLLOWS] * 20)
    assert counts(found) == (40, 0, 20, 0)
    assert (found.right.episodes, found.other.episodes, found.followed.episodes, found.same.episodes) == (
        40,
        40,
        20,
        20,
    )
    assert found.effect == PairedCounts(both=0, only_a=20, only_b=0, neither=0)
    assert found.effect.difference == 1
    assert found.p_value == pytest.approx(2 * 0.5**20)
    assert found.decision == "follows"
    assert found.followed.interval == rate_interval(20, 20)
    assert found.interval == tango_interval(found.effect)


def test_who_ignores_perfectly_reaches_half_and_has_no_effect() -> None:
    for deaf in (RED, scene(B, B)):
        found = language_test([deaf] * 20)
        assert counts(found) == (20, 20, 0, 20)
        assert (found.effect.difference, found.p_value, found.reaching) == (0, 1, 20)
        assert found.decision == "ignores"


def test_who_always_does_the_other() -> None:
    found = language_test([SWAPS] * 20)
    assert counts(found) == (0, 40, 0, 0)
    assert found.effect.difference == -1
    assert found.decision == "opposes"


def test_of_who_does_nothing_nothing_can_be_said() -> None:
    found = language_test([NOTHING] * 20)
    assert counts(found) == (0, 0, 0, 0)
    assert (found.decision, found.p_value) == ("nothing reached", 1)


def test_too_few_scenes_decide_nothing() -> None:
    assert language_test([FOLLOWS] * 5).decision == "not told apart"  # p = 0.0625
    assert language_test([FOLLOWS] * 6).decision == "follows"
    assert language_test([RED] * 5).decision == "not told apart"
    assert language_test([RED] * 6).decision == "ignores"  # rate_interval(6, 6) begins at 0.54
    assert language_test([RED] * 5 + [NOTHING] * 50).decision == "not told apart"
    assert language_test([RED] * 20 + [FOLLOWS] * 20).decision == "follows"  # half of the time, but it does


def test_success_that_nobody_can_assign() -> None:
    found = language_test([[Told(A, True, ()), Told(B, False, ())]] * 20)
    assert found.decision == "not known"
    assert (found.right.successes, found.followed.successes) == (20, 0)


def test_three_texts_and_two_side_by_side() -> None:
    found = language_test([scene(A, B, C), scene(A, A, A), scene(A, B), scene(C, B, A), scene(B, None, B)])
    assert (found.right.successes, found.right.episodes) == (3 + 1 + 2 + 1 + 0, 14)
    assert (found.other.successes, found.followed.successes, found.same.successes, found.reaching) == (6, 2, 1, 4)
    assert found.effect == PairedCounts(both=0, only_a=3, only_b=1, neither=1)
    assert found.right.interval == clustered_interval([3, 1, 2, 1, 0], [3, 3, 2, 3, 3])


def test_a_goal_on_the_way_to_another_is_no_deafness() -> None:
    """To pick it up it has to be touched first."""
    nested = [episode(A, A), episode(B, A, B)]
    found = language_test([nested] * 20)
    assert counts(found) == (40, 0, 20, 0)
    for scenes in ([nested] * 20, [nested[::-1]] * 20):
        assert language_test(scenes).effect.difference == 1  # told A it stops there, told B it goes on
        assert language_test(scenes).decision == "follows"


def test_a_text_that_only_makes_it_clumsy_is_not_heard() -> None:
    """Told A it goes to either at random, told B it does nothing: A is reached in half of the scenes when told, and in
    none when not, which is no hearing."""
    found = language_test([scene(A, None)] * 20 + [scene(B, None)] * 20)
    assert (found.right.successes, found.other.successes) == (20, 20)
    assert found.effect == PairedCounts(both=0, only_a=20, only_b=20, neither=0)
    assert (found.decision, found.p_value) == ("not told apart", 1)


def test_who_does_everything_follows_every_text_and_none() -> None:
    found = language_test([[episode(A, A, B), episode(B, A, B)]] * 20)
    assert counts(found) == (40, 0, 20, 20)
    assert (found.effect.difference, found.decision) == (0, "ignores")


@pytest.mark.parametrize("size", [2, 3])
def test_counts_by_hand_over_everything_that_may_happen(size: int) -> None:
    """Every combination of what is reached once: each goal under each text equally often."""
    texts = (A, B, C)[:size]
    scenes = [scene(*reached) for reached in product((*texts, None), repeat=size)]
    found = language_test(scenes)
    outcomes = size + 1
    each = outcomes ** (size - 1)
    assert len(scenes) == outcomes**size
    assert found.right.successes == size * each
    assert found.other.successes == size * (size - 1) * each
    assert (found.followed.successes, found.same.successes, found.reaching) == (1, size, size**size)
    assert found.effect.difference == 0  # whatever is told, each goal is reached equally often
    assert found.p_value == 1


@pytest.mark.parametrize("skill", [0.15, 0.5, 1.0])
def test_a_deaf_policy_is_rarely_said_to_listen(skill: float) -> None:
    """With draws of its own under each text, it passes McNemar's test in at most 5 % of the trials."""
    rng = np.random.default_rng(0)
    listens = 0
    for _ in range(300):
        goals = rng.choice([0, 1], (40, 2))
        reached = rng.random((40, 2)) < skill
        scenes = [
            scene(*((A, B)[goal] if hit else None for goal, hit in zip(row, hits, strict=True)))
            for row, hits in zip(goals, reached, strict=True)
        ]
        listens += language_test(scenes).decision in ("follows", "opposes")
    assert listens <= 300 * 0.05 + 2 * np.sqrt(300 * 0.05 * 0.95)


def test_the_p_value_counted_directly() -> None:
    scenes = [FOLLOWS] * 9 + [SWAPS] * 2 + [RED] * 4 + [NOTHING] * 3
    found = language_test(scenes)
    assert (found.effect.only_a, found.effect.only_b) == (9, 2)
    assert found.p_value == pytest.approx(2 * sum(comb(11, k) for k in range(3)) / 2**11)
