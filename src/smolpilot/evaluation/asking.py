"""Asking a policy for chunks: what it answers is looked at, since anybody may have written it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smolpilot.errors import CheckpointError, SmolpilotError
from smolpilot.shown import plain

from .scored import F32

if TYPE_CHECKING:
    from smolpilot.contracts import Observation, Policy


def checked_chunks(policy: Policy, observations: Sequence[Observation], seeds: Sequence[int]) -> F32:
    """Chunks float32 [B, H, A] for the observations.

    CheckpointError when the policy answers with another shape; SmolpilotError, with its name, when it raises what it
    should not.
    """
    spec = policy.spec
    try:
        chunks: F32 = np.asarray(policy.predict(observations, seeds=seeds), dtype=np.float32)
    except (SmolpilotError, MemoryError):
        raise
    except Exception as error:
        cause = plain(f"{type(error).__name__}: {error}", 500)
        raise SmolpilotError(
            f"The policy {spec.name} fails: {cause}",
            fix=f"report it to the makers of {spec.name}; SMOLPILOT_TRACEBACK=1 shows where",
        ) from error
    expected = (len(observations), spec.chunk_size, spec.action_dim)
    if chunks.shape != expected:
        raise CheckpointError(
            f"The policy {spec.name} answered {len(observations)} observations with an array of shape "
            f"{list(chunks.shape)}.",
            expected=f"{list(expected)}: for each observation chunk_size actions of action_dim values, by its spec",
        )
    return chunks
