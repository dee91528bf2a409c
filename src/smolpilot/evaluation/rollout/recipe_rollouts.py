"""The rollouts of one recipe's training seeds as one result: a rate for each, and the two spreads apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from smolpilot.evaluation.rates.power import RECIPE_SEEDS, recipe_rate
from smolpilot.evaluation.rates.wording import recipe_rate_text

FORMAT = "smolpilot-recipe-rollout/1"
_PER_SEED = ("episodes", "successes", "success_rate", "interval", "success_at_end", "text")
_SHARED = ("env", "goal", "env_settings", "seed", "swap_instruction", "gate")


def recipe_document(results: Mapping[int, Mapping[str, Any]], folders: Mapping[int, str]) -> dict[str, Any]:
    """results: training seed -> the document of its rollout (results.json), all of the same episodes; folders: where
    that lies, beside the document. `recipe` is null for fewer than three training seeds."""
    counts = [(found["successes"], found["episodes"]) for found in results.values()]
    first = next(iter(results.values()))
    return {
        "format": FORMAT,
        **{key: first.get(key) for key in _SHARED},
        "seeds": [
            {"training_seed": seed, "folder": folders[seed], **{key: found.get(key) for key in _PER_SEED}}
            for seed, found in results.items()
        ],
        "recipe": asdict(recipe_rate(counts)) if len(counts) >= RECIPE_SEEDS else None,
        "text": recipe_rate_text(counts),
        "warnings": list(dict.fromkeys(warning for found in results.values() for warning in found["warnings"])),
    }
