"""Flow matching: the path from noise (t = 1) to action (t = 0), the draw of t, its embedding, the Euler steps.

Source: SmolVLA paper, section 3 (flow matching); lerobot/policies/common/flow_matching.py and vla_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


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


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Euler from t = 1 to t = 0 in `steps` equal steps.

    velocity(x [B, H, A], t [B]) -> [B, H, A]; noise [B, H, A] -> actions [B, H, A].
    """
    dt = -1.0 / steps
    x = noise
    for i in range(steps):
        time = torch.full((x.shape[0],), 1.0 + i * dt, dtype=torch.float32, device=x.device)
        x = x + dt * velocity(x, time)
    return x
