"""What a policy is, for `smolpilot bundle`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.splits import episode_ranges
from smolpilot.robots.demonstrated_table import origin_text, table_lines

from .policy import Policy
from .transforms.camera_slots import camera_text


def summary(policy: Policy) -> dict[str, Any]:
    """The facts of a policy as plain JSON values."""
    config, profile = policy.config, policy.profile
    return {
        "robot": profile.name if profile is not None else None,
        "state": _joints(policy, STATE),
        "action": _joints(policy, ACTION),
        "camera_map": policy.transforms_config.camera_map,
        "camera_slots": {name: list(shape) for name, shape in config.image_shapes.items()},
        "instructions": policy.instructions,
        "chunk_size": config.chunk_size,
        "execution_horizon": policy.n_action_steps,
        "denoising_steps": policy.num_steps,
        "statistics": {
            feature: {name: value.tolist() for name, value in stats.items()}
            for feature, stats in policy.statistics.items()
        },
        "operating_limits": None if policy.demonstrated is None else policy.demonstrated.to_json(),
        "lineage": policy.lineage,
        "report": policy.report.to_json(),
    }


def summary_text(policy: Policy) -> str:
    """The same for a person."""
    facts = summary(policy)
    lines = [policy.report.text(), "", f"robot         {facts['robot'] or 'not named in the checkpoint'}"]
    for what in ("state", "action"):
        joints = facts[what]
        lines.append(f"{what:<13} {len(joints)} joints: {', '.join(joints)}")
    lines.append(f"cameras       {camera_text(facts['camera_map'])}")
    lines.append(
        f"chunk         {facts['chunk_size']} actions, {facts['execution_horizon']} of them run before planning again; "
        f"{facts['denoising_steps']} denoising steps"
    )
    texts = facts["instructions"]
    lines.append(
        f"instructions  {len(texts) or 'none'} recorded" + "".join(f"\n              {text}" for text in texts)
    )
    lines += [f"{'limits' if i == 0 else '':<13} {text}" for i, text in enumerate(_limits(policy))]
    lines += [f"lineage       {key}: {_fact_text(value)}" for key, value in facts["lineage"].items()]
    return "\n".join(lines)


def _joints(policy: Policy, feature: str) -> list[str]:
    if policy.profile is not None:
        joints = policy.profile.state_joints if feature == STATE else policy.profile.action_joints
        return [f"{joint.name} [{joint.unit}]" for joint in joints]
    dim = policy.config.state_dim if feature == STATE else policy.config.action_dim
    return [f"joint {i}" for i in range(dim)]


def _limits(policy: Policy) -> list[str]:
    """Limits and start poses of the demonstrations, with their origin."""
    found = policy.demonstrated
    if found is None:
        return ["none kept of the demonstrations (not trained by smolpilot, or by an earlier version)"]
    return [origin_text(found), *table_lines(found)]


def _fact_text(value: Any) -> str:
    """A fact of a lineage on one line; lists of episodes as ranges."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact_text(inner)}" for key, inner in value.items())
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return episode_ranges(value) or "none"
    return str(value)
