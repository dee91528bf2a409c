"""The files that hold weights: one safetensors file, or shards with their index; what is neither is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError
from smolpilot.common.text import plain, shown
from smolpilot.smolvla.config.json_file import is_pointer, read_json
from smolpilot.smolvla.config.settings_form import RESTORE, Form, formed

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_LISTED = 4


class WeightFile:
    """One safetensors file, memory-mapped: a tensor is read when it is asked for.

    The open file stays readable after it was moved or removed. Raises CheckpointError for what is no such file.
    """

    names: list[str]
    metadata: dict[str, str]
    unlisted: Sequence[str] = ()
    """Shards in the folder that the index does not name; they are not read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise CheckpointError(
                f"{path} does not exist.", expected=f"a checkpoint folder with config.json and {path.name}"
            )
        try:
            if is_pointer(path):
                raise CheckpointError(
                    f"{path} is a Git-LFS pointer, not the weights.", fix="run `git lfs pull`, or download it again"
                )
            opened: Any = safetensors.safe_open(path, framework="pt")
            # Of each tensor: the file that holds it, and that file opened.
            self._homes: dict[str, tuple[Path, Any]] = dict.fromkeys(opened.keys(), (path, opened))
            self.names = list(self._homes)
            self.metadata = opened.metadata() or {}
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is damaged or torn: {plain(error, 200)}",
                expected=f"a whole safetensors file; it has {path.stat().st_size:,} bytes",
                fix="copy or download it again",
            ) from error

    def tensor(self, name: str) -> Tensor:
        """Read one tensor; CheckpointError where the disk or the file does not give it."""
        path, file = self._homes[name]
        try:
            value: Tensor = file.get_tensor(name)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"Weight {plain(name, 200)} in {path} cannot be read: {error}") from error
        return value

    def dtype(self, name: str) -> str:
        """`float32`, `bfloat16`, ...; other kinds as safetensors spells them: `I8`, `F8_E4M3`."""
        stored = str(self._homes[name][1].get_slice(name).get_dtype())
        return _FLOATS.get(stored, stored)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._homes[name][1].get_slice(name).get_shape())

    def where(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._homes[name][0]


class ShardedWeights(WeightFile):
    """Weights in several safetensors files, read through `model.safetensors.index.json` (as transformers writes it).

    CheckpointError for an index that does not fit its shards: one that is missing, a tensor that is elsewhere than
    listed or in two of them, a shard outside of the folder.
    """

    def __init__(self, index: Path) -> None:
        self.path = index
        listed = _read_index(index)
        shards = sorted(set(listed.values()))
        missing = [name for name in shards if not (index.parent / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{index.parent} lacks {len(missing)} of the {len(shards)} shards of its weights: {some(missing)}.",
                expected=f"every file that {index.name} lists",
                fix="copy or download the missing ones, too",
            )
        files = {name: WeightFile(index.parent / name) for name in shards}
        self._homes, self.metadata = {}, {}
        for name, file in files.items():
            self.metadata |= file.metadata
            for tensor in file.names:
                if tensor in self._homes:
                    raise CheckpointError(
                        f"{tensor} is in two shards, {self.where(tensor).name} and {name} of {index.parent}.",
                        expected=f"each tensor once; {index.name} says {listed.get(tensor, 'nothing')}",
                        fix="copy or download the checkpoint again: its shards are of different saves",
                    )
                self._homes[tensor] = file._homes[tensor]
        for tensor, name in listed.items():
            if tensor not in files[name]._homes:
                raise CheckpointError(
                    f"{index.name} says that {plain(tensor, 200)} is in {name}, which does not hold it.",
                    expected=f"shards and index of one save in {index.parent}",
                    fix="copy or download the checkpoint again",
                )
        self.names = list(self._homes)
        self.unlisted = [path.name for path in _shards(index.parent) if path.name not in files]


def is_beside(name: str) -> bool:
    """Whether what a file names is the name of a safetensors file in the same folder, and no way out of it."""
    return (
        Path(name).name == name and "\\" not in name and "\0" not in name and len(name) < 200
        and name.endswith(".safetensors")
    )  # fmt: skip


def has_weights(folder: Path) -> bool:
    """Whether a folder has its weights in a form that `open_weights` reads."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def open_weights(folder: Path) -> WeightFile:
    """The weights of a checkpoint folder: `model.safetensors`, else its shards.

    Raises CheckpointError for anything else, by name: shards without their index, a pickle (never opened: it may run
    code), nothing.
    """
    if (folder / WEIGHTS).is_file() or not folder.is_dir():
        return WeightFile(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return ShardedWeights(folder / INDEX)
    shards = _shards(folder)
    if shards:
        raise CheckpointError(
            f"{folder} has {len(shards)} shards of the weights ({some([path.name for path in shards])}), but no "
            f"{INDEX}.",
            expected=f"{WEIGHTS}, or the shards with the index that was saved beside them",
            fix=f"copy or download {INDEX}, too",
        )
    refuse_pickles(folder, WEIGHTS)
    others = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("policy_"))
    raise CheckpointError(
        f"{folder / WEIGHTS} does not exist" + (f"; the folder has {some(others)}." if others else "."),
        expected=f"a checkpoint folder with config.json and {WEIGHTS}, or shards with {INDEX}",
        fix="copy or download the whole checkpoint folder",
    )


def refuse_pickles(folder: Path, name: str) -> None:
    """CheckpointError when a folder has pickled weights where `name` is expected; they are not opened."""
    pickles = sorted(path for pattern in _PICKLES for path in folder.glob(pattern))
    likely = [path for path in pickles if path.name not in ("training_args.bin", "optimizer.bin", "scheduler.bin")]
    if not likely:
        return
    found = likely[0]
    files = str(found) if len(likely) == 1 else f"{found} and {len(likely) - 1} more"
    raise CheckpointError(
        f"The weights are a pickle, {files}; it is not opened, since loading a pickle can run any code in it.",
        expected=f"{name} in {folder}",
        fix="convert it where you trust it: " + conversion(likely, folder / name),
    )


def conversion(pickles: Iterable[Path], target: Path) -> str:
    """The command that writes pickled tensors as a safetensors file (weights_only: no code of the pickle runs)."""
    names = ", ".join(repr(str(path)) for path in pickles)
    return (
        'python -c "import torch; from safetensors.torch import save_file; w = {}; '
        f"[w.update(torch.load(p, map_location='cpu', weights_only=True)) for p in [{names}]]; "
        f'save_file({{k: v.clone() for k, v in w.items()}}, {str(target)!r})"'
    )


def check_float(file: WeightFile, names: Iterable[str]) -> None:
    """CheckpointError for integers and 8-bit floats: without their scales they are no weights. Reads headers only."""
    kinds = {name: file.dtype(name) for name in names}
    wrong = [name for name, kind in kinds.items() if kind not in _FLOATS.values()]
    if not wrong:
        return
    found = Counter(_KINDS.get(kinds[name], kinds[name]) for name in wrong)
    scales = [name for name in file.names if name.endswith(_SCALES)]
    what = (
        f"quantized, with scales of another tool ({scales[0]})"
        if scales
        else "numbers of a quantized file without their scales, so no weights"
    )
    raise CheckpointError(
        f"{len(wrong)} of {len(kinds)} weights in {_files(file, wrong)} are "
        f"{', '.join(f'{kind}' for kind in found)} ({some(wrong)}): {what}.",
        expected="float32, bfloat16 or float16 weights",
        fix="load the checkpoint that was not quantized; smolpilot's own int8 is `--engine int8` on that one",
    )


_LARGEST = 1e20
"""Weights are below 1e3 or so: 1e38 is damage that computes finite actions all the same."""


def not_finite(value: Tensor) -> str:
    """`2 NaN of 1,024 values`, or nothing for a tensor of numbers that a weight can be; one pass where all is well."""
    # Smallest and largest value carry NaN and infinity along, without a mask as large as the tensor.
    if value.numel() == 0 or all(abs(float(end)) <= _LARGEST for end in torch.aminmax(value)):
        return ""
    nan, infinite = int(value.isnan().sum()), int(value.isinf().sum())
    huge = int((value.double().abs() > _LARGEST).sum()) - infinite
    kinds = ((nan, "NaN"), (infinite, "infinite"), (huge, f"beyond {_LARGEST:.0e}"))
    return f"{' and '.join(f'{count} {what}' for count, what in kinds if count)} of {value.numel():,} values"


def refuse_not_finite(file: WeightFile, found: dict[str, str]) -> None:
    """CheckpointError that names every damaged tensor (name in the file -> what `not_finite` said), when there are."""
    if not found:
        return
    listed = "; ".join(f"{plain(name, 200)}: {what}" for name, what in list(found.items())[:_LISTED])
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise CheckpointError(
        f"The weights hold NaN, infinity or what no training gives: {listed}{more}, in {_files(file, list(found))}.",
        expected="finite numbers: a policy with such weights computes NaN, in training as on the robot",
        fix="take an earlier checkpoint of that training (it diverged), or copy or download the file again",
    )


_KINDS = {
    "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32", "I64": "int64",
    "U64": "uint64", "BOOL": "truth values", "F8_E4M3": "float8 (e4m3)", "F8_E5M2": "float8 (e5m2)",
    "C64": "complex numbers",
}  # fmt: skip
_SCALES = ("scale", "scales", "scale_inv", "SCB", "absmax", "zero_point", "qzeros", "quant_map")


class _Index(Form):
    weight_map: dict[str, str]


def _read_index(path: Path) -> dict[str, str]:
    """`weight_map` of an index: tensor -> file in the same folder."""
    listed = formed(_Index, read_json(path), path).weight_map
    if not listed:
        raise CheckpointError(f"The weight_map in {path} is empty.", fix=RESTORE)
    for name in listed.values():
        # A name that leads elsewhere is no shard of this checkpoint, whatever wrote it.
        if not is_beside(name):
            raise CheckpointError(
                f"{path} lists the shard {shown(name)}.", expected="names of .safetensors files beside the index"
            )
    return listed


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*-of-*.safetensors"))


def _files(file: WeightFile, names: list[str]) -> str:
    """The path of the file, or of the shards, that hold these tensors."""
    paths = list(dict.fromkeys(file.where(name) for name in names))
    return ", ".join(map(str, paths[:2])) + (f" and {len(paths) - 2} more shards" if len(paths) > 2 else "")


def some(items: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(plain(item, 200) for item in items[:_LISTED]) + more
