"""The policy that a run hands out: what validation scores and what a checkpoint's bundle holds.

It is the trained network itself, or, with an average of the weights, a network around the averaged ones. No memory is
spent on weights that both share.
"""

from __future__ import annotations

from torch import Tensor

from smolpilot.policy import Policy
from smolpilot.policy.weights import empty_model

from .ema import Ema


def outcome(policy: Policy, ema: Ema | None) -> Policy:
    """The policy to score and to save; shares all tensors with the training ones."""
    if ema is None:
        return policy
    state: dict[str, Tensor] = {name: value.detach() for name, value in policy.model.state_dict().items()}
    state |= ema.average
    model = empty_model(policy.config)
    model.load_state_dict(state, strict=True, assign=True)
    handed = Policy(
        model.eval(), policy.transforms, lineage=policy.lineage, report=policy.report, carried=policy.carried
    )
    handed.n_action_steps = policy.n_action_steps
    return handed
