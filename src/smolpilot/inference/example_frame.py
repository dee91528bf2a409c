"""A made-up frame that fits a SmolVLA policy: for warm-up and for timing, never for a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smolpilot.contracts import PolicyFacts, example_observation

if TYPE_CHECKING:
    from smolpilot.smolvla.transforms.transform_list import TransformsConfig


def example_frame(config: TransformsConfig, seed: int = 0) -> dict[str, Any]:
    """Noise in every camera, at the size of the policy's slot; the mean state; the first trained instruction.

    config: what the policy's transforms are built from, `policy.transforms_config` or `engine.transforms.config`.
    """
    from smolpilot.smolvla.policy import policy_spec

    spec = policy_spec(config, n_action_steps=config.policy.n_action_steps, lineage={}, facts=PolicyFacts())
    return example_observation(spec, seed)
