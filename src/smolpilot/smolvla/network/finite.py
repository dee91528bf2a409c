"""The last gate before a robot: what is not finite goes no further."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from smolpilot.common.errors import NotFiniteError, TransformError


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
