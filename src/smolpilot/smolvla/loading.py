"""load_policy: a bundle, a LeRobot checkpoint, a training run, a LoRA adapter or a hub id -> a policy ready to run."""

from __future__ import annotations

import dataclasses
import shlex
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smolpilot.common.errors import CheckpointError, ProfileError, UsageError
from smolpilot.common.hashing import Differences
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.progress import working
from smolpilot.common.text import plain, shown
from smolpilot.robots import RobotProfile
from smolpilot.robots.demonstrated import Demonstrated, read_demonstrated
from smolpilot.robots.layout import FrameLayout, to_policy_order

from .bundle import is_hub_name
from .checkpoint.facts import Facts
from .checkpoint.load_report import LoadReport
from .checkpoint.locate import (
    CONFIG,
    Located,
    cached_folder,
    existing,
    fetch_vlm_files,
    fetched_before,
    locate,
    looks_like_hub_id,
)
from .checkpoint.lora_adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter
from .checkpoint.processors import Processors, read_processors, statistic_of
from .checkpoint.sealing import FACTS, LIMITS, ROBOT, VLM, Comparison, check_digests, compared, renew
from .checkpoint.statistics_binding import Bound, bind_statistics, check_agreement
from .checkpoint.weight_files import WeightFile, has_weights, open_weights
from .checkpoint.weights import (
    UnusedWeights,
    WeightReport,
    check_weights,
    empty_model,
    inspect_weights,
    is_unused,
    load_model,
)
from .config import PolicyConfig, VLMConfig
from .config.json_file import read_json
from .config.other_versions import NEWEST
from .config.settings_form import Form, formed
from .config.vlm_folder import VLMFolder
from .policy import Policy, fill_sizes
from .transforms.normalize import EPS
from .transforms.tokenizer import PolicyTokenizer
from .transforms.transform_list import Transforms, TransformsConfig

# Its dimensions are VLMConfig's defaults, so that the network can be built without its config.json.
_PUBLIC_VLM = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"


@working("opening the policy")
def load_policy(
    path_or_hub_id: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    stats_from: str | Path | None = None,
    tokenizer_dir: str | Path | None = None,
    camera_map: Mapping[str, str | None] | None = None,
    need_statistics: bool = True,
    need_weights: bool = True,
    compare_digests: bool = True,
) -> Policy:
    """Load a policy; `policy.report` says what was found.

    device: `auto` is the GPU when there is one. dtype: `auto` is float32 on the CPU, elsewhere the widest dtype among
    the weights; a checkpoint of mixed dtypes becomes one. stats_from: a dataset whose statistics replace the
    checkpoint's. tokenizer_dir: folder with the tokenizer where the checkpoint carries none. camera_map: robot camera
    -> slot (None: not used), in place of the saved one. need_statistics: False loads a checkpoint without usable
    statistics too, as a parent for `adapt_policy`; it cannot run by itself then. need_weights: False leaves the weights
    in the file (they are checked by name and shape): the policy has its transforms, but cannot run. compare_digests:
    False for files that were changed on purpose.
    Raises UsageError (path, device, dtype), CheckpointError (incomplete, damaged, another policy), HubError.
    """
    begin = time.perf_counter()
    place, located = choose_device(device), locate(path_or_hub_id, revision)
    with compared(located.folder) if compare_digests else nullcontext(Comparison()) as comparison:
        read = _read(located, tokenizer_dir)
        kind = choose_dtype(dtype, place, read.found)
        bound = _statistics(read, stats_from, need=need_statistics)
        made_from = TransformsConfig(
            read.config,
            bound.statistics,
            read.tokenizer,
            camera_map=dict(camera_map) if camera_map is not None else _camera_map(read),
            profile=read.profile,
            instructions=tuple(read.facts.instructions) if read.facts else (),
            eps=read.processors.normalizer.eps if read.processors else EPS,
        )
        transforms = Transforms(made_from) if bound.problem is None else made_from
        if need_weights:
            change = read.adapter.merge if read.adapter else None
            model = load_model(read.config, read.weights, read.found, device=place, dtype=kind, change=change)
        else:
            model = empty_model(read.config)
        policy = Policy(
            model,
            transforms,
            lineage=read.facts.lineage if read.facts else {"parent": located.source},
            report=fill_sizes(_report(read, located.source, bound, merged=need_weights), model),
            unused_weights=UnusedWeights(read.weights, read.found.unused) if read.found.unused else None,
            demonstrated=read.demonstrated,
        )
    policy.report.digests = comparison.text
    policy.load_seconds = time.perf_counter() - begin
    return policy


