"""Arithmetic of training: float32, or mixed precision with weights and optimizer in float32.

float16 has no room for small gradients, so the loss is scaled up before the backward pass and a step whose gradients
overflow is skipped (torch's GradScaler); bfloat16 needs none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from smolpilot.common.errors import TrainingError, UsageError

Dtype = Literal["float32", "bfloat16", "float16"]
_SCALE, _GROWTH = "scaler/scale", "scaler/growth"
_LEAST = 2.0**-30  # 46 overflows in a row from the first scale on


class Precision:
    """Runs forward, backward and the optimizer's step in the arithmetic that `dtype` names.

    UsageError where the device has no such arithmetic.
    """

    def __init__(self, dtype: Dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        if dtype != "float32":
            _try(dtype, device)
        self._scaler = GradScaler(device.type) if dtype == "float16" else None

    @property
    def may_skip(self) -> bool:
        """Whether gradients that overflow are ordinary: the step is skipped and the scale halved."""
        return self._scaler is not None

    def autocast(self) -> torch.autocast:
        """The context of the forward pass."""
        dtype = getattr(torch, self._dtype)
        return torch.autocast(self._device.type, dtype, enabled=self._dtype != "float32")

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` up."""
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def clip(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], largest: float) -> Tensor:
        """Clip the gradients to the norm `largest`; their norm before that, of the unscaled loss."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        return clip_gradients(parameters, largest)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step; skipped where float16 gradients overflowed."""
        if self._scaler is None:
            optimizer.step()
            return
        self._scaler.step(optimizer)
        self._scaler.update()

    def refuse_collapse(self, step: int) -> None:
        """TrainingError when every step overflows: nothing is learned any more."""
        if self._scaler is not None and self._scaler.get_scale() < _LEAST:
            raise TrainingError(
                f"The gradients overflow float16 at every step (step {step}, loss scaled by "
                f"{self._scaler.get_scale():.1e}).",
                expected="finite gradients; earlier checkpoints are complete",
                fix="--dtype float32, or bfloat16 where the device has it; lower --lr",
            )

    def tensors(self) -> dict[str, Tensor]:
        """What a resumed run needs: the scale of the loss and the steps since it last changed."""
        if self._scaler is None:
            return {}
        values = self._scaler.state_dict()
        return {_SCALE: torch.tensor(values["scale"]).double(), _GROWTH: torch.tensor(values["_growth_tracker"])}

    def load(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put back what `tensors` gave; returns the other tensors."""
        if self._scaler is not None and _SCALE in tensors:
            values = {"scale": tensors[_SCALE].item(), "_growth_tracker": int(tensors[_GROWTH].item())}
            self._scaler.load_state_dict({**self._scaler.state_dict(), **values})
        return {name: value for name, value in tensors.items() if name not in (_SCALE, _GROWTH)}


def clip_gradients(parameters: Sequence[Tensor], largest: float) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_`, which multiplies every gradient by 1 where the norm is small: not so here on a
    CPU. On a GPU asking for the norm would make the host wait. Returns the norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if norm.device.type != "cpu" or not norm + 1e-6 <= largest:  # a norm that is NaN reaches the gradients
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm


def _try(dtype: Dtype, device: torch.device) -> None:
    """Refuse what this torch cannot compute on this device, before anything is built."""
    try:
        with torch.autocast(device.type, getattr(torch, dtype)):
            weight = torch.ones(2, 2, device=device, requires_grad=True)
            (torch.ones(2, 2, device=device) @ weight).sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise UsageError(
            f"--dtype {dtype} cannot be used on {device}: {str(error).splitlines()[0]}",
            expected="an arithmetic that torch has on this device",
            fix="--dtype float32, or bfloat16 on a GPU that has it",
        ) from error
