"""Keys of `config.json` that LeRobot 0.6.1 does not have: those of later versions, of pull requests and of forks.

A key that cannot change a prediction never stops a load: it is carried along, and kept in `smolpilot.json`, since
LeRobot 0.6.1 refuses a `config.json` with a key that it does not know. Source of the names: the history of
lerobot/policies/smolvla/configuration_smolvla.py and lerobot/configs/policies.py on all branches up to August 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from smolpilot.common.errors import CheckpointError
from smolpilot.common.text import plain, shown

_LONGEST = 80  # characters of a key: beyond, it is nobody's option
NEWEST = "0.6.1"  # the LeRobot version whose keys are all known by name

# How a policy is trained, compiled, stored or published; text generation, which no action depends on.
_NO_PREDICTION = re.compile(
    r"""
    (optim|optimizer|sched|scheduler|lr|wandb|hub|push|log|logging|save|job|seed|lora|peft|ema|augment|augmentation|aug|
     image_transforms|loss|grad|gradient|accelerate|fsdp|deepspeed|ddp|compile|torch_compile|inference_rtc|
     inference_enable_rtc|rtc|generation|freeze|unfreeze|frozen|fine_tune|finetune|finetuning|train|training|
     trainable)(_\w+)?
    | (\w+_)?(lr|learning_rate|weight_decay|warmup|grad_clip|grad_clip_norm|dropout|loss_weight|loss_weights)(_\w+)?
    | (\w+_)?(checkpointing|frozen|trainable|loss|betas)
    | (attention_backend|attn_implementation|attention_implementation|dtype|torch_dtype|precision|recipe|temperature|
       top_p|top_k|text_temperature|text_top_p|min_new_tokens|max_new_tokens|revision|checkpoint|pretrained_\w+|
       gated|base_model|batch_size|num_workers|eval_freq|eval_every|output_dir|resume|dataset_repo_id|lerobot_version|
       version|name|description|model_card|author|created|action_feature_names)
    """,
    re.VERBOSE,
)


def sort_unknown(values: Mapping[str, Any], unknown: Iterable[str]) -> dict[str, Any]:
    """The unknown keys that are carried along; CheckpointError for one that may change a prediction.

    Carried: what belongs to training, compiling, publishing or writing text (by its name), and what is switched off
    (null, false, empty): LeRobot's own options are off where they are new.
    """
    carried = {}
    for key in unknown:
        value = values[key]
        known = len(key) <= _LONGEST and _NO_PREDICTION.fullmatch(key)
        if not known and not _is_off(value):
            name = plain(key, _LONGEST)
            raise CheckpointError(
                f"config.json has the key '{name}' ({shown(value)}), which LeRobot {NEWEST} does not have: another "
                "version of LeRobot, or a fork, wrote it, and it may change the actions.",
                expected=f"the keys of LeRobot {NEWEST} or earlier, and any others that only concern training",
                fix=f"if '{name}' does not change what the policy computes, remove it from config.json; else run the "
                "policy with the LeRobot that wrote it",
            )
        carried[key] = value
    return carried


def _is_off(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})