@working("opening the bundle")
def seal_bundle(
    path: str | Path, check: Callable[[Policy], object] = lambda policy: None
) -> tuple[Path, Differences | None]:
    """Write the digests of a bundle that was changed on purpose, after it was loaded as a run would load it.

    Returns its folder and what is not as the old digests said (None: it had none). A run folder stands for its best
    checkpoint, as in `load_policy`. `check` may refuse the policy. Raises UsageError for a path that does not exist,
    CheckpointError for a folder that is no bundle, or does not load.
    """
    if not Path(path).expanduser().exists():
        raise UsageError(f"There is no bundle at {path}.", fix="check the path")
    located = locate(path)
    if not (located.folder / FACTS).is_file():
        raise CheckpointError(
            f"{located.folder} is no bundle: it has no {FACTS}, where digests are kept.",
            expected="a bundle, as training and save_bundle write it",
        )
    check(load_policy(located.folder, device="cpu", compare_digests=False))
    return located.folder, renew(located.folder)


def choose_device(device: str | torch.device) -> torch.device:
    """`auto` is cuda when there is one, else cpu; UsageError for a device that is not here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        # For a name that torch does not know it lists two dozen others.
        known = str(device).split(":")[0] in ("cpu", "cuda", "mps")
        raise UsageError(
            f"The device '{device}' cannot be used here" + (f": {str(error).splitlines()[0]}" if known else "."),
            expected="auto, cpu, or cuda where there is a GPU",
            fix="leave it at auto; `smolpilot doctor` shows what is here",
        ) from error
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device, found: WeightReport) -> torch.dtype:
    """`auto`: float32 on the CPU, else the widest floating dtype in the file."""
    if isinstance(dtype, torch.dtype):
        chosen: Any = dtype
    elif dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        kinds = {kind for entry in found.dtypes.values() for kind in entry.split("+")}
        chosen = getattr(torch, next(iter(kinds))) if len(kinds) == 1 and kinds != {"float64"} else torch.float32
    else:
        chosen = getattr(torch, str(dtype).removeprefix("torch."), None)
    if chosen not in (torch.float32, torch.bfloat16, torch.float16):
        raise UsageError(f"The dtype is {dtype!r}.", expected="auto, float32, bfloat16 or float16")
    narrow: torch.dtype = chosen
    return narrow


@dataclass
class _Checkpoint:
    """What the files of a checkpoint say."""

    adapter: Adapter | None
    weights: WeightFile
    tokenizer: PolicyTokenizer
    processors: Processors | None
    facts: Facts | None
    profile: RobotProfile | None
    demonstrated: Demonstrated | None
    config: PolicyConfig
    found: WeightReport


class _Names(Form):
    """What `config.json` says of where other files are."""

    vlm_model_name: str = _PUBLIC_VLM


def _read(located: Located, tokenizer_dir: str | Path | None) -> _Checkpoint:
    """Everything but the weights themselves, which are checked by name, dtype and shape."""
    folder = located.folder
    adapter = Adapter(folder) if _is_adapter(folder) else None
    base = _base_of(adapter, located) if adapter is not None else None
    home = folder if (folder / CONFIG).is_file() else base
    if home is None or not (home / CONFIG).is_file():
        raise CheckpointError(f"{home or folder} has no {CONFIG}.", expected="a whole checkpoint folder")
    values = read_json(home / CONFIG)
    if values.get("type") != "smolvla":
        raise CheckpointError(
            f"{home} holds a policy of type {shown(values.get('type'))}.",
            expected="a SmolVLA checkpoint (config.json with type 'smolvla')",
            fix="name a SmolVLA checkpoint; `eval`, `rollout` and `bench` run LeRobot's other policies, too",
        )
    vlm_name = formed(_Names, values, home / CONFIG).vlm_model_name
    weights = open_weights(base or folder)
    if base is not None:
        check_digests(base)
    tokenizer = PolicyTokenizer(_vlm_folder(vlm_name, located, base, tokenizer_dir))
    processors = read_processors(folder) or (read_processors(base) if base else None)
    facts, profile = Facts.read(folder), _profile(folder)
    demonstrated = _demonstrated(folder, profile)
    config = PolicyConfig.from_lerobot(
        values,
        _dimensions(tokenizer.folder, vlm_name),
        home / CONFIG,
        fake_image_token_id=tokenizer.fake_image_token_id,
        global_image_token_id=tokenizer.global_image_token_id,
    )
    if processors is not None:
        # LeRobot runs a saved policy by its processor files, whatever config.json says about the same matters.
        config = dataclasses.replace(
            config,
            normalization_mapping=processors.normalizer.norm_map,
            pad_language_to=processors.tokenizer.padding or config.pad_language_to,
            tokenizer_max_length=processors.tokenizer.max_length or config.tokenizer_max_length,
        )
    if facts is not None:
        config = dataclasses.replace(config, newer=facts.lerobot_keys | config.newer)
    found = inspect_weights(weights, config)
    check_weights(found, weights)
    return _Checkpoint(adapter, weights, tokenizer, processors, facts, profile, demonstrated, config, found)


def _is_adapter(folder: Path) -> bool:
    """Whether a folder is to be read as an adapter: LeRobot's use_peft decides where it has whole weights as well."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    if not has_weights(folder):
        return True
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return bool(config.get("use_peft")) and (folder / ADAPTER_WEIGHTS).is_file()


