"""What goes into the network and comes out of it: starting noise, and the last gate before a robot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.errors import NotFiniteError, TransformError, UsageError
from smolpilot.smolvla.config import PolicyConfig


def finite_chunk(chunk: Tensor, joints: Sequence[str] = ()) -> Tensor:
    """The chunk [..., H, A] itself; NotFiniteError names the first step and joint that is NaN or infinite."""
    if bool(torch.isfinite(chunk).all()):
        return chunk
    bad = ~torch.isfinite(chunk)
    *frame, step, joint = bad.nonzero()[0].tolist()
    what = "NaN" if bool(chunk[(*frame, step, joint)].isnan()) else "infinite"
    where = f"joint '{joints[joint]}'" if len(joints) == chunk.shape[-1] else f"dimension {joint}"
    several = f" of frame {frame[0]}" if frame and chunk.shape[0] > 1 else ""
    raise NotFiniteError(
        f"The policy computes {what} for {where} at step {step} of the chunk{several}; {int(bad.sum()):,} of "
        f"{bad.numel():,} values are not finite. No action is given.",
        expected="finite numbers: nothing else may reach a robot",
        fix="stop the robot; load the policy as float32 and without int8; if it stays so, take another checkpoint: its "
        "numbers are too large to compute with",
    )


def finite_input(value: Tensor, what: str) -> Tensor:
    """The value itself; TransformError where it is NaN or infinite."""
    if not bool(torch.isfinite(value).all()):
        raise TransformError(f"{what} is not finite.", expected="finite numbers", fix="look at where it comes from")
    return value


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
