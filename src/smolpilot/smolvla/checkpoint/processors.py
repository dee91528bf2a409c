"""LeRobot's pre- and post-processor files: what they say about a policy, and the same written for ours.

Source: lerobot/policies/smolvla/processor_smolvla.py and lerobot/processor/*.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from safetensors.torch import save_file

from smolpilot.common.errors import CheckpointError
from smolpilot.common.keys import ACTION, STATE, camera_name, image_key
from smolpilot.common.text import plain, shown
from smolpilot.smolvla.config import Feature, MaxTokens, Modes, Padding
from smolpilot.smolvla.config.json_file import read_json
from smolpilot.smolvla.config.other_versions import NEWEST
from smolpilot.smolvla.config.settings_form import RESTORE, Form, formed, real
from smolpilot.smolvla.transforms.normalize import EPS

from .weight_files import WeightFile, is_beside

if TYPE_CHECKING:
    from smolpilot.smolvla.transforms.transform_list import TransformsConfig

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
_NORMALIZER = "policy_preprocessor_step_5_normalizer_processor.safetensors"
_UNNORMALIZER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
# Steps that smolpilot's transforms do themselves; any other one would be lost silently, so it is refused.
_NEUTRAL = {"to_batch_processor", "smolvla_new_line_processor", "pi0_new_line_processor", "new_line_processor",
            "device_processor"}  # fmt: skip
_KNOWN = {
    PREPROCESSOR: {"rename_observations_processor", "tokenizer_processor", "normalizer_processor", *_NEUTRAL},
    POSTPROCESSOR: {"unnormalizer_processor", *_NEUTRAL},
}
_MOST_VALUES = 1_000_000  # of one statistic

type FlatStatistics = dict[str, npt.NDArray[np.float64]]


class _Step(Form):
    """One step of a file. LeRobot names its own by `registry_name`, those of others by their `class`."""

    registry_name: str | None = None
    kind: Annotated[str | None, Field(alias="class")] = None
    config: dict[str, Any] | None = None
    state_file: str | None = None

    @property
    def name(self) -> str:
        return self.registry_name or str(self.kind)


class _Pipeline(Form):
    steps: list[_Step]


class _Rename(Form):
    rename_map: dict[str, str] | None = None


class _Tokenizer(Form):
    padding: Padding | None = None
    max_length: MaxTokens | None = None
    tokenizer_name: str | None = None
    padding_side: Literal["right"] = "right"
    task_key: Literal["task"] = "task"


class _Normalizer(Form):
    norm_map: Modes
    eps: Annotated[float, real(1e-30, 1)] = EPS
    features: dict[str, Feature] | None = None
    normalize_observation_keys: list[str] | None = None


@dataclass
class Processors:
    """What the files say. `before` and `after` are the raw entries of their state files."""

    camera_map: dict[str, str]  # robot camera -> slot, from the rename step
    tokenizer: _Tokenizer
    normalizer: _Normalizer
    before: FlatStatistics
    after: FlatStatistics = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_processors(folder: Path) -> Processors | None:
    """Read both files of a checkpoint folder; None when it has none (checkpoints before LeRobot 0.4).

    Raises CheckpointError for a step that smolpilot does not know, by its name, for settings out of their range, and
    for files that contradict each other.
    """
    before = folder / PREPROCESSOR
    if not before.is_file():
        return None
    notes: list[str] = []
    steps = _steps(before, notes)
    rename = _config_of(_Rename, steps, "rename_observations_processor", before)
    tokenizer = _config_of(_Tokenizer, steps, "tokenizer_processor", before)
    norm = _normalizer(steps, "normalizer_processor", before)
    found = Processors(
        _camera_map(rename.rename_map or {}, before),
        tokenizer,
        norm,
        _read_state(before, steps["normalizer_processor"]),
        notes=notes,
    )
    # LeRobot normalizes the features of these lists, each by the mode of its type.
    states = None
    if norm.features is not None:
        states = [key for key, feature in norm.features.items() if feature.type == "STATE"]
    for keys, what in ((states, "features"), (norm.normalize_observation_keys, "normalize_observation_keys")):
        if keys is not None and STATE not in keys:
            raise CheckpointError(
                f"{before}: the {what} of the step 'normalizer_processor' leave out '{STATE}': the state would not be "
                "normalized.",
                expected=f"'{STATE}' among {shown(sorted(keys))}",
                fix=RESTORE,
            )
    after = folder / POSTPROCESSOR
    if after.is_file():
        steps = _steps(after, notes)
        back = _normalizer(steps, "unnormalizer_processor", after)
        found.after = _read_state(after, steps["unnormalizer_processor"])
        _check_same(norm, back, folder)
    return found


def write_processors(folder: Path, made_from: TransformsConfig, *, tokenizer_name: str, device: str) -> None:
    """Write the files that LeRobot's make_pre_post_processors reads."""
    config, cameras = made_from.policy, made_from.camera_map.items()
    features = config.to_lerobot()
    outputs = features["output_features"]
    norm = {"eps": made_from.eps, "norm_map": dict(config.normalization_mapping)}
    rename = {image_key(camera): image_key(slot) for camera, slot in cameras if slot is not None and slot != camera}
    before = [
        _step("rename_observations_processor", rename_map=rename),
        _step("to_batch_processor"),
        _step("smolvla_new_line_processor"),
        _step(
            "tokenizer_processor",
            max_length=config.tokenizer_max_length,
            task_key="task",
            padding_side="right",
            padding=config.pad_language_to,
            truncation=True,
            tokenizer_name=tokenizer_name,
        ),
        _step("device_processor", device=device, float_dtype=None),
        {
            **_step("normalizer_processor", features={**features["input_features"], **outputs}, **norm),
            "state_file": _NORMALIZER,
        },
    ]
    after = [
        {**_step("unnormalizer_processor", features=outputs, **norm), "state_file": _UNNORMALIZER},
        _step("device_processor", device="cpu", float_dtype=None),
    ]
    for name, steps in ((PREPROCESSOR, before), (POSTPROCESSOR, after)):
        text = json.dumps({"name": name.removesuffix(".json"), "steps": steps}, indent=2)
        (folder / name).write_text(text, encoding="utf-8")
    flat = {
        f"{feature}.{name}": torch.from_numpy(np.ascontiguousarray(value, dtype=np.float64))
        for feature in (STATE, ACTION)
        for name, value in made_from.statistics.get(feature, {}).items()
    }
    for name in (_NORMALIZER, _UNNORMALIZER):
        save_file(flat, folder / name)