def _base_of(adapter: Adapter, located: Located) -> Path:
    """The folder of the policy under an adapter; relative paths are tried against the adapter's folder, too.

    An adapter in a folder is no leave to ask the hub: what the user did not name is looked for in the cache only.
    """
    folder, base = located.folder, adapter.base
    for place in (base, folder / base):
        if (found := existing(place)) is not None:
            return locate(found).folder
    if not looks_like_hub_id(base):
        raise CheckpointError(
            f"The adapter {folder} needs its base policy {plain(base, 200)}, which does not exist here.",
            fix=f"copy it there, or correct base_model_name_or_path in {ADAPTER_CONFIG}",
        )
    if located.from_hub:
        return locate(base, adapter.revision).folder
    cached = fetched_before(base, adapter.revision)
    if cached is None:
        revision = f" --revision {shlex.quote(adapter.revision)}" if adapter.revision else ""
        raise CheckpointError(
            f"The adapter {folder} needs its base policy, the hub id '{base}' (base_model_name_or_path), which is not "
            "in the hub's cache. Nothing is fetched for a local folder.",
            expected="the base policy in the cache or in a folder",
            fix=f"fetch it once, with network: `hf download {base}{revision}`; or write the path of a copy as "
            f"base_model_name_or_path into {ADAPTER_CONFIG}",
        )
    return locate(cached).folder


def _vlm_folder(name: str, located: Located, base: Path | None, tokenizer_dir: str | Path | None) -> VLMFolder:
    """Tokenizer and config of the vision-language model: given, in the bundle, by path, in the cache, or by hub."""
    if tokenizer_dir is not None:
        if not Path(tokenizer_dir).expanduser().is_dir():
            raise UsageError(f"There is no folder {tokenizer_dir} with a tokenizer.", fix="check --tokenizer")
        return VLMFolder.read(Path(tokenizer_dir).expanduser())
    places: list[str | Path] = [located.folder / VLM, *([base / VLM] if base else []), name]
    for place in map(existing, places):
        if place is not None and place.is_dir() and (place / CONFIG).is_file():
            return VLMFolder.read(place)
    cached = cached_folder(name) if is_hub_name(name) else None
    if cached is not None and VLMFolder.read(cached).has_tokenizer:
        return VLMFolder.read(cached)
    if located.from_hub and is_hub_name(name):
        return VLMFolder.read(fetch_vlm_files(name))
    wanted = name if looks_like_hub_id(name) else _PUBLIC_VLM
    raise CheckpointError(
        f"The checkpoint has no tokenizer of its own; it names '{plain(name, 200)}', which is no folder here and not "
        "in the hub's cache.",
        expected="the config and tokenizer files of that vision-language model (config.json, tokenizer.json, "
        "tokenizer_config.json)",
        fix="name a folder that has them: --tokenizer FOLDER (load_policy(..., tokenizer_dir=FOLDER)), "
        f"or fetch them once with network: `hf download {wanted} --include '*.json'`",
    )


def _dimensions(vlm: VLMFolder, name: str) -> VLMConfig:
    """Of the vision-language model `name`, by its folder."""
    dims = vlm.config()
    if dims is None and name != _PUBLIC_VLM:
        raise CheckpointError(
            f"{vlm.origin} has no config.json.",
            expected=f"the dimensions of '{plain(name, 200)}' beside its tokenizer",
        )
    return dims or VLMConfig()


def _profile(folder: Path) -> RobotProfile | None:
    if not (folder / ROBOT).is_file():
        return None
    try:
        return RobotProfile.load(folder / ROBOT)
    except ProfileError as error:
        # The user wrote none: the bundle is damaged.
        more = f" ({error.fix})" if error.fix else ""
        raise CheckpointError(error.found, expected=error.expected, fix=f"copy the bundle again{more}") from error


