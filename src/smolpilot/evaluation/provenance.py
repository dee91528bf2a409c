"""Where a result comes from: the policy, and whether its instructions are ones that it was trained on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from smolpilot.contracts import PolicySpec
from smolpilot.contracts.trained_on import other_rate, rate_of, same_speed


def describe_policy(spec: PolicySpec) -> dict[str, Any]:
    """What a report says about a policy: where it is from, size, horizon, robot, instructions, lineage."""
    facts = spec.facts
    return {
        "path": facts.source or spec.name,
        "name": spec.name,
        "kind": facts.kind or None,
        "engine": {"mode": facts.engine, "precision": facts.precision} if facts.engine is not None else None,
        "parameters": facts.parameters,
        "chunk_size": spec.chunk_size,
        "execution_horizon": spec.n_action_steps,
        "denoising_steps": facts.num_steps,
        "robot": spec.profile.name if spec.profile is not None else None,
        "cameras": list(spec.cameras),
        "camera_map": dict(facts.camera_map),
        "instructions": list(spec.instructions),
        "lineage": dict(facts.lineage),
    }


def instruction_warnings(spec: PolicySpec, instructions: Iterable[str]) -> list[str]:
    """A sentence per instruction that the policy was not trained on: success drops when the wording differs."""
    known = list(spec.instructions)
    if not known:
        return []
    return [
        f"The policy was not trained on “{text}”; the nearest instruction that it knows is “{near}”."
        for text in sorted(set(instructions) - set(known))
        for near in difflib.get_close_matches(text, known, n=1, cutoff=0.0)
    ]


def rate_warnings(spec: PolicySpec, fps: float) -> list[str]:
    """A sentence when the dataset was recorded at another rate than the policy's training data."""
    trained = rate_of(spec)
    text = other_rate(trained, fps)
    return [f"{text[0].upper()}{text[1:]}; {same_speed(trained)}."] if text and trained is not None else []
