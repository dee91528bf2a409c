"""A running average of the trained weights (EMA): smoother than the last step's, and mostly nearer the demonstrations.

Source: Polyak averaging as used by diffusion policies; the warm-up is that of TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

import torch
from torch import nn


class Ema:
    """average <- d * average + (1 - d) * weights after each step, d = min(decay, (1 + n) / (10 + n)) at step n.

    Covers the parameters of `model` that are trained, in their own dtype and place; the others do not move.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step` (the first is 1)."""
        kept = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), list(self._weights.values()), 1 - kept)
