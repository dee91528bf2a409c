"""New policies: from scratch for a dataset and robot, or a trained one made ready for another robot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from smolpilot.common.errors import CheckpointError, ProfileError, TransformError, UsageError, did_you_mean
from smolpilot.common.keys import camera_name
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import listed_joints
from smolpilot.datasets.read.joint_units import derive_profile, with_cameras
from smolpilot.robots import Joint, RobotProfile
from smolpilot.robots.demonstrated import Demonstrated
from smolpilot.robots.layout import FrameLayout, check_dimensions, map_layout, to_policy_order
from smolpilot.version import __version__

from .checkpoint.load_report import LoadReport
from .checkpoint.weights import filled_model, widen_weights
from .config import PolicyConfig
from .config.presets import preset
from .config.vlm_folder import VLMFolder
from .loading import choose_device
from .network.model import SmolVLA
from .policy import Policy, fill_sizes
from .transforms.byte_tokenizer import SIZE, byte_level_folder
from .transforms.camera_slots import Pairing, camera_text, resolve_camera_map
from .transforms.tokenizer import PolicyTokenizer
from .transforms.transform_list import Transforms, TransformsConfig

if TYPE_CHECKING:
    from smolpilot.datasets import DatasetMeta

_HORIZON = 10  # execution horizon of policies made here: whole chunks of 50 halve success on robots


def new_policy(
    preset_name: str,
    *,
    meta: DatasetMeta,
    statistics: Statistics | None = None,
    profile: RobotProfile | None = None,
    camera_map: Mapping[str, str | None] | None = None,
    tokenizer_dir: str | Path | None = None,
    instructions: Sequence[str] | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    device: str | torch.device = "auto",
) -> Policy:
    """A policy with random weights for the joints, cameras and instructions of a dataset.

    statistics: in the dataset's joint order, default the dataset's own. profile: default one derived from the
    dataset. camera_map: robot camera -> slot, default all cameras under their own names. overrides: fields of
    PolicyConfig. The same seed gives the same weights. `smolvla` needs `tokenizer_dir`; `tiny` ships its own.
    """
    profile = profile or derive_profile(meta)
    cameras = _new_slots(meta, camera_map)
    profile = with_cameras(profile, meta, [], named=True, used=_used(cameras))
    chosen = dict(overrides or {})
    config = preset(preset_name, **_features(meta, profile, cameras, chosen))
    folder = _tokenizer_folder(preset_name, config, tokenizer_dir)
    texts = _instructions(meta, instructions)
    config = _with_tokenizer(config, folder, texts, fits="tokenizer_max_length" not in chosen and preset_name == "tiny")
    config = dataclasses.replace(config, n_action_steps=chosen.get("n_action_steps", min(_HORIZON, config.chunk_size)))
    generator = torch.Generator().manual_seed(seed)
    model = SmolVLA(config)
    model.initialize(generator)
    model = model.to(choose_device(device)).eval()
    transforms = Transforms(
        TransformsConfig(
            config,
            to_policy_order(
                statistics if statistics is not None else meta.statistics, FrameLayout.of_dataset(meta), profile
            ),
            PolicyTokenizer(folder),
            camera_map=cameras,
            profile=profile,
            instructions=texts,
        )
    )
    notes = [f"cameras: {camera_text(cameras)}"]
    report = LoadReport(f"preset {preset_name}, seed {seed}", "from scratch", notes=notes)
    return Policy(
        model,
        transforms,
        lineage=_lineage(meta, {"preset": preset_name, "seed": seed}),
        report=fill_sizes(report, model),
    )


def adapt_policy(
    policy: Policy,
    *,
    meta: DatasetMeta,
    statistics: Statistics | None = None,
    profile: RobotProfile | None = None,
    camera_map: Mapping[str, str | None] | None = None,
    instructions: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Policy:
    """A trained policy made ready to be fine-tuned on a dataset; the given policy gives its weights up to it.

    Joints, cameras and instructions always come from dataset and profile, never from the parent. More joints than
    the parent's projections take widen them: trained columns are kept, the others start at zero.
    statistics: in the dataset's joint order; None keeps the parent's, matched by joint name. camera_map: robot camera
    -> slot of the parent (`new`: a further slot); by default, and for cameras that it does not name, the parent's own
    map and equal names (`resolve_camera_map`). `report.notes` of the result say all of this. Raises TransformError,
    ProfileError or UsageError for what does not fit.
    """
    profile = profile or derive_profile(meta)
    notes: list[str] = []
    paired = pair_for_training(policy, meta.camera_names, camera_map)
    cameras = paired.map
    profile = with_cameras(profile, meta, [], named=True, used=_used(cameras))
    chosen = {"n_action_steps": min(_HORIZON, policy.config.chunk_size), **(overrides or {})}
    if "chunk_size" in chosen:
        chosen["n_action_steps"] = min(chosen["n_action_steps"], chosen["chunk_size"])
    _refuse_architecture(chosen)
    config = dataclasses.replace(
        policy.config, **_features(meta, profile, cameras, chosen, parent=policy.config), empty_cameras=0
    )
    notes += [f"cameras: {camera_text(cameras)}", *(f"cameras: {note}" for note in paired.notes)]
    notes += [f"WARNING: cameras: {warning}" for warning in paired.warnings]
    _note_dims(policy.config, config, notes)
    if statistics is None:
        moved = parent_statistics(policy, profile)
        notes.append("statistics: the parent's")
    else:
        moved = to_policy_order(statistics, FrameLayout.of_dataset(meta), profile)
        notes.append("statistics: the given ones, not the parent's")
    kept = _kept_limits(policy, profile, notes)
    parent = policy.transforms_config
    texts = _instructions(meta, instructions)
    if parent.tokenizer.vocab_size == SIZE and "tokenizer_max_length" not in chosen:
        config = _with_tokenizer(config, parent.tokenizer.folder, texts, fits=True)
    transforms = Transforms(TransformsConfig(
        config, moved, parent.tokenizer, camera_map=cameras, profile=profile, instructions=texts, eps=parent.eps,
        extra=parent.extra,
    ))  # fmt: skip
    # The network for `config` around the same (where needed, widened) weights.
    model = filled_model(config, widen_weights(policy.model.state_dict(), policy.config, config))
    report = LoadReport(policy.report.source, "fine-tuning of", found_dtypes=policy.report.found_dtypes, notes=notes)
    lineage = _lineage(meta, {"parent": {"source": policy.report.source, **policy.lineage}})
    return Policy(
        model, transforms, lineage=lineage, report=fill_sizes(report, model), unused_weights=policy.unused_weights,
        demonstrated=kept,
    )  # fmt: skip


def _kept_limits(parent: Policy, profile: RobotProfile, notes: list[str]) -> Demonstrated | None:
    """The limits of the parent's demonstrations, where they are of the same joints."""
    found = parent.demonstrated
    kept = None if found is None else found.for_profile(profile)
    if found is not None and kept is None:
        notes.append(
            "operating limits: those of the parent's demonstrations are left out: its joints or units are others, or "
            "not known (--robot names the robot)"
        )
    return kept


