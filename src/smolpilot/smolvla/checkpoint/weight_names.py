"""Names of the weights: ours <-> LeRobot's, one prefix each.

Source: model_state of lerobot 0.6.1 (`SmolVLAPolicy.state_dict()`), which begins every name with `model.`.
"""

from __future__ import annotations

# Longest LeRobot prefix first: `vision_model.encoder.` must match before `vision_model.`.
_PREFIXES = [
    ("vision.layers.", "model.vlm_with_expert.vlm.model.vision_model.encoder.layers."),
    ("vision.", "model.vlm_with_expert.vlm.model.vision_model."),
    ("connector.proj.", "model.vlm_with_expert.vlm.model.connector.modality_projection.proj."),
    ("text.", "model.vlm_with_expert.vlm.model.text_model."),
    ("expert.", "model.vlm_with_expert.lm_expert."),
    ("state_proj.", "model.state_proj."),
    ("action_in_proj.", "model.action_in_proj."),
    ("action_out_proj.", "model.action_out_proj."),
    ("action_time_mlp_in.", "model.action_time_mlp_in."),
    ("action_time_mlp_out.", "model.action_time_mlp_out."),
]

# In every checkpoint, read by nobody: the language head of the vision-language model.
UNUSED = ("model.vlm_with_expert.vlm.lm_head.weight",)


def to_lerobot(name: str) -> str:
    """`expert.norm.weight` -> `model.vlm_with_expert.lm_expert.norm.weight`."""
    for ours, theirs in _PREFIXES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def from_lerobot(name: str) -> str | None:
    """The inverse of `to_lerobot`; None for a name that is no weight of the network."""
    for ours, theirs in _PREFIXES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return None
