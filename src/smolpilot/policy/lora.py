"""LoRA adapters (PEFT's files) merged into the weights of their base when a checkpoint is loaded."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from smolpilot.errors import CheckpointError

from .weights import WeightFile

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = re.compile(r"^(base_model\.model\.)?")
# Options that change what an adapter computes beyond W + scale * B A.
_REFUSED = (
    "use_dora", "fan_in_fan_out", "lora_bias", "layer_replication", "use_qalora", "alora_invocation_tokens",
    "target_parameters", "trainable_token_indices", "megatron_config", "arrow_config",
)  # fmt: skip


class Adapter:
    """A LoRA adapter: for each weight it touches, W + scale * B A, or a whole new weight (`modules_to_save`, biases).

    scale is alpha / r, or alpha / sqrt(r) with rslora; `alpha_pattern` per module. Source: peft's LoraConfig.
    Raises CheckpointError for other kinds of adapters (DoRA, IA3, ...) by name.
    """

    def __init__(self, folder: Path) -> None:
        self.config = _read_config(folder / ADAPTER_CONFIG)
        self._file = WeightFile(folder / ADAPTER_WEIGHTS)
        self._pairs: dict[str, dict[str, str]] = {}
        self._whole: dict[str, str] = {}
        for stored in self._file.names:
            name = _PREFIX.sub("", stored)
            match = re.fullmatch(r"(.+)\.lora_(A|B)(?:\.default)?\.weight", name)
            if match:
                self._pairs.setdefault(f"{match.group(1)}.weight", {})[match.group(2)] = stored
            elif "lora_" in name:
                raise CheckpointError(
                    f"The adapter {self._file.path} holds {stored}, which is not plain LoRA on a linear layer.",
                    expected="lora_A and lora_B of linear layers",
                )
            else:
                self._whole[_clean(name)] = stored
        for name, pair in self._pairs.items():
            if len(pair) != 2:
                raise CheckpointError(f"The adapter {self._file.path} has only one of lora_A and lora_B for {name}.")
        self._used: set[str] = set()

    @property
    def base(self) -> str:
        """Path or hub id of the policy that the adapter was trained on."""
        base = self.config.get("base_model_name_or_path")
        if not base:
            raise CheckpointError(
                f"{self._file.path.parent / ADAPTER_CONFIG} names no base_model_name_or_path.",
                fix="write the path or hub id of the base policy there",
            )
        return str(base)

    def merge(self, name: str, weight: Tensor) -> Tensor:
        """The weight of LeRobot's name `name` with the adapter merged in, computed in float32."""
        if name in self._whole:
            self._used.add(name)
            return self._file.tensor(self._whole[name])
        if name not in self._pairs:
            return weight
        self._used.add(name)
        a, b = (self._file.tensor(self._pairs[name][part]).float() for part in "AB")
        if weight.shape != (b.shape[0], a.shape[1]) or a.shape[0] != b.shape[1]:
            raise CheckpointError(
                f"The adapter has {name} as {list(b.shape)} x {list(a.shape)}, the base as {list(weight.shape)}.",
                fix="check that base_model_name_or_path names the policy that the adapter was trained on",
            )
        return weight.float() + self._scale(name.removesuffix(".weight"), a.shape[0]) * (b @ a)

    def check_all_used(self) -> None:
        """CheckpointError when a part of the adapter belongs to no weight of the network."""
        left = sorted((self._pairs.keys() | self._whole.keys()) - self._used)
        if left:
            raise CheckpointError(
                f"The adapter changes {', '.join(left[:4])}, which the base policy does not have.",
                fix="check that base_model_name_or_path names the policy that the adapter was trained on",
            )

    def _scale(self, module: str, rank: int) -> float:
        alpha = float(self.config.get("lora_alpha", 8))
        for pattern, value in (self.config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = float(value)
                break
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def _clean(name: str) -> str:
    return re.sub(r"\.modules_to_save(\.default)?", "", name)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    kind = str(config.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise CheckpointError(f"{path} describes an adapter of type {kind}.", expected="LORA")
    refused = [key for key in _REFUSED if config.get(key)]
    if refused:
        raise CheckpointError(
            f"The adapter uses {', '.join(refused)}, which is not supported.",
            expected="plain LoRA",
            fix="merge it with peft (merge_and_unload) and save the policy, then load that",
        )
    return config
