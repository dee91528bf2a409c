"""Flow matching: the path from noise (t = 1) to action (t = 0), the loss, the draw of t, its embedding, Euler steps.

Source: SmolVLA paper, section 3 (flow matching); lerobot/policies/common/flow_matching.py and vla_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Guide = Callable[[int, float, Tensor, Tensor], Tensor]


def draw_time(batch: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
    """Times of a training batch: Beta(1.5, 1) * 0.999 + 0.001, float32 [B].

    Beta(a, 1) has the distribution function x^a, so a uniform draw to the power 1/a has that distribution.
    """
    return time_of_uniform(torch.rand(batch, generator=generator, device=device, dtype=torch.float32))


def time_of_uniform(uniform: Tensor) -> Tensor:
    """Times of uniform draws between 0 and 1, see `draw_time`. [B] -> [B]"""
    return uniform.pow(1 / 1.5) * 0.999 + 0.001


def point_on_path(actions: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The noisy actions at `time` and the velocity to be learned. actions, noise [B, H, A], time [B]."""
    t = time[:, None, None]
    return t * noise + (1 - t) * actions, noise - actions


def time_embedding(time: Tensor, width: int, min_period: float, max_period: float) -> Tensor:
    """Sines and cosines with log-spaced periods, in float64 where the device has it. [B] -> [B, width]."""
    dtype = torch.float32 if time.device.type == "mps" else torch.float64
    angles = frequencies(width, min_period, max_period, dtype=dtype, device=time.device)[None, :] * time[:, None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def frequencies(
    width: int,
    min_period: float,
    max_period: float,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Tensor:
    """Angular frequencies of `time_embedding`, radians per unit of time. [width/2]."""
    fraction = torch.linspace(0.0, 1.0, width // 2, dtype=dtype, device=device)
    return 2 * math.pi / (min_period * (max_period / min_period) ** fraction)


def flow_matching_losses(
    velocity: Callable[[Tensor, Tensor], Tensor], actions: Tensor, noise: Tensor, time: Tensor
) -> Tensor:
    """Squared error of the predicted velocity at `time`, [B, H, A]; velocity(noisy [B, H, A], t [B]) -> [B, H, A]."""
    noisy, target = point_on_path(actions, noise, time)
    return F.mse_loss(velocity(noisy, time), target, reduction="none")


def mean_over_episode(losses: Tensor, is_pad: Tensor | None) -> Tensor:
    """The mean of losses [B, H, A] over the steps inside the episode; is_pad bool [B, H]. Scalar."""
    if is_pad is None:
        return losses.mean()
    count = ((~is_pad).sum() * losses.shape[-1]).clamp_min(1)
    return (losses * ~is_pad[..., None]).sum() / count


def step_times(steps: int) -> list[float]:
    """The time at which each Euler step begins, from 1 down."""
    return [1.0 + i * (-1.0 / steps) for i in range(steps)]


def integrate(
    velocity: Callable[[int, Tensor], Tensor], noise: Tensor, steps: int, guide: Guide | None = None
) -> Tensor:
    """Euler from t = 1 to t = 0 in `steps` equal steps.

    velocity(step, x [B, H, A]) -> float32 [B, H, A]; noise [B, H, A] -> actions [B, H, A].
    guide(step, time, x, velocity) -> the velocity that is used.
    """
    x = noise
    for step, time in enumerate(step_times(steps)):
        v = velocity(step, x)
        if guide is not None:
            v = guide(step, time, x, v)
        x = x + (-1.0 / steps) * v
    return x
