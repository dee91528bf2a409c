"""What a chunk starts from: noise that is given, or the draw that a seed stands for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.smolvla.config import PolicyConfig

from .finite import finite_input

Noise = Tensor | npt.ArrayLike


def starting_noise(
    config: PolicyConfig, batch: int, noise: Noise | None = None, seeds: Sequence[int] | None = None
) -> Tensor | None:
    """Float32 [B, chunk_size, max_action_dim] on the CPU; None where neither noise nor seeds are given.

    A seed's draw is `torch.randn` of a chunk by a generator of its own: it depends on nothing else in the batch.
    TransformError for noise that does not fit, UsageError for seeds that do not.
    """
    shape = (config.chunk_size, config.max_action_dim)
    if noise is not None:
        given = torch.as_tensor(noise)
        if tuple(given.shape) != (batch, *shape):
            raise TransformError(
                f"The noise of {batch} frames has shape {list(given.shape)}.",
                expected=f"{[batch, *shape]}: for each frame [chunk_size, max_action_dim]",
            )
        return finite_input(given.to(torch.float32), "The noise")
    if seeds is None:
        return None
    if len(seeds) != batch:
        raise UsageError(f"There are {len(seeds)} seeds for {batch} frames.", expected="one seed for each frame")
    return torch.stack([torch.randn(shape, generator=_generator(seed)) for seed in seeds])


def _generator(seed: int) -> torch.Generator:
    try:
        return torch.Generator().manual_seed(int(seed))
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:
        raise UsageError(f"A seed is {seed!r}.", expected="a whole number of at most 64 bits") from error
