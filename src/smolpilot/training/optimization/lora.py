"""LoRA training through peft: small matrices beside frozen weights, for little memory; merged when they are handed out.

peft is imported only here and only when asked for; loading adapters needs none (`smolvla.checkpoint.lora_adapters`).
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor, nn

from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.smolvla import SmolVLA

# The expert's attention and MLP; the projections around it are small and trained whole, as a new robot needs them.
TARGETS = r"expert\..*_proj"
PROJECTIONS = ("state_proj", "action_in_proj", "action_out_proj", "action_time_mlp_in", "action_time_mlp_out")
_ADAPTER = "default"


def add_lora(model: SmolVLA, *, rank: int, alpha: float | None, targets: str | None, seed: int) -> list[str]:
    """Put adapters beside every linear layer whose name matches `targets`, in place; returns those names.

    Trained afterwards: the adapters, and the projections that were trained before. The same seed draws the same
    adapters; their product starts at zero. UsageError for targets that name no linear layer and for a rank beyond one.
    """
    peft = _peft()
    pattern = targets or TARGETS
    names = matching(model, pattern)
    _check_rank(model, names, rank)
    projections = {
        f"{part}.{name}": parameter.requires_grad
        for part in PROJECTIONS
        for name, parameter in cast(nn.Module, getattr(model, part)).named_parameters()
    }
    config = peft.LoraConfig(r=rank, lora_alpha=alpha if alpha is not None else rank, target_modules=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    parameters = dict(model.named_parameters())
    for name, trained in projections.items():
        # One that has an adapter itself stays frozen under it.
        if name in parameters:
            parameters[name].requires_grad_(trained)
    return names


def matching(model: nn.Module, pattern: str) -> list[str]:
    """Names of the linear layers that match a regular expression as a whole."""
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--lora-targets '{pattern}' is no regular expression: {error}") from error
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = [name for name in linear if wanted.fullmatch(name)]
    if not found:
        some = ", ".join(dict.fromkeys(re.sub(r"\.\d+\.", ".0.", name) for name in linear))
        raise UsageError(f"--lora-targets '{pattern}' matches no linear layer.", expected=f"names such as {some}")
    return found


def _check_rank(model: nn.Module, names: list[str], rank: int) -> None:
    """UsageError for a rank beyond a layer: the product of its matrices is no richer then, only larger."""
    small = min(names, key=lambda name: min(cast(nn.Linear, model.get_submodule(name)).weight.shape))
    shape = tuple(cast(nn.Linear, model.get_submodule(small)).weight.shape)
    if rank > min(shape):
        raise UsageError(
            f"--lora is {rank}, beyond the layer {small} of {shape[0]} x {shape[1]}.",
            expected=f"a rank up to {min(shape)}, the smaller side of the smallest layer with an adapter",
            fix=f"--lora {min(shape)} or less (8 to 64 are usual); or train the weights themselves: leave --lora out",
        )


def has_lora(model: nn.Module) -> bool:
    """Whether adapters were put into the network."""
    return any(name.endswith("lora_A") for name, _ in model.named_modules())


def merged(model: SmolVLA, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The plain weights: W + scale * B A where there is an adapter, computed in float32.

    values: all weights by the names they have with adapters; those of the result are the network's own.
    """
    plain: dict[str, Tensor] = {}
    for name, value in values.items():
        if ".lora_" in name:
            continue
        if not name.endswith(".base_layer.weight"):
            plain[name.replace(".base_layer.", ".")] = value
            continue
        module = name.removesuffix(".base_layer.weight")
        a, b = (values[f"{module}.lora_{part}.{_ADAPTER}.weight"].float() for part in "AB")
        scale = cast(Any, model.get_submodule(module)).scaling[_ADAPTER]
        plain[f"{module}.weight"] = (value.float() + scale * (b @ a)).to(value.dtype)
    return plain


def base_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights under the adapters, which merging loses to the last bit."""
    return {name: value for name, value in model.state_dict().items() if name.endswith(".base_layer.weight")}


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise TrainingError(
            "--lora needs peft, which is not installed.",
            expected="peft 0.18 or later, beside smolpilot",
            fix="pip install 'smolpilot[lora]' (or pip install peft), or leave --lora out",
        ) from error
    return peft
