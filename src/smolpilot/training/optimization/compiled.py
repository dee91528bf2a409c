"""torch.compile of the action expert, which takes most of a step once the prefix comes from the cache."""

from __future__ import annotations

import torch
from torch import Tensor

from smolpilot.common.errors import UsageError
from smolpilot.common.progress import working
from smolpilot.smolvla import SmolVLA


def compile_expert(model: SmolVLA, device: torch.device, *, backend: str = "inductor") -> None:
    """Compile the expert in place, its weights keep their names; UsageError where nothing can be compiled.

    The first steps take minutes more.
    """
    with working("trying the compiler (--compile)"):
        _try(device, backend)
    model.expert.compile(dynamic=True, backend=backend)


def _try(device: torch.device, backend: str) -> None:
    """Compile two multiplications: a missing compiler should not show as a traceback in the first step."""

    def product(x: Tensor) -> Tensor:
        return (x * 2 + 1) * x

    try:
        torch.compile(product, backend=backend)(torch.ones(4, device=device))
    except Exception as error:  # whatever the compiler's own tools raise
        reason = str(error).strip().splitlines()
        raise UsageError(
            f"--compile cannot be used here: {reason[0] if reason else type(error).__name__}",
            expected="a C++ compiler on a CPU (g++ or clang++), triton on a GPU",
            fix="install one, or leave --compile out",
        ) from error