def randomize_weights(policy: Policy, seed: int) -> None:
    """Give the policy's network fresh random weights, drawn from `seed`: what a training from scratch starts from."""
    fresh = SmolVLA(policy.config)
    fresh.initialize(torch.Generator().manual_seed(seed))
    policy.model.load_state_dict(fresh.state_dict())


def pair_for_training(parent: Policy, cameras: Sequence[str], given: Mapping[str, str | None] | None = None) -> Pairing:
    """The cameras of a dataset in the slots of the policy that is fine-tuned on it (`resolve_camera_map`)."""
    return resolve_camera_map(
        cameras, parent.config.real_cameras, given=given, saved=parent.transforms_config.camera_map, fine_tuning=True
    )


def _used(cameras: Mapping[str, str | None]) -> set[str]:
    return {camera for camera, slot in cameras.items() if slot is not None}


def _new_slots(meta: DatasetMeta, given: Mapping[str, str | None] | None) -> dict[str, str | None]:
    """The slots of a policy from scratch: as typed, else the dataset's own keys, as LeRobot calls them."""
    own: dict[str, str | None] = {name: camera_name(camera.key) for name, camera in meta.cameras.items()}
    return resolve_camera_map(meta.camera_names, None, given=own if given is None else given).map


def _features(
    meta: DatasetMeta,
    profile: RobotProfile,
    cameras: Mapping[str, str | None],
    chosen: Mapping[str, Any],
    parent: PolicyConfig | None = None,
) -> dict[str, Any]:
    """Fields of PolicyConfig that follow from dataset, profile and camera map, with the overrides checked."""
    fields = {item.name for item in dataclasses.fields(PolicyConfig)}
    for key in chosen:
        if key not in fields:
            raise UsageError(f"PolicyConfig has no field '{key}'.", fix=did_you_mean(key, fields))
    # Matches names, so that an unknown joint is an error before anything is built.
    map_layout(FrameLayout.of_dataset(meta), profile)
    state, action = len(profile.state_joints), len(profile.action_joints)
    check_dimensions(profile, len(meta.state_names), len(meta.action_names))
    limits = (parent.max_state_dim, parent.max_action_dim) if parent is not None else (32, 32)
    return {
        "state_dim": state,
        "action_dim": action,
        "image_shapes": _image_shapes(meta, profile, cameras, parent),
        "max_state_dim": _width(state, limits[0]),
        "max_action_dim": _width(action, limits[1]),
        **chosen,
    }