def _step(name: str, **config: Any) -> dict[str, Any]:
    return {"registry_name": name, "config": config}


def _steps(path: Path, notes: list[str]) -> dict[str, _Step]:
    """The steps of a file that do something; `notes` names those of other versions that are switched off."""
    kept: dict[str, _Step] = {}
    for step in formed(_Pipeline, read_json(path), path).steps:
        by_class = "" if step.registry_name else " by its class"
        name = plain(step.name, 80)
        if step.registry_name in _KNOWN[path.name]:
            if name in kept:
                raise CheckpointError(f"{path} has the step '{name}' twice.", expected="each step once", fix=RESTORE)
            kept[name] = step
        elif (step.config or {}).get("enabled") is False:
            notes.append(f"{path.name}: the step '{name}' is switched off and left out")
        else:
            raise CheckpointError(
                f"{path} has the step '{name}'{by_class}, which SmolVLA in LeRobot {NEWEST} does not have there: "
                "another version of LeRobot, a fork, or a script of its own wrote it.",
                expected=f"only {', '.join(sorted(_KNOWN[path.name]))}",
                fix="retrain or re-save the policy without this step: leaving it out would change its actions",
            )
    return kept


def _config_of[M: Form](model: type[M], steps: Mapping[str, _Step], name: str, path: Path) -> M:
    """The settings of a step; of one that is not there, none."""
    settings = steps[name].config if name in steps else None
    return formed(model, settings or {}, f"{path}, step '{name}'")


def _normalizer(steps: Mapping[str, _Step], name: str, path: Path) -> _Normalizer:
    if name not in steps:
        raise CheckpointError(
            f"{path} has no step '{name}'.", expected="one: LeRobot writes it for every policy", fix=RESTORE
        )
    return _config_of(_Normalizer, steps, name, path)


def _camera_map(rename: Mapping[str, str], path: Path) -> dict[str, str]:
    for source, target in rename.items():
        if not (source.startswith("observation.image") and target.startswith("observation.image")):
            raise CheckpointError(
                f"{path} renames '{plain(source, 80)}' to '{plain(target, 80)}'.",
                expected="only cameras (observation.images.*) renamed",
            )
    return {camera_name(source): camera_name(target) for source, target in rename.items()}


def _read_state(path: Path, step: _Step) -> FlatStatistics:
    name = step.state_file
    if not name:
        return {}
    if not is_beside(name):
        raise CheckpointError(
            f"{path} names the state file {shown(name)}.", expected="a .safetensors file beside it", fix=RESTORE
        )
    file = WeightFile(path.with_name(name))
    return {key: statistic_of(file, key) for key in file.names}


def statistic_of(file: WeightFile, key: str) -> npt.NDArray[np.float64]:
    """One entry of a file as a statistic; CheckpointError for what is too large to be one, before it is read."""
    shape = file.shape(key)
    if prod(shape) > _MOST_VALUES or file.dtype(key).startswith("C"):
        raise CheckpointError(
            f"{plain(key, 80)} in {file.path} is {file.dtype(key)} of the shape {shown(list(shape))}.",
            expected=f"a statistic: at most {_MOST_VALUES:,} real numbers",
            fix=RESTORE,
        )
    return file.tensor(key).double().numpy()


def _check_same(before: _Normalizer, after: _Normalizer, folder: Path) -> None:
    """Both files say how actions are normalized; they must say the same."""
    there, back = before.norm_map, after.norm_map
    for kind in ("STATE", "ACTION"):
        if there[kind] != back[kind]:
            raise CheckpointError(
                f"{folder}: {PREPROCESSOR} has {there[kind]} for {kind}, {POSTPROCESSOR} {back[kind]}: actions would "
                "come back in other numbers than they were trained in.",
                expected="the same norm_map in both processor files",
                fix=RESTORE,
            )
    if before.eps != after.eps:
        raise CheckpointError(
            f"{folder}: eps is {before.eps:g} in {PREPROCESSOR} and {after.eps:g} in {POSTPROCESSOR}.",
            expected="the same in both processor files",
            fix=RESTORE,
        )
