"""LoRA adapters (PEFT's files) merged into the weights of their base when a checkpoint is loaded.

Source: peft 0.21 (tuners/lora/config.py, layer.py; utils/save_and_load.py). What is not known to compute the same as
PEFT is refused by name: an adapter that is merged wrongly moves a robot wrongly, without a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError
from smolpilot.common.text import plain, shown
from smolpilot.smolvla.config.json_file import read_json
from smolpilot.smolvla.config.settings_form import Form, formed, real, whole

from .locate import ADAPTER_CONFIG
from .weight_files import WeightFile, check_float, not_finite, refuse_not_finite, refuse_pickles

__all__ = ["ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "MERGE", "Adapter"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MERGE = (
    "merge it with peft and load the result: PeftModel.from_pretrained(BASE, ADAPTER).merge_and_unload(), then "
    "save_pretrained"
)
_PREFIX = re.compile(r"^(base_model\.model\.)?")
_LORA = re.compile(r"(.+)\.lora_(embedding_)?(A|B)(?:\.default)?(?:\.weight)?")
# Options of LoraConfig that say which layers get an adapter, how it is trained or where it is from: the file of the
# weights has the result. The numbers among them are read below.
_PLAIN = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "bias", "use_rslora", "modules_to_save",
    "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "loftq_config",
    "eva_config", "corda_config", "lora_ga_config", "runtime_config",
}  # fmt: skip
# The others count only where they differ from what PEFT writes when they are not used.
_UNUSED = {"megatron_core": "megatron.core", "qalora_group_size": 16}
_OFF: tuple[Any, ...] = (None, False, "none", {}, [])
# Starts that leave the base as it is. Source: LoraLayer.update_layer.
_PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica")
# Of the base weight, rank and scale: scale * B0 A0.
type Start = Callable[[Tensor, int, float], Tensor]
# Characters of all patterns, and those times the ones of all module names; an entry for each layer needs half of it.
_MOST_PATTERN, _MOST_MATCHING = 100_000, 3e9
_LONGEST_PATTERN = 500
_Rank = Annotated[int, whole(1, 100_000)]
_Alpha = Annotated[float, real(1e-6, 1e6)]
_NOT_MERGEABLE = ("PROMPT", "P_TUNING", "PREFIX", "ADAPTION_PROMPT", "CPT", "CARTRIDGE", "XLORA", "POLY")


class _Config(Form):
    """What of LoraConfig decides how an adapter is merged."""

    peft_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: _Rank | None = None
    lora_alpha: _Alpha | None = None
    use_rslora: bool | None = None
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, _Rank] | None = None
    alpha_pattern: dict[str, _Alpha] | None = None


class Adapter:
    """A LoRA adapter: for each weight it touches, W + scale * B A, or a whole new weight (`modules_to_save`, biases).

    scale is alpha / r, or alpha / sqrt(r) with rslora; rank and alpha may differ per module. PiSSA and OLoRA start from
    a part of the base, which they take out of it: W - scale * B0 A0 + scale * B A.
    Raises CheckpointError, by name, for other kinds of adapters (DoRA, IA3, ...) and starts (CorDA, LoftQ, ...).
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / ADAPTER_WEIGHTS).is_file():
            refuse_pickles(folder, ADAPTER_WEIGHTS)
        self.path = folder / ADAPTER_CONFIG
        self.config = _read_config(self.path)
        self._start = _start(self.config, self.path)
        self._file = WeightFile(folder / ADAPTER_WEIGHTS)
        self._pairs: dict[str, dict[str, str]] = {}
        self._whole: dict[str, str] = {}
        for stored in self._file.names:
            name = _PREFIX.sub("", stored)
            if ".original_module." in name:
                continue  # beside modules_to_save: what that module was before
            if match := _LORA.fullmatch(name):
                self._pairs.setdefault(f"{_clean(match.group(1))}.weight", {})[match.group(3)] = stored
            elif "lora_" in name:
                raise CheckpointError(
                    f"The adapter {self._file.path} holds {plain(stored, 200)}, which is no plain LoRA.",
                    expected="lora_A and lora_B",
                    fix=MERGE,
                )
            else:
                self._whole[_clean(name)] = stored
        check_float(self._file, self._file.names)
        for name, pair in self._pairs.items():
            if len(pair) != 2:
                raise CheckpointError(
                    f"The adapter {self._file.path} has only one of lora_A and lora_B for {plain(name, 200)}."
                )
        modules = [name.removesuffix(".weight") for name in self._pairs]
        self._ranks = _by_module("rank_pattern", self.config.rank_pattern, modules, self.path)
        self._alphas = _by_module("alpha_pattern", self.config.alpha_pattern, modules, self.path)
        self._used: set[str] = set()

    @property
    def base(self) -> str:
        """Path or hub id of the policy that the adapter was trained on."""
        base = self.config.base_model_name_or_path
        if not base:
            raise CheckpointError(
                f"{self.path} names no base_model_name_or_path.",
                fix="write the path or hub id of the base policy there",
            )
        return base

    @property
    def revision(self) -> str | None:
        """Revision of the base on the hub."""
        return self.config.revision or None

    def merge(self, name: str, weight: Tensor) -> Tensor:
        """The weight of LeRobot's name `name` with the adapter merged in, computed in float32."""
        if name in self._whole:
            self._used.add(name)
            whole = self._read(self._whole[name])
            if whole.shape != weight.shape:
                raise self._other_shape(name, str(list(whole.shape)), weight)
            weight = whole
        if name not in self._pairs:
            return weight
        self._used.add(name)
        a, b = (self._read(self._pairs[name][part]).float() for part in "AB")
        module = name.removesuffix(".weight")
        embedding = "lora_embedding_" in self._pairs[name]["A"]
        rank = a.shape[0] if a.ndim else 0
        self._check_rank(module, rank, b.shape[1] if b.ndim > 1 else 0)
        # Before they are multiplied: two thin matrices may make one that no memory holds.
        if _delta_shape(a, b, embedding=embedding) != tuple(weight.shape):
            raise self._other_shape(name, f"{list(b.shape)} x {list(a.shape)}", weight)
        delta = _delta(a, b, embedding=embedding)
        scale = self._scale(module, rank)
        merged = weight.float() + scale * delta
        if self._start is None:
            return merged
        if weight.ndim != 2 or embedding or rank > min(weight.shape):
            raise CheckpointError(
                f"The adapter {self._file.path.parent} starts {module} from a part of rank {rank} of the base "
                f"(init_lora_weights '{self.config.init_lora_weights}'), whose shape is {list(weight.shape)}.",
                expected="a rank up to the smaller side of a linear layer",
                fix=MERGE,
            )
        return merged - self._start(weight.float(), rank, scale)

    def leftovers(self, harmless: Callable[[str], bool]) -> list[str]:
        """Weights (LeRobot's names) of the adapter that nothing has read because no action depends on them.

        CheckpointError when a part of the adapter belongs to no weight of the policy at all.
        """
        left = sorted((self._pairs.keys() | self._whole.keys()) - self._used)
        foreign = [name for name in left if not harmless(name)]
        if foreign:
            raise CheckpointError(
                f"The adapter {self._file.path.parent} changes {', '.join(plain(name, 200) for name in foreign[:4])}, "
                "which the base policy does not have.",
                fix="check that base_model_name_or_path names the policy that the adapter was trained on",
            )
        return left

    def _read(self, stored: str) -> Tensor:
        value = self._file.tensor(stored)
        if found := not_finite(value):
            refuse_not_finite(self._file, {stored: found})
        return value

    def _other_shape(self, name: str, found: str, weight: Tensor) -> CheckpointError:
        return CheckpointError(
            f"The adapter {self._file.path.parent} has {name} as {found}, the base as {list(weight.shape)}.",
            fix="check that base_model_name_or_path names the policy that the adapter was trained on",
        )

    def _check_rank(self, module: str, rank: int, other: int) -> None:
        said = self._ranks.get(module, self.config.r or rank)
        if rank < 1 or rank != other or rank != said:
            raise CheckpointError(
                f"The adapter has {module} with rank {rank} (lora_A) and {other} (lora_B); {self.path} says {said}.",
                expected=f"one rank in {self._file.path.name} and {ADAPTER_CONFIG}",
                fix="copy or download both files of the adapter again: they are of different trainings",
            )

    def _scale(self, module: str, rank: int) -> float:
        default = self.config.lora_alpha
        alpha = self._alphas.get(module, 8.0 if default is None else default)
        return alpha / (math.sqrt(rank) if self.config.use_rslora else rank)


