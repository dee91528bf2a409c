"""The two baselines that a policy has to beat: hold the current state, and always give the mean action."""

from __future__ import annotations

import numpy as np

from smolpilot.evaluation.metrics import Errors, chunk_errors
from smolpilot.evaluation.predictions import F32, Scored


def hold_chunks(scored: Scored) -> F32:
    """Chunks [N, H, A] that command the state read at each scored frame."""
    return np.repeat(scored.hold[:, None], scored.horizon, axis=1)


def mean_chunks(scored: Scored) -> F32:
    """Chunks [N, H, A] that command the mean action of the training statistics."""
    return np.broadcast_to(scored.mean_action.astype(np.float32), scored.predicted.shape)


def hold_errors(scored: Scored) -> Errors | None:
    """Errors of holding the state; None when no joint has a state of the same name, nan for single ones without."""
    if np.isnan(scored.hold).all():
        return None
    return chunk_errors(hold_chunks(scored), scored.target, scored.is_pad)


def mean_errors(scored: Scored) -> Errors | None:
    """Errors of the mean action; None when the policy's statistics do not hold it."""
    if np.isnan(scored.mean_action).any():
        return None
    return chunk_errors(mean_chunks(scored), scored.target, scored.is_pad)
