"""A bundle: one folder with everything a policy needs, which LeRobot 0.6 loads as well. See docs/bundle-format.md."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file

from smolpilot.common.atomic import atomic_folder
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.version import __version__

from .checkpoint.facts import Facts
from .checkpoint.locate import CONFIG, existing, locate
from .checkpoint.processors import PREPROCESSOR, read_processors, write_processors
from .checkpoint.sealing import FACTS, LIMITS, ROBOT, VLM, json_file_text, replace_files, with_digests
from .checkpoint.weight_files import WEIGHTS
from .checkpoint.weights import lerobot_weights
from .config.json_file import read_json
from .config.vlm_folder import VLMFolder
from .policy import Policy


def save_bundle(policy: Policy, path: str | Path) -> Path:
    """Write the policy as a bundle; the folder appears whole or not at all, and may be moved afterwards.

    Raises UsageError when `path` exists or the policy has a transform that LeRobot does not know, OSError when the disk
    does not take it.
    """
    target = Path(path).expanduser()
    config, made_from = policy.config, policy.transforms.config
    for transform in made_from.extra:
        raise UsageError(
            f"The transform '{transform.name}' cannot be saved: a bundle holds LeRobot's files, which do not know it.",
            expected="the list of SmolVLA, which LeRobot runs, too",
        )
    values = _lerobot_config(policy)
    with atomic_folder(target) as folder:
        (folder / CONFIG).write_text(json_file_text(values), encoding="utf-8")
        try:
            save_file(lerobot_weights(policy.model, policy.unused_weights), folder / WEIGHTS, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:
            raise OSError(errno.EIO, f"the weights could not be written: {error}", str(target)) from error
        write_processors(folder, made_from, tokenizer_name=values["vlm_model_name"], device=values["device"])
        vlm_files(policy).write(folder / VLM)
        facts = Facts(
            camera_map=dict(made_from.camera_map),
            instructions=policy.instructions,
            n_action_steps=policy.n_action_steps,
            lineage={**policy.lineage, "smolpilot": __version__},
            dtypes=_dtypes(policy),
            lerobot_keys=config.newer,
        )
        if policy.profile is not None:
            (folder / ROBOT).write_text(policy.profile.to_yaml(), encoding="utf-8")
        if policy.demonstrated is not None:
            (folder / LIMITS).write_text(json_file_text(policy.demonstrated.to_json()), encoding="utf-8")
        (folder / FACTS).write_text(json_file_text(with_digests(facts.written(), folder)), encoding="utf-8")
        for path in folder.glob("*.safetensors"):
            # safetensors writes for the owner alone; a bundle is as readable as its other files.
            with contextlib.suppress(OSError):  # a disk without permissions
                path.chmod((folder / CONFIG).stat().st_mode)
    return target


def localize(path: str | Path) -> Path:
    """Point LeRobot's files of a bundle at the bundle's own `vlm` folder, by absolute path; returns that folder.

    LeRobot looks the tokenizer and the vision-language model's config up by hub id or absolute path only, so an
    offline LeRobot needs this, again after every move of the bundle. smolpilot itself never does. A run folder
    stands for its best checkpoint, as in `load_policy`.
    """
    if not Path(path).expanduser().exists():
        raise UsageError(
            f"There is no bundle at {path}.", fix="check the path; a hub policy is saved as a bundle first"
        )
    folder = locate(path).folder
    vlm = folder / VLM
    if not (folder / CONFIG).is_file() or not (vlm / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} is not a bundle: it has no {CONFIG} with a {VLM} folder.",
            fix="load the checkpoint with smolpilot and save it as a bundle first (save_bundle)",
        )
    values = read_json(folder / CONFIG)
    values["vlm_model_name"] = str(vlm)
    read_processors(folder)  # nothing is written into a bundle whose steps do not load
    steps = read_json(folder / PREPROCESSOR)
    for step in steps["steps"]:
        if step.get("registry_name") == "tokenizer_processor":
            step["config"] = {**(step.get("config") or {}), "tokenizer_name": str(vlm)}
    replace_files(
        folder, {PREPROCESSOR: json.dumps(steps, indent=2) + "\n", CONFIG: json.dumps(values, indent=2) + "\n"}
    )
    return vlm


def vlm_files(policy: Policy) -> VLMFolder:
    """The policy's tokenizer folder with a config.json whose text dtype is that of the weights.

    LeRobot takes the dtype of the text layers and the expert from there, so it computes in the bundle's precision.
    """
    folder = policy.tokenizer.folder
    values = folder.json(CONFIG)
    if not values:
        values = policy.config.vlm.to_json()
    dtype = str(policy.model.state_proj.weight.dtype).removeprefix("torch.")
    text = {
        key: value for key, value in (values.get("text_config") or {}).items() if key not in ("torch_dtype", "dtype")
    }
    values = {key: value for key, value in values.items() if key not in ("torch_dtype", "dtype")}
    values = {**values, "dtype": dtype, "text_config": {**text, "dtype": dtype}}
    return VLMFolder({**folder.files, CONFIG: json.dumps(values, indent=2).encode()}, folder.origin)


def is_hub_name(name: str) -> bool:
    """Whether vlm_model_name is a hub id, not a path."""
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and existing(name) is None


def _lerobot_config(policy: Policy) -> dict[str, Any]:
    values = policy.config.to_lerobot()
    values["n_action_steps"], values["num_steps"] = policy.n_action_steps, policy.num_steps
    values["device"] = policy.device.type
    # All weights are in the bundle: LeRobot must not fetch the vision-language model's first, nor push anything.
    values["load_vlm_weights"] = False
    values["push_to_hub"] = False
    values["use_peft"] = False
    for key in ("pretrained_path", "pretrained_revision"):
        values.pop(key, None)
    if not is_hub_name(values["vlm_model_name"]):
        values["vlm_model_name"] = VLM
    return values


def _dtypes(policy: Policy) -> dict[str, str]:
    seen: dict[str, torch.dtype] = {}
    for name, parameter in policy.model.named_parameters():
        seen.setdefault(name.split(".")[0], parameter.dtype)
    return {module: str(dtype).removeprefix("torch.") for module, dtype in seen.items()}
