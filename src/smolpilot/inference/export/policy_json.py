"""`policy.json`: the transforms of an exported policy as numbers, for programs in any language."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.common.errors import UsageError
from smolpilot.common.hashing import b2sum
from smolpilot.smolvla.network.flow_matching import frequencies
from smolpilot.version import __version__

if TYPE_CHECKING:
    from smolpilot.smolvla import Policy

FORMAT = 1
_KNOWN = ("joints", "cameras", "normalize", "pad", "instruction")


def policy_facts(policy: Policy, precision: str) -> dict[str, Any]:
    """The content of `policy.json`. UsageError names a transform that this format has no place for.

    `state` and `action`: x * scale + offset, per joint, in the robot's order (forward for the state, backward for the
    action). `slots`: the robot camera of each slot, null for a slot without camera. `image_size`: of the letterbox.
    """
    config = policy.config
    joints, cameras, scales, widths, text = _specs(policy)
    return {
        "format": FORMAT,
        "smolpilot": __version__,
        "precision": precision,
        "robot": policy.profile.name if policy.profile is not None else None,
        "rate": policy.profile.rate if policy.profile is not None else None,
        "slots": cameras["slots"],
        "image_special_tokens": config.add_image_special_tokens,
        "image_size": cameras["image_size"],
        "max_tokens": text["max_tokens"],
        "chunk": config.chunk_size,
        "n_action_steps": policy.n_action_steps,
        "num_steps": config.num_steps,
        "max_state_dim": widths["max_state_dim"],
        "max_action_dim": widths["max_action_dim"],
        "frequencies": frequencies(config.expert_width, config.min_period, config.max_period).tolist(),
        "state": {**joints["state"], **scales["state"]},
        "action": {**joints["action"], **scales["action"]},
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


def _specs(policy: Policy) -> list[dict[str, Any]]:
    """The transforms that the format has a place for, and `example.py` runs, as data in the order of `_KNOWN`."""
    for transform in policy.transforms:
        if transform.name not in _KNOWN:
            raise UsageError(
                f"The policy cannot be exported: policy.json has no place for its transform '{transform.name}', and "
                "example.py would leave it out.",
                expected=f"the transforms {', '.join(_KNOWN)}",
            )
    specs = policy.transforms.spec()
    return [specs[name] for name in _KNOWN]