def _demonstrated(folder: Path, profile: RobotProfile | None) -> Demonstrated | None:
    """The limits of the demonstrations that a bundle keeps, which are of its robot's joints."""
    found = read_demonstrated(folder)
    if found is None or profile is None:
        return found
    own = found.for_profile(profile)
    if own is None:
        raise CheckpointError(
            f"{folder / LIMITS} is of other joints or units than {ROBOT}.",
            expected="the limits of the robot's own joints",
            fix=f"copy the bundle again; or remove {LIMITS}, then: smolpilot bundle seal {shlex.quote(str(folder))}",
        )
    return own


def _statistics(read: _Checkpoint, stats_from: str | Path | None, *, need: bool) -> Bound:
    if stats_from is not None:
        return _dataset_statistics(stats_from, read.config, read.profile)
    in_weights = {name: statistic_of(read.weights, name) for name in read.found.normalization}
    before, after = (read.processors.before, read.processors.after) if read.processors is not None else ({}, {})
    names = _joint_names(read.profile)
    check_agreement(before, after, names)
    try:
        return bind_statistics(before, after, in_weights, read.config, names)
    except CheckpointError as error:
        if need:
            raise
        return Bound(problem=error.found)


def _joint_names(profile: RobotProfile | None) -> dict[str, list[str]]:
    if profile is None:
        return {}
    pairs = ((STATE, profile.state_joints), (ACTION, profile.action_joints))
    return {feature: [joint.name for joint in joints] for feature, joints in pairs}


def _dataset_statistics(path: str | Path, config: PolicyConfig, profile: RobotProfile | None) -> Bound:
    """Statistics of a dataset's state and action in the policy's joint order; CheckpointError when they do not fit."""
    from smolpilot.datasets.statistics.stored_statistics import folder_statistics

    # Computed: the stored ones are those of whatever the files were before.
    meta, computed = folder_statistics(path)
    for feature, dim in ((STATE, config.state_dim), (ACTION, config.action_dim)):
        found = meta.features[feature].shape[0] if feature in meta.features else 0
        if found != dim:
            raise CheckpointError(
                f"'{feature}' of {path} has {found} values, the policy's has {dim}.",
                expected="statistics of the robot that the policy was trained for",
            )
    statistics = to_policy_order(computed, FrameLayout.of_dataset(meta), profile)
    return Bound(statistics, dict.fromkeys(statistics, f"dataset {Path(path).name}"))


def _camera_map(read: _Checkpoint) -> dict[str, str | None]:
    if read.facts is not None:
        return dict(read.facts.camera_map)
    renamed: dict[str, str | None] = dict(read.processors.camera_map) if read.processors is not None else {}
    # LeRobot renames whatever a frame has; a name that no slot has is left lying there.
    renamed = {camera: slot if slot in read.config.cameras else None for camera, slot in renamed.items()}
    taken = set(renamed.values())
    return {**{slot: slot for slot in read.config.real_cameras if slot not in taken}, **renamed}


def _report(read: _Checkpoint, source: str, bound: Bound, *, merged: bool) -> LoadReport:
    """What was found, and what of the files was merged, kept or left out."""
    adapter, config, found = read.adapter, read.config, read.found
    what = "LoRA adapter" if adapter is not None else "bundle" if read.facts is not None else "LeRobot checkpoint"
    report = LoadReport(
        source, what, harmless=found.harmless, normalization=found.normalization, found_dtypes=found.dtypes,
        statistics=bound.origin, statistics_problem=bound.problem or "",
    )  # fmt: skip
    if bound.problem is not None:
        report.notes.append(f"without statistics, so only good as a parent: {bound.problem}")
    if adapter is not None and merged:
        report.notes.append(f"LoRA adapter merged into {adapter.base}")
        if dropped := adapter.leftovers(lambda name: is_unused(name, config)):
            report.notes.append(f"parts of the adapter that no action depends on were left out: {', '.join(dropped)}")
    if config.newer:
        kept = ", ".join(f"{plain(key, 80)} {shown(value)}" for key, value in config.newer.items())
        report.notes.append(f"config.json is of another LeRobot than {NEWEST}; kept, without effect on actions: {kept}")
    if read.processors is not None:
        report.notes += read.processors.notes
    if read.weights.unlisted:
        report.notes.append(f"not read, since the index does not list it: {', '.join(read.weights.unlisted)}")
    if read.facts is None and config.n_action_steps == config.chunk_size and config.chunk_size > 10:
        text = (
            f"n_action_steps is {config.n_action_steps}, the whole chunk: the robot runs it blindly to its end. "
            "Shorter horizons do better; try policy.n_action_steps = 10."
        )
        report.warnings.append(text)
        warnings.warn(text, stacklevel=3)
    return report
