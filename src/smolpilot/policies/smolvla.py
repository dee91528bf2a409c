"""SmolVLA, plain or by the engine: loaded, its cameras paired, its engine prepared as the options say."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.progress import working
from smolpilot.contracts import Embodiment, Policy, PolicyOptions
from smolpilot.contracts.policy import EngineMode
from smolpilot.inference import prepare
from smolpilot.robots import JointLayout
from smolpilot.robots.layout import map_side
from smolpilot.smolvla import Policy as SmolVLAPolicy
from smolpilot.smolvla import load_policy
from smolpilot.smolvla.create import randomize_weights
from smolpilot.smolvla.transforms.camera_slots import pair_embodiment

_MODES: tuple[str, ...] = get_args(EngineMode.__value__)


def open_smolvla(source: str | Path, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """The SmolVLA policy of a bundle, checkpoint, run folder, adapter or hub id.

    A robot profile comes from the checkpoint only (`spec.profile`), not from the embodiment. Raises what `load_policy`,
    `pair_embodiment` and `prepare` raise, and ProfileError for an embodiment with other joints.
    """
    if options.engine not in _MODES:
        raise UsageError(f"There is no engine mode '{options.engine}'.", fix=did_you_mean(options.engine, _MODES))
    if options.untrained is not None and options.engine != "plain":
        raise UsageError("--untrained replaces the plain network's weights.", fix="leave --engine out")
    policy = load_policy(source, device=options.device, stats_from=options.stats_from, tokenizer_dir=options.tokenizer)
    if options.num_steps is not None:
        policy.num_steps = options.num_steps
    if embodiment is not None:
        _check_joints(policy, embodiment)
    slots, saved = policy.config.real_cameras, policy.transforms_config.camera_map
    policy.use_cameras(pair_embodiment(slots, embodiment, options.camera_map, saved))
    if options.untrained is not None:
        randomize_weights(policy, options.untrained)
    if options.engine == "plain":
        return policy
    frames = options.calibration(policy) if options.engine == "int8" and options.calibration is not None else ()
    with working("preparing the engine"):
        return prepare(policy, engine=options.engine, calibration=frames)


def _check_joints(policy: SmolVLAPolicy, embodiment: Embodiment) -> None:
    """Another robot is said to be one before its cameras are looked at."""
    profile = policy.profile
    if profile is None:
        return
    for what, names, joints in (
        ("state", embodiment.state_names, profile.state_joints),
        ("action", embodiment.action_names, profile.action_joints),
    ):
        if names:
            map_side(
                f"{embodiment.owner}'s {what}", JointLayout(names), joints, derived=profile.is_derived,
                fix="take the robot that the policy was trained for",
            )  # fmt: skip
