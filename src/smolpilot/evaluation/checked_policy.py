"""Asking a policy for chunks: what it answers is looked at, since anybody may have written it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smolpilot.common.errors import CheckpointError
from smolpilot.contracts.plugins import blamed

from .predictions import F32

if TYPE_CHECKING:
    from smolpilot.contracts import Observation, Policy


def checked_chunks(policy: Policy, observations: Sequence[Observation], seeds: Sequence[int]) -> F32:
    """Chunks float32 [B, H, A] for the observations.

    CheckpointError when the policy answers with another shape or type; SmolpilotError, with its name, when it raises
    what it should not.
    """
    spec = policy.spec
    fix = f"report it to the makers of {spec.name}; SMOLPILOT_TRACEBACK=1 shows where"
    with blamed(f"The policy {spec.name} fails", fix=fix):
        answer = policy.predict(observations, seeds=seeds)
    try:
        found = np.asarray(answer)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors of another device or with a gradient
        found = np.asarray(None)
    expected = (len(observations), spec.chunk_size, spec.action_dim)
    if found.dtype.kind not in "fiu":
        raise CheckpointError(
            f"The policy {spec.name} answered {len(observations)} observations with a {type(answer).__name__} that is "
            "no array of real numbers.",
            expected=f"a numpy array float32 {list(expected)}",
        )
    with np.errstate(over="ignore"):  # infinity, then, which is told
        chunks: F32 = np.array(found, dtype=np.float32)  # a copy: the policy may use its array again
    if chunks.shape != expected:
        raise CheckpointError(
            f"The policy {spec.name} answered {len(observations)} observations with an array of shape "
            f"{list(chunks.shape)}.",
            expected=f"{list(expected)}: for each observation chunk_size actions of action_dim values, by its spec",
        )
    return chunks


def seed_of(*key: int) -> int:
    """A seed of its own, 63 bits, for the plan or frame that these numbers name."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