def _by_module[T](option: str, patterns: Mapping[str, T] | None, modules: list[str], where: Path) -> dict[str, T]:
    """The value of each module that a pattern matches: of the first that matches the end of its name, as in PEFT.

    The patterns are regular expressions of a stranger. RE2, behind pyarrow, matches in a time that grows with the
    length of pattern and name, whatever the pattern; the others' would take years for some.
    """
    found: dict[str, T] = {}
    if not patterns:
        return found
    import pyarrow as pa
    import pyarrow.compute as pc

    length = sum(map(len, patterns))
    if length > _MOST_PATTERN or length * sum(map(len, modules)) > _MOST_MATCHING:
        raise CheckpointError(
            f"{where} has {len(patterns):,} patterns in {option} for {len(modules):,} modules.",
            expected="names of modules, at most a few for each",
            fix=MERGE,
        )
    names = pa.array(modules, pa.string())
    for pattern, value in patterns.items():
        try:
            if len(pattern) > _LONGEST_PATTERN or "{" in pattern:  # a counted repetition is a long pattern, too
                raise ValueError("too long, or with a repetition in braces")
            matches = pc.match_substring_regex(names, rf"\A(?:(.*\.)?({pattern})$)").to_pylist()
        except ValueError as error:  # pyarrow's, too
            raise CheckpointError(
                f"The key {shown(pattern)} of {option} in {where} cannot be used: {plain(error, 120)}.",
                expected="the end of a module's name, or a regular expression without look-around, back-references and "
                f"counted repetitions, of at most {_LONGEST_PATTERN} characters",
                fix=MERGE,
            ) from error
        for module, matched in zip(modules, matches, strict=True):
            if matched:
                found.setdefault(module, value)
    return found


