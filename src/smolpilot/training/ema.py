"""A running average of the trained weights (EMA): smoother than the last step's, and usually closer to the recordings.

Source: Polyak averaging as used by diffusion policies; the warm-up is that of TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smolpilot.errors import CheckpointError

_TRAINED = "trained/"  # names of the weights that training goes on with, beside the averaged ones of the bundle


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
        """Take in the weights after optimiser step `step` (the first is 1)."""
        kept = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), list(self._weights.values()), 1 - kept)

    def tensors(self) -> dict[str, Tensor]:
        """The trained weights themselves, `trained/<parameter>`: a checkpoint's bundle holds the averages."""
        return {_TRAINED + name: p.detach().cpu().contiguous() for name, p in self._weights.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put both back from a checkpoint whose averages the model holds already; returns the other tensors.

        Raises CheckpointError when the state was not saved by a run with an average of the same parameters.
        """
        saved = {name.removeprefix(_TRAINED): value for name, value in tensors.items() if name.startswith(_TRAINED)}
        if saved.keys() != self._weights.keys():
            raise CheckpointError(
                f"The training state holds {len(saved)} weights beside their average, the run trains "
                f"{len(self._weights)}.",
                fix="the checkpoint belongs to another run; start a new run from it with --policy",
            )
        for name, weight in self._weights.items():
            self.average[name].copy_(weight)
            weight.copy_(saved[name])
        return {name: value for name, value in tensors.items() if not name.startswith(_TRAINED)}