def _width(dim: int, limit: int) -> int:
    """The projections' width: the usual one, or the next multiple of 8 for more joints."""
    return max(limit, -(-dim // 8) * 8 if dim > limit else 0)


def _image_shapes(
    meta: DatasetMeta, profile: RobotProfile, cameras: Mapping[str, str | None], parent: PolicyConfig | None
) -> dict[str, tuple[int, int, int]]:
    for name in meta.camera_names:
        if profile.cameras and name not in profile.camera_names and cameras[name] is not None:
            raise ProfileError(
                f"The dataset has camera '{name}', which robot '{profile.name}' does not have.",
                expected=f"one of {', '.join(profile.camera_names)}",
                fix=f"{did_you_mean(name, profile.camera_names)} Or add it to a copy of the profile.",
            )
    known = parent.real_cameras if parent is not None else []
    by_slot = {slot: camera for camera, slot in cameras.items() if slot is not None}
    # The parent's order of slots, then new ones in the map's order.
    order = [slot for slot in known if slot in by_slot] + [slot for slot in by_slot if slot not in known]
    return {slot: (3, meta.cameras[by_slot[slot]].height, meta.cameras[by_slot[slot]].width) for slot in order}


def _refuse_architecture(chosen: Mapping[str, Any]) -> None:
    fixed = {"vlm", "num_vlm_layers", "num_expert_layers", "expert_width_multiplier", "attention_mode",
             "self_attn_every_n_layers"}  # fmt: skip
    wrong = sorted(fixed & chosen.keys())
    if wrong:
        raise UsageError(f"{wrong[0]} belongs to the trained weights and cannot be changed.", fix="leave it out")


def parent_statistics(policy: Policy, profile: RobotProfile) -> Statistics:
    """The parent's statistics in the profile's order; by name where the parent knows its joints."""
    fix = "take the dataset's statistics: --norm-stats dataset"
    if policy.report.statistics_problem:
        raise CheckpointError(
            policy.report.statistics_problem, fix=f"{fix}; or name others: --policy-stats-from DATASET"
        )
    parent = policy.profile
    try:
        if parent is None:
            check_dimensions(profile, policy.config.state_dim, policy.config.action_dim)
            return {key: dict(value) for key, value in policy.statistics.items()}
        return to_policy_order(policy.statistics, FrameLayout.of_profile(parent), profile)
    except ProfileError as error:
        theirs = [f"{dim} joints" for dim in (policy.config.state_dim, policy.config.action_dim)]
        if parent is not None:
            theirs = [_listed(parent.state_joints), _listed(parent.action_joints)]
        pairs = list(zip(theirs, (_listed(profile.state_joints), _listed(profile.action_joints)), strict=True))
        found, own = next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])
        raise TransformError(
            f"The parent's statistics are for {found}, this robot has {own}.",
            expected="the same joints on both sides",
            fix=fix,
        ) from error


def _listed(joints: Sequence[Joint]) -> str:
    return listed_joints([joint.name for joint in joints])


def _tokenizer_folder(preset_name: str, config: PolicyConfig, tokenizer_dir: str | Path | None) -> VLMFolder:
    if tokenizer_dir is not None:
        folder = VLMFolder.read(tokenizer_dir)
        if not folder.has_tokenizer:
            raise UsageError(f"{tokenizer_dir} has no tokenizer.json.", expected="the tokenizer files of SmolVLM2")
        return folder if folder.config() == config.vlm else folder.with_config(config.vlm)
    if preset_name == "tiny":
        return byte_level_folder(config.vlm)
    raise UsageError(
        f"The preset '{preset_name}' needs the tokenizer of SmolVLM2, which is not shipped.",
        expected="a folder with tokenizer.json, tokenizer_config.json and the processor files",
        fix="--tokenizer FOLDER (tokenizer_dir=); fetch it once with network: "
        "`hf download HuggingFaceTB/SmolVLM2-500M-Video-Instruct --include '*.json'`",
    )


def _with_tokenizer(config: PolicyConfig, folder: VLMFolder, texts: Sequence[str], *, fits: bool) -> PolicyConfig:
    """Special token ids, and for the byte-level tokenizer room for the longest instruction (one token per byte)."""
    tokenizer = PolicyTokenizer(folder)
    length = config.tokenizer_max_length
    if fits:
        longest = max((tokenizer.length(text) for text in texts), default=0)
        length = max(length, -(-longest // 16) * 16)
    return dataclasses.replace(
        config,
        tokenizer_max_length=length,
        fake_image_token_id=tokenizer.fake_image_token_id,
        global_image_token_id=tokenizer.global_image_token_id,
    )


def _instructions(meta: DatasetMeta, given: Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys(given if given is not None else meta.tasks.values()))


def _lineage(meta: DatasetMeta, more: Mapping[str, Any]) -> dict[str, Any]:
    dataset = {
        "name": meta.root.name,
        "fingerprint": meta.fingerprint,
        "episodes": len(meta.episodes),
        "frames": meta.total_frames,
    }
    return {"smolpilot": __version__, "dataset": dataset, **more}


def _note_dims(old: PolicyConfig, new: PolicyConfig, notes: list[str]) -> None:
    for what, before, after, width, wider in (
        ("state", old.state_dim, new.state_dim, old.max_state_dim, new.max_state_dim),
        ("action", old.action_dim, new.action_dim, old.max_action_dim, new.max_action_dim),
    ):
        if before != after:
            notes.append(f"{what}: {after} joints, the parent had {before}")
        if wider > width:
            notes.append(
                f"{what} projection widened from {width} to {wider}: the trained columns are kept, the added ones "
                "start at zero"
            )
