"""Where a result comes from: the policy, and whether its instructions are ones that it was trained on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from smolpilot.inference.report import EngineReport
from smolpilot.policy.lineage import trained_rate
from smolpilot.training.checks import rate_lines

if TYPE_CHECKING:
    from smolpilot.inference import Engine
    from smolpilot.policy import Policy


def describe_policy(policy: Policy | Engine) -> dict[str, Any]:
    """What a report says about a policy: size, horizon, robot, instructions, lineage."""
    config, report = policy.config, policy.report
    return {
        "path": report.source,
        "engine": {"mode": report.mode, "precision": report.precision} if isinstance(report, EngineReport) else None,
        "parameters": report.parameters if isinstance(report, EngineReport) else _size(policy),
        "chunk_size": config.chunk_size,
        "execution_horizon": policy.n_action_steps,
        "denoising_steps": config.num_steps,
        "robot": policy.profile.name if policy.profile is not None else None,
        "cameras": config.cameras,
        "instructions": list(policy.instructions),
        "lineage": dict(policy.lineage),
    }


def instruction_warnings(policy: Policy | Engine, instructions: Iterable[str]) -> list[str]:
    """A sentence per instruction that the policy was not trained on: success drops when the wording differs."""
    known = list(policy.instructions)
    if not known:
        return []
    findings = []
    for text in sorted(set(instructions) - set(known)):
        near = difflib.get_close_matches(text, known, n=1, cutoff=0.0)
        findings.append(
            f"The policy was not trained on “{text}”; the nearest instruction that it knows is “{near[0]}”."
        )
    return findings


def rate_warnings(policy: Policy | Engine, fps: float) -> list[str]:
    """A sentence when the dataset was recorded at another rate than the policy's training data."""
    trained = trained_rate(policy.lineage, policy.profile.rate if policy.profile is not None else None)
    return [f"{line.found[0].upper()}{line.found[1:]}; {line.fix}." for line in rate_lines(trained, fps, "eval")]


def engine_warnings(policy: Policy | Engine) -> list[str]:
    """A sentence when the plain network ran in place of the engine that was asked for."""
    report = policy.report
    return [report.fallback] if isinstance(report, EngineReport) and report.fallback else []


def _size(policy: Any) -> int:
    return sum(parameter.numel() for parameter in policy.model.parameters())
