"""AdamW with SmolVLA's settings, and its state by parameter name.

Source: lerobot/policies/smolvla/configuration_smolvla.py (betas, eps, weight decay, clip).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smolpilot.common.errors import CheckpointError

BETAS = (0.9, 0.95)
EPS = 1e-8


def build_optimizer(model: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in the model's order, as one group."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in model.parameters())
    return torch.optim.AdamW(parameters, lr=lr, betas=BETAS, eps=EPS, weight_decay=weight_decay, fused=fused)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors, `<parameter>/<exp_avg|exp_avg_sq|step>`."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
    return tensors


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.AdamW, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; parameters and state must match name by name."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    saved: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        saved.setdefault(name, {})[kind] = value
    if saved and set(saved) - set(trained):
        raise CheckpointError(
            f"The optimizer state names parameters that are not trained: {sorted(set(saved) - set(trained))[:3]}.",
            fix="the checkpoint is from another run: start a new run from it with --policy",
        )
    for name, parts in saved.items():
        parameter = trained[name]
        # A fused optimizer keeps its step count beside the parameters.
        optimizer.state[parameter] = {kind: value.to(parameter.device) for kind, value in parts.items()}
