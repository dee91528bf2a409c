"""`policy.json`: the transforms of an exported policy as numbers, for programs in any language."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from smolpilot.errors import UsageError
from smolpilot.hashing import b2sum
from smolpilot.keys import ACTION, STATE
from smolpilot.policy.flow import frequencies
from smolpilot.policy.normalise import Normaliser
from smolpilot.policy.transforms import NormalisePart
from smolpilot.version import __version__

if TYPE_CHECKING:
    from smolpilot.policy import Policy

FORMAT = 1


def policy_facts(policy: Policy, precision: str) -> dict[str, Any]:
    """The content of `policy.json`.

    `state` and `action`: x * scale + offset, per joint, in the robot's order (forward for the state, backward for the
    action). `slots`: the robot camera of each slot, null for a slot without camera. `image_size`: of the letterbox.
    """
    config, part = policy.config, _normalisation(policy)
    by_slot = {slot: camera for camera, slot in policy.transforms.camera_map.items() if slot is not None}
    size = config.resize_imgs_with_padding
    return {
        "format": FORMAT,
        "smolpilot": __version__,
        "precision": precision,
        "robot": policy.profile.name if policy.profile is not None else None,
        "rate": policy.profile.rate if policy.profile is not None else None,
        "slots": [by_slot.get(slot) for slot in config.cameras],
        "image_special_tokens": config.add_image_special_tokens,
        "image_size": size[0] if size is not None else None,
        "max_tokens": config.tokenizer_max_length,
        "chunk": config.chunk_size,
        "execution_horizon": policy.n_action_steps,
        "num_steps": config.num_steps,
        "max_state_dim": config.max_state_dim,
        "max_action_dim": config.max_action_dim,
        "frequencies": frequencies(config.expert_width, config.min_period, config.max_period).tolist(),
        "state": _feature(policy, STATE, *_forward(part.state)),
        "action": _feature(policy, ACTION, *_backward(part.action)),
        "instructions": policy.instructions,
    }


def with_digests(facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`policy.json` with the BLAKE2b-256 of the other files that are there, as `b2sum -l 256` prints it.

    `digest` is that of the rest of `policy.json`, as JSON with sorted keys. `example.py` compares all of them.
    """
    digests = {path.name: b2sum(path) for path in sorted(folder.iterdir())}
    content = json.loads(json.dumps({**facts, "digests": digests}))
    own = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=32).hexdigest()
    return {**content, "digest": own}


def _normalisation(policy: Policy) -> NormalisePart:
    part = next((part for part in policy.transforms.parts if isinstance(part, NormalisePart)), None)
    if part is None:
        raise UsageError("The policy's transforms have no normalisation.")
    return part


def _feature(policy: Policy, feature: str, scale: torch.Tensor, offset: torch.Tensor) -> dict[str, Any]:
    profile = policy.profile
    joints = () if profile is None else profile.state_joints if feature == STATE else profile.action_joints
    names = [joint.name for joint in joints] or [f"dimension {i}" for i in range(len(scale))]
    return {
        "joints": names,
        "units": [joint.unit for joint in joints] or ["unknown"] * len(scale),
        "scale": scale.tolist(),
        "offset": offset.tolist(),
    }


def _forward(feature: Normaliser) -> tuple[torch.Tensor, torch.Tensor]:
    """Every mode is x * scale + offset; in double precision, because the mean may be far from zero."""
    offset, divisor = feature.offset.double(), feature.divisor.double()
    if feature.mode == "IDENTITY":
        return _identity(feature)
    if feature.mode == "MEAN_STD":
        return 1 / divisor, -offset / divisor
    return 2 / divisor, -2 * offset / divisor - 1


def _backward(feature: Normaliser) -> tuple[torch.Tensor, torch.Tensor]:
    offset, scale = feature.offset.double(), feature.scale.double()
    if feature.mode == "IDENTITY":
        return _identity(feature)
    if feature.mode == "MEAN_STD":
        return scale, offset
    return scale / 2, offset + scale / 2


def _identity(feature: Normaliser) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(feature.dim), torch.zeros(feature.dim)
