"""The rollouts of a recipe's seeds as one result."""

from __future__ import annotations

from typing import Any

import pytest

from smolpilot.evaluation.rollout.recipe_rollouts import recipe_document


def result(successes: int, *, episodes: int = 20, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "env": "line", "goal": "the end", "env_settings": {}, "seed": 7, "swap_instruction": False,
        "episodes": episodes, "successes": successes, "success_rate": successes / episodes, "interval": [0.1, 0.9],
        "success_at_end": successes, "text": "…", "warnings": list(warnings),
    }  # fmt: skip


def document(*successes: int) -> dict[str, Any]:
    results = {seed: result(one, warnings=("slow",)) for seed, one in enumerate(successes)}
    return recipe_document(results, {seed: f"seed_{seed}" for seed in results})


def test_three_seeds_are_a_recipe() -> None:
    found = document(8, 12, 16)
    assert [one["training_seed"] for one in found["seeds"]] == [0, 1, 2]
    assert found["recipe"]["mean"] == pytest.approx(0.6)
    assert found["recipe"]["between_seeds"] == pytest.approx((0.04 - found["recipe"]["within_seeds"] ** 2) ** 0.5)
    low, high = found["recipe"]["interval"]
    assert (low, high) == pytest.approx((0.6 - 0.4969, 1.0), abs=1e-3)  # 4.303 * 0.2 / sqrt(3)
    assert found["text"].startswith("The recipe succeeded in 60 % on average over 3 training seeds, 95 % interval")
    assert (found["env"], found["seed"], found["gate"]) == ("line", 7, None)
    assert found["warnings"] == ["slow"]


def test_two_seeds_are_none() -> None:
    found = document(8, 12)
    assert found["recipe"] is None
    assert found["text"].startswith("2 training seeds. A claim about a recipe needs 3 training seeds or more")
