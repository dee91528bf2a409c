"""Files and folders of LeRobot where one of our YAML files is expected."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from smolpilot.common.errors import UsageError

from .foreign import translated

_LEFT_OUT = ("dataset.image_transforms.tfs", "checkpoint_path")


def refuse_foreign_file(options: type, path: Path, *, verb: str) -> None:
    """UsageError for LeRobot's train_config.json, or a policy's config.json, given as --config: with our command."""
    from smolpilot.common.yaml_lines import read_yaml  # most commands read no YAML

    if path.is_dir():
        for name in ("train_config.json", "pretrained_model/train_config.json"):
            if (path / name).is_file():
                return refuse_foreign_file(options, path / name, verb=verb)
        raise UsageError(f"--config {path} is a folder.", expected="a YAML file of options")
    try:
        values = read_yaml(path, str(path), empty="settings")[0]
    except (OSError, UsageError):  # no mapping, or not to be read: the reader of YAML says why
        return None
    policy, dataset = values.get("policy"), values.get("dataset")
    if isinstance(dataset, dict) and ("repo_id" in dataset or isinstance(policy, dict)):
        raise _training(options, path, values, verb)
    if isinstance(values.get("type"), str) and ("input_features" in values or "output_features" in values):
        raise UsageError(
            f"{path} is the configuration of a policy, not of a training.",
            fix=f"name its folder: smolpilot {verb} --policy {shlex.quote(str(path.parent))} --dataset DATASET ...",
        )
    return None


def _training(options: type, path: Path, values: dict[str, Any], verb: str) -> UsageError:
    """LeRobot's training: what it says in our options."""
    flat = {name: text for name, text in _flat(values).items() if name not in _LEFT_OUT}
    beside = [name for name in ("model.safetensors", "adapter_model.safetensors") if (path.parent / name).is_file()]
    for name in ("policy.path", "policy.pretrained_path"):
        flat.pop(name, None) if beside else None
    # Its own weights lie beside it: a new run starts from them.
    first = {"policy.path": str(path.parent)} if beside else {}
    # A resolved configuration holds every default, and much that is switched off.
    lines, command = translated({**first, **_wanted(flat)}, options, verb=verb)
    goes_on = "; its weights lie beside it, and a new run starts from them" if beside else ""
    return UsageError(
        f"{path} is LeRobot's training configuration{goes_on}. In smolpilot's options it says:\n"
        + "\n".join(f"  {line}" for line in lines),
        expected="a YAML file with options of smolpilot train",
        fix=command,
    )


# Where these stand beside others that say the same, the policy's recipe or the folder counts.
_PREFERRED = {"dataset.repo_id": "dataset.root", "optimizer.lr": "policy.optimizer_lr"}
_OFF = ("false", "none", "", "{}", "[]")
_RESULTS = ("output_dir", "resume", "seed")  # of the other run: a new one has its own
_DEFAULTS = {
    "policy.optimizer_lr": "0.0001",
    "policy.optimizer_weight_decay": "1e-10",
    "policy.optimizer_grad_clip_norm": "10",
    "policy.scheduler_warmup_steps": "1000",
    "policy.scheduler_decay_lr": "2.5e-06",
    "policy.num_steps": "10",
    "policy.tokenizer_max_length": "48",
    "policy.freeze_vision_encoder": "true",
    "policy.train_expert_only": "true",
    "dataset.eval_split": "0.0",
}


def _wanted(flat: dict[str, str]) -> dict[str, str]:
    """What a person would type of a resolved configuration."""
    recipe = flat.get("use_policy_training_preset", "true") == "true"
    kept = {}
    for name, text in flat.items():
        better = flat.get(_PREFERRED.get(name, ""), "none")
        group = name.split(".")[0]
        skipped = (
            better not in _OFF
            or (text in _OFF and name not in ("policy.train_expert_only", "policy.freeze_vision_encoder"))
            or name in _RESULTS
            or (group in ("optimizer", "scheduler") and recipe)
            or (name.startswith("policy.optimizer") and not recipe and "optimizer.lr" in flat)
            or (
                group in ("peft", "eval", "job", "env", "reward_model", "sample_weighting")
                and flat.get("policy.use_peft", "false") == "false"
            )
            or _same_number(text, _DEFAULTS.get(name))
        )
        if not skipped:
            kept[name] = text
    return kept


def _same_number(text: str, default: str | None) -> bool:
    try:
        return default is not None and (text == default or float(text) == float(default))
    except ValueError:
        return False


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and name not in ("rename_map",):
            found |= _flat(value, f"{name}.")
        else:
            found[name] = json.dumps(value) if isinstance(value, list | dict) else _text(value)
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
