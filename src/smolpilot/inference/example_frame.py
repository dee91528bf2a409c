"""A made-up frame that fits a SmolVLA policy: for warm-up and for timing, never for a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smolpilot.contracts import PolicyFacts, example_observation

if TYPE_CHECKING:
    from smolpilot.smolvla.transforms.transform_list import Recipe


def made_up_frame(recipe: Recipe, seed: int = 0) -> dict[str, Any]:
    """Noise in every camera, at the size of the policy's slot; the mean state; the first trained instruction.

    recipe: what the policy's transforms are built from, `policy.recipe` or `engine.transforms.recipe`.
    """
    from smolpilot.smolvla.policy import recipe_spec

    config = recipe.config
    spec = recipe_spec(recipe, config, n_action_steps=config.n_action_steps, lineage={}, facts=PolicyFacts())
    return example_observation(spec, seed)
