"""Asking a policy for chunks: what it answers is looked at, since anybody may have written it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smolpilot.errors import CheckpointError

from .scored import F32

if TYPE_CHECKING:
    from smolpilot.contracts import Observation, Policy


def checked_chunks(policy: Policy, observations: Sequence[Observation], seeds: Sequence[int]) -> F32:
    """Chunks float32 [B, H, A] for the observations; CheckpointError when the policy answers with another shape."""
    spec = policy.spec
    chunks: F32 = np.asarray(policy.predict(observations, seeds=seeds), dtype=np.float32)
    expected = (len(observations), spec.chunk_size, spec.action_dim)
    if chunks.shape != expected:
        raise CheckpointError(
            f"The policy {spec.name} answered {len(observations)} observations with an array of shape "
            f"{list(chunks.shape)}.",
            expected=f"{list(expected)}: for each observation chunk_size actions of action_dim values, by its spec",
        )
    return chunks
