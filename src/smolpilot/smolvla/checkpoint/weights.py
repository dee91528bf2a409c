"""Reading and writing the weights: names of LeRobot in the file, ours in memory, one dtype, nothing random."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.text import plain
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.network.model import SmolVLA

from . import weight_names as names
from .weight_files import WeightFile, check_float, not_finite, refuse_not_finite, some

_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|module)(?=\.)")
_NORMALIZATION = re.compile(r"(^|\.)(un)?normali[sz]e|normalizer|buffer[._](observation|action)")
_HARMLESS = re.compile(r"lm_head|rotary_emb|inv_freq|position_ids|lm_expert\.embed_tokens")
_ALIGNMENT = 64  # bytes; torch allocates so
_TEXT_LAYER = re.compile(r"text\.layers\.(\d{1,9})\.")


@dataclass
class UnusedWeights:
    """Tensors that the network does not read but a saved checkpoint keeps (the language head), left in their file."""

    file: WeightFile
    names: dict[str, str]  # LeRobot's name -> name in the file

    def read(self) -> dict[str, Tensor]:
        return {name: self.file.tensor(stored) for name, stored in self.names.items()}


@dataclass
class WeightReport:
    """What a file of weights holds, sorted: `found` maps our names to names in the file."""

    shapes: dict[str, tuple[int, ...]]  # what the network needs, by our names
    found: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    harmless: list[str] = field(default_factory=list)
    normalization: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)


def inspect_weights(file: WeightFile, config: PolicyConfig) -> WeightReport:
    """Sort the names of a file by what the network of `config` needs."""
    _check_layers(file, config)
    expected = {name: tuple(value.shape) for name, value in empty_model(config).state_dict().items()}
    report = WeightReport(expected)
    for stored in file.names:
        clean = _WRAPPERS.sub("", stored).lstrip(".")
        ours = names.from_lerobot(clean)
        if ours in expected:
            if ours in report.found:
                raise CheckpointError(
                    f"{file.path} holds {names.to_lerobot(ours)} twice, as {plain(report.found[ours], 200)} and as "
                    f"{plain(stored, 200)}.",
                    expected="each weight once",
                    fix="load the model before it was wrapped (torch.compile, DataParallel), and save it again",
                )
            report.found[ours] = stored
        elif clean in names.UNUSED:
            report.unused[clean] = stored
            report.harmless.append(stored)
        elif is_unused(clean, config):
            report.harmless.append(stored)
        elif _NORMALIZATION.search(clean):
            report.normalization.append(stored)
        else:
            report.unexpected.append(stored)
    # Tied tensors are stored once; safetensors' save_model notes the twin in the metadata.
    for twin, kept in file.metadata.items():
        ours = names.from_lerobot(_WRAPPERS.sub("", twin).lstrip("."))
        if ours in expected and ours not in report.found and kept in file.names:
            report.found[ours] = kept
    report.missing = [name for name in expected if name not in report.found]
    report.dtypes = _dtypes_per_module(file, report.found)
    return report


def _check_layers(file: WeightFile, config: PolicyConfig) -> None:
    """CheckpointError for a config with more layers than the file can hold: before a network of them is built."""
    vlm = config.vlm
    for what, layers in (("vision", vlm.vision.layers), ("text", config.text_layers), ("expert", config.expert_layers)):
        if layers > len(file.names):
            raise CheckpointError(
                f"The config says {layers:,} {what} layers, but {file.path} holds {len(file.names):,} weights in all.",
                expected="the layers whose weights are there",
                fix="check that config.json, the vision-language model's config.json and the weights belong together",
            )


def check_weights(report: WeightReport, file: WeightFile) -> None:
    """CheckpointError for missing weights, for weights of another network, of other shapes, and for integers."""
    check_float(file, report.found.values())
    if report.missing:
        left = f"; {some(file.unlisted)} {'is' if len(file.unlisted) == 1 else 'are'} not in the index"
        raise CheckpointError(
            f"{file.path} lacks {len(report.missing)} of {len(report.missing) + len(report.found)} weights: "
            f"{some([names.to_lerobot(name) for name in report.missing])}{left if file.unlisted else ''}.",
            expected="every weight of the network; smolpilot never fills in random ones",
            fix="take the whole checkpoint, and the config.json that belongs to it",
        )
    if report.unexpected:
        raise CheckpointError(
            f"{file.path} holds {len(report.unexpected)} weights that SmolVLA does not have: "
            f"{some(report.unexpected)}.",
            expected="the weights of the network in config.json",
            fix="check that config.json belongs to these weights",
        )
    for name, shape in report.shapes.items():
        found = file.shape(report.found[name])
        if found != shape:
            raise CheckpointError(
                f"Weight {report.found[name]} in {file.path} has shape {list(found)}.",
                expected=f"{list(shape)}, as config.json and the vision-language model's config say",
                fix="check max_state_dim, max_action_dim and vlm_model_name in config.json",
            )


def load_model(
    config: PolicyConfig,
    file: WeightFile,
    report: WeightReport,
    *,
    device: torch.device,
    dtype: torch.dtype,
    change: Callable[[str, Tensor], Tensor] | None = None,
) -> SmolVLA:
    """The network with the weights of a file in one dtype; `change` (LeRobot's name, weight) merges an adapter.

    CheckpointError for weights that are not finite, all of them named; UsageError for a dtype too narrow for them.
    """
    state: dict[str, Tensor] = {}
    damaged: dict[str, str] = {}
    for name, stored in report.found.items():
        value = file.tensor(stored)
        source = value
        if change is not None:
            value = change(names.to_lerobot(name), value)
        state[name] = _aligned(value.to(device=device, dtype=dtype))
        # Looked at where it has been moved to: one pass over numbers that are at hand.
        if not_finite(state[name]):
            if found := not_finite(source):
                damaged[stored] = found
            elif found := not_finite(value):
                raise CheckpointError(f"The adapter makes weight {stored} of {file.where(stored)} hold {found}.")
            else:
                raise UsageError(
                    f"Weight {stored} in {file.where(stored)} reaches {float(value.abs().max()):.3g}, too much for "
                    f"{str(dtype).removeprefix('torch.')}.",
                    expected="a dtype that holds all weights",
                    fix="load it as float32 or bfloat16 (dtype=)",
                )
    refuse_not_finite(file, damaged)
    return filled_model(config, state)


def _aligned(value: Tensor) -> Tensor:
    """A weight where torch itself would put it: at a multiple of 64 bytes of main memory.

    Files keep weights at any multiple of 8, and some kernels round otherwise there: a policy that was saved and loaded
    would give other bits than before.
    """
    return value.clone() if value.device.type == "cpu" and value.data_ptr() % _ALIGNMENT else value


def lerobot_weights(model: SmolVLA, unused_weights: UnusedWeights | None) -> dict[str, Tensor]:
    """All weights under LeRobot's names, on the CPU and contiguous, with the unused language head."""
    state = {
        names.to_lerobot(name): value.detach().to("cpu").contiguous() for name, value in model.state_dict().items()
    }
    kept = unused_weights.read() if unused_weights is not None else {}
    text, dtype = model.config.vlm.text, next(iter(state.values())).dtype
    for name in names.UNUSED:
        # LeRobot loads it, though nothing reads it; a policy from scratch never had one.
        head = kept.get(name)
        state[name] = torch.zeros(text.vocab_size, text.width, dtype=dtype) if head is None else head
    return state


def widen_weights(state: Mapping[str, Tensor], old: PolicyConfig, new: PolicyConfig) -> dict[str, Tensor]:
    """The weights (our names) for wider `max_state_dim` and `max_action_dim`.

    Trained columns and rows are kept; the added ones are zero, so that the widened network computes the same as
    before on the old dimensions, and gradients reach them from the first step on.
    """
    wider = dict(state)
    growth = {"state": new.max_state_dim - old.max_state_dim, "action": new.max_action_dim - old.max_action_dim}
    if min(growth.values()) < 0:
        raise CheckpointError("The projections of a trained policy cannot be narrowed.")
    pad = torch.nn.functional.pad
    wider["state_proj.weight"] = pad(state["state_proj.weight"], (0, growth["state"]))
    wider["action_in_proj.weight"] = pad(state["action_in_proj.weight"], (0, growth["action"]))
    wider["action_out_proj.weight"] = pad(state["action_out_proj.weight"], (0, 0, 0, growth["action"]))
    wider["action_out_proj.bias"] = pad(state["action_out_proj.bias"], (0, growth["action"]))
    return wider


def empty_model(config: PolicyConfig) -> SmolVLA:
    """The network without memory for its weights (device meta), to be filled by `load_state_dict(assign=True)`."""
    with torch.device("meta"), _NoInitialization():
        return SmolVLA(config)


def filled_model(config: PolicyConfig, state: Mapping[str, Tensor]) -> SmolVLA:
    """The network with these weights (our names) themselves, no copies."""
    model = empty_model(config)
    model.load_state_dict(state, strict=True, assign=True)
    model.set_trainable()
    return model.eval()


class _NoInitialization(TorchFunctionMode):
    """Skips torch.nn.init: on the meta device it draws nothing, yet pulls in torch's compiler (13 s the first time)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def is_unused(name: str, config: PolicyConfig) -> bool:
    """Whether LeRobot's `name` is a weight that its network has, but that no action depends on."""
    layer = _TEXT_LAYER.match(names.from_lerobot(name) or "")
    behind_the_last = layer is not None and int(layer.group(1)) >= config.text_layers
    return behind_the_last or bool(_HARMLESS.search(name))


def _dtypes_per_module(file: WeightFile, found: Mapping[str, str]) -> dict[str, str]:
    """`{"text": "bfloat16", "vision": "float32", ...}`; several dtypes in one module are joined by `+`."""
    seen: dict[str, set[str]] = {}
    for name, stored in found.items():
        seen.setdefault(name.split(".")[0], set()).add(file.dtype(stored))
    return {module: "+".join(sorted(dtypes)) for module, dtypes in seen.items()}
