"""Real-time chunking: a new chunk is pulled towards what is left of the last one, so that the seam does not jump.

While a chunk is computed the robot executes `delay` more steps of the last one; the new chunk must agree with them and
should stay near the rest. Every denoising step estimates the finished chunk, x1 = x - t v, and corrects the velocity by
the weighted error to the left-over. The published method backpropagates that error through the network; in LeRobot the
velocity is computed before gradients are tracked, so the gradient is the error itself: one elementwise expression.
Source: Black et al. 2025, Real-Time Execution of Action Chunking Flow Policies; lerobot/policies/rtc/modeling_rtc.py.
Letters: B batch, H chunk, A max_action_dim, L steps of the left-over.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.smolvla.network.flow_matching import step_times

from .backend import Guidance

Schedule = Literal["linear", "exp", "ones", "zeros"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)
MAX_GAIN = 10.0


def make_guidance(
    leftover: Tensor,
    *,
    chunk_size: int,
    action_dim: int,
    steps: int,
    delay: int = 0,
    horizon: int | None = None,
    schedule: Schedule = "linear",
    max_gain: float = MAX_GAIN,
) -> Guidance:
    """The guidance of a chunk by the normalized left-over [B, L, <= action_dim] of the last one.

    delay: steps of the left-over that will have been executed when the new chunk starts to act; they count in full.
    horizon: how far the pull reaches, at most (and by default) L. UsageError for numbers that make no sense.
    """
    length = leftover.shape[1]
    if length < 1 or length > chunk_size or leftover.shape[2] > action_dim:
        raise UsageError(
            f"The left-over has {length} steps of {leftover.shape[2]} values.",
            expected=f"1 to {chunk_size} steps of at most {action_dim} values: what was not executed of the last chunk",
        )
    reach = length if horizon is None else min(horizon, length)
    if not bool(torch.isfinite(leftover).all()):
        raise UsageError("The left-over is not finite.", expected="what was not executed of the last chunk")
    if not (math.isfinite(max_gain) and max_gain >= 0):
        raise UsageError(f"max_gain is {max_gain}.", expected="a finite number of at least 0")
    if delay < 0 or reach < 1:
        raise UsageError(f"delay is {delay}, horizon {horizon}.", expected="delay 0 or more, horizon 1 or more")
    target = torch.zeros(leftover.shape[0], chunk_size, action_dim, dtype=torch.float32)
    target[:, :length, : leftover.shape[2]] = leftover
    return Guidance(target, prefix_weights(delay, reach, chunk_size, schedule), gains(steps, max_gain))


def prefix_weights(delay: int, horizon: int, total: int, schedule: Schedule = "linear") -> Tensor:
    """How strongly each step is pulled, float32 [total]: 1 before `delay`, falling to 0 at `horizon`."""
    if schedule not in SCHEDULES:
        raise UsageError(f"There is no schedule '{schedule}'.", fix=did_you_mean(schedule, SCHEDULES))
    start = min(delay, horizon)
    weights = torch.zeros(total)
    if schedule == "ones":
        weights[:horizon] = 1.0
        return weights
    weights[:start] = 1.0
    between = horizon - start
    if schedule == "zeros" or between <= 0:
        return weights
    ramp = torch.linspace(1, 0, between + 2)[1:-1]
    weights[start:horizon] = ramp if schedule == "linear" else ramp * (torch.expm1(ramp) / (math.e - 1))
    return weights


def gains(steps: int, max_gain: float = MAX_GAIN) -> Tensor:
    """The guidance weight of each denoising step, float32 [steps]; t runs from 1 to 0, tau = 1 - t."""
    tau = torch.tensor([1 - t for t in step_times(steps)], dtype=torch.float32)
    rest = (1 - tau) ** 2
    weight = torch.nan_to_num((1 - tau) / tau, posinf=max_gain) * ((rest + tau**2) / rest)
    return torch.nan_to_num(weight, posinf=max_gain).clamp(max=max_gain)