def _delta_shape(a: Tensor, b: Tensor, *, embedding: bool) -> tuple[int, ...] | None:
    """The shape of `_delta`, None where the two do not fit each other."""
    if a.ndim == 4 and b.ndim == 4 and not embedding:
        return (b.shape[0], *a.shape[1:]) if b.shape[1:] == (a.shape[0], 1, 1) else None
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        return None
    return (a.shape[1], b.shape[0]) if embedding else (b.shape[0], a.shape[1])


def _delta(a: Tensor, b: Tensor, *, embedding: bool) -> Tensor:
    """B A in the shape of the weight: linear [out, in], embedding [words, width], convolution [out, in, h, w]."""
    if embedding:
        return (b @ a).T
    if a.ndim == 4 and b.ndim == 4:
        return torch.einsum("or,rihw->oihw", b[:, :, 0, 0], a)
    return b @ a


def _pissa(weight: Tensor, rank: int, scale: float) -> Tensor:
    """scale * B0 A0 of PiSSA: the `rank` largest singular parts of the weight. The scale cancels in it."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = torch.diag(torch.sqrt(values[:rank]))
    product: Tensor = (left[:, :rank] @ root) @ (root @ right[:rank])
    return product


def _olora(weight: Tensor, rank: int, scale: float) -> Tensor:
    """scale * B0 A0 of OLoRA: the first `rank` columns and rows of the QR decomposition."""
    q, r = torch.linalg.qr(weight)
    product: Tensor = scale * q[:, :rank] @ r[:rank]
    return product


def _start(config: _Config, path: Path) -> Start | None:
    """What the adapter's start took out of the base; None when it took nothing."""
    init = config.init_lora_weights
    if init in (None, True, False) or str(init).lower() in _PLAIN_STARTS:
        return None
    if init == "pissa":
        return _pissa
    if str(init).lower() == "olora":
        return _olora
    raise CheckpointError(
        f"The adapter of {path} was started by init_lora_weights {shown(init)}, which changes the base weights in a "
        "way that its file does not hold.",
        expected="true, gaussian, eva, orthogonal, mica, pissa or olora",
        fix=f"{MERGE} (in the training that made it, or with the base weights as that training left them)",
    )


def _clean(name: str) -> str:
    """The name of the weight without the wrappers that PEFT puts around its layer."""
    return re.sub(r"\.(modules_to_save(\.default)?|base_layer)(?=\.|$)", "", name)


def _read_config(path: Path) -> _Config:
    values = read_json(path)
    config = formed(_Config, values, path)
    kind = (config.peft_type or "LORA").upper()
    if kind != "LORA":
        merged = not kind.startswith(_NOT_MERGEABLE)
        raise CheckpointError(
            f"{path} describes an adapter of type {plain(kind, 80)}.",
            expected="LORA",
            fix=MERGE if merged else "train with LoRA instead: this kind cannot be merged into the weights",
        )
    used = [
        key
        for key, value in values.items()
        if key not in _PLAIN and value not in _OFF and not (key in _UNUSED and value == _UNUSED[key])
    ]
    if used:
        named = ", ".join(f"{plain(key, 80)} ({shown(values[key])})" for key in used[:8])
        raise CheckpointError(
            f"The adapter {path.parent} uses {named}{', ...' if len(used) > 8 else ''}, which is not supported.",
            expected="plain LoRA",
            fix=MERGE,
        )
    return config
