"""LeRobot's pre- and post-processor files: what they say about a policy, and the same written for ours.

Source: lerobot/policies/smolvla/processor_smolvla.py and lerobot/processor/*.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from smolpilot.errors import CheckpointError
from smolpilot.keys import ACTION, STATE, camera_name, image_key
from smolpilot.statistics import Statistics

from .config import PolicyConfig
from .normalise import EPS
from .other_versions import NEWEST
from .weight_files import WeightFile

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
_NORMALISER = "policy_preprocessor_step_5_normalizer_processor.safetensors"
_UNNORMALISER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
# Steps that smolpilot's transforms do themselves; any other one would be lost silently, so it is refused.
_KNOWN = {
    "rename_observations_processor", "to_batch_processor", "smolvla_new_line_processor", "pi0_new_line_processor",
    "new_line_processor", "tokenizer_processor", "device_processor", "normalizer_processor", "unnormalizer_processor",
}  # fmt: skip

type FlatStatistics = dict[str, npt.NDArray[np.float64]]


@dataclass
class Processors:
    """What the files say; None where they are silent. `state` and `action` are the raw entries of the state files."""

    camera_map: dict[str, str] = field(default_factory=dict)  # robot camera -> slot, from the rename step
    padding: str | None = None
    max_length: int | None = None
    tokenizer_name: str | None = None
    normalization_mapping: dict[str, str] | None = None
    eps: float = EPS
    before: FlatStatistics = field(default_factory=dict)
    after: FlatStatistics = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_processors(folder: Path) -> Processors | None:
    """Read both files of a checkpoint folder; None when it has none (checkpoints before LeRobot 0.4).

    Raises CheckpointError for a step that smolpilot does not know, by its name.
    """
    if not (folder / PREPROCESSOR).is_file():
        return None
    found = Processors()
    for step in _steps(folder / PREPROCESSOR, found.notes):
        config = step.get("config") or {}
        match step["registry_name"]:
            case "rename_observations_processor":
                found.camera_map = _camera_map(config.get("rename_map") or {}, folder)
            case "tokenizer_processor":
                _read_tokenizer(found, config, folder)
            case "normalizer_processor":
                found.normalization_mapping = dict(config.get("norm_map") or {}) or None
                found.eps = float(config.get("eps", EPS))
                found.before = _read_state(folder, step)
    if (folder / POSTPROCESSOR).is_file():
        for step in _steps(folder / POSTPROCESSOR, found.notes):
            if step["registry_name"] == "unnormalizer_processor":
                found.after = _read_state(folder, step)
                _check_same_mode(found, step.get("config") or {}, folder)
    return found


def write_processors(
    folder: Path,
    config: PolicyConfig,
    statistics: Statistics,
    camera_map: Mapping[str, str | None],
    *,
    tokenizer_name: str,
    device: str,
    eps: float = EPS,
) -> None:
    """Write the files that LeRobot's make_pre_post_processors reads."""
    features = config.to_lerobot()
    outputs = features["output_features"]
    norm = {"eps": eps, "norm_map": dict(config.normalization_mapping)}
    rename = {
        image_key(camera): image_key(slot) for camera, slot in camera_map.items() if slot is not None and slot != camera
    }
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
            "state_file": _NORMALISER,
        },
    ]
    after = [
        {**_step("unnormalizer_processor", features=outputs, **norm), "state_file": _UNNORMALISER},
        _step("device_processor", device="cpu", float_dtype=None),
    ]
    for name, steps in ((PREPROCESSOR, before), (POSTPROCESSOR, after)):
        text = json.dumps({"name": name.removesuffix(".json"), "steps": steps}, indent=2)
        (folder / name).write_text(text, encoding="utf-8")
    flat = {
        f"{feature}.{name}": torch.from_numpy(np.ascontiguousarray(value, dtype=np.float64))
        for feature in (STATE, ACTION)
        for name, value in statistics.get(feature, {}).items()
    }
    for name in (_NORMALISER, _UNNORMALISER):
        save_file(flat, folder / name)


def _step(name: str, **config: Any) -> dict[str, Any]:
    return {"registry_name": name, "config": config}


def _steps(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The steps of a file that do something; `notes` names those of other versions that are switched off."""
    try:
        steps = list(json.loads(path.read_text(encoding="utf-8"))["steps"])
        named = [(str(step.get("registry_name", step.get("class"))), step.get("config") or {}) for step in steps]
        switched_off = [config.get("enabled") is False for _, config in named]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {type(error).__name__}: {error}", expected="LeRobot's processor JSON"
        ) from error
    kept = []
    for step, (name, _), off in zip(steps, named, switched_off, strict=True):
        if name in _KNOWN:
            kept.append(step)
        elif off:
            notes.append(f"{path.name}: the step '{name}' is switched off and left out")
        else:
            raise CheckpointError(
                f"{path} has the step '{name}', which SmolVLA in LeRobot {NEWEST} does not have: another version of "
                "LeRobot, a fork, or a script of its own wrote it.",
                expected=f"only {', '.join(sorted(_KNOWN))}",
                fix="retrain or re-save the policy without this step: leaving it out would change its actions",
            )
    return kept


def _camera_map(rename: Mapping[str, str], folder: Path) -> dict[str, str]:
    for source, target in rename.items():
        if not (source.startswith("observation.image") and target.startswith("observation.image")):
            raise CheckpointError(
                f"{folder / PREPROCESSOR} renames '{source}' to '{target}'.",
                expected="only cameras (observation.images.*) renamed",
            )
    return {camera_name(source): camera_name(target) for source, target in rename.items()}


def _read_tokenizer(found: Processors, config: Mapping[str, Any], folder: Path) -> None:
    if config.get("padding_side", "right") != "right" or config.get("task_key", "task") != "task":
        raise CheckpointError(
            f"The tokenizer step in {folder / PREPROCESSOR} pads on the {config.get('padding_side')} side and reads "
            f"'{config.get('task_key')}'.",
            expected="padding_side 'right', task_key 'task'",
        )
    found.padding = config.get("padding")
    found.max_length = config.get("max_length")
    found.tokenizer_name = config.get("tokenizer_name")


def _read_state(folder: Path, step: Mapping[str, Any]) -> FlatStatistics:
    name = step.get("state_file")
    if not name:
        return {}
    file = WeightFile(folder / name)
    return {key: file.tensor(key).double().numpy() for key in file.names}


def _check_same_mode(found: Processors, config: Mapping[str, Any], folder: Path) -> None:
    after, before = config.get("norm_map") or {}, found.normalization_mapping or {}
    if after and before and after.get("ACTION") != before.get("ACTION"):
        raise CheckpointError(
            f"{folder}: actions are normalised by {before.get('ACTION')} and un-normalised by {after.get('ACTION')}.",
            expected="the same mode in both processor files",
        )
