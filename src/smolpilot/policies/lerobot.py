"""LeRobot's own policies behind the contract: ACT, diffusion, VQ-BeT, SmolVLA as LeRobot computes it, and others.

The one file in which smolpilot imports lerobot; loaded only when such a checkpoint is opened.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError, SmolpilotError, TransformError, UsageError, did_you_mean
from smolpilot.common.json_input import read_json_file
from smolpilot.common.keys import ACTION, IMAGES, PADDING_MASK, STATE, TASK, camera_name, image_key
from smolpilot.common.statistics import Statistics
from smolpilot.common.text import plain, shown
from smolpilot.contracts.observation import HISTORY, Floats, Observation
from smolpilot.contracts.policy import (
    RANDOM,
    TIMED,
    Embodiment,
    Leftover,
    Policy,
    PolicyFacts,
    PolicyOptions,
    PolicySpec,
)
from smolpilot.smolvla.checkpoint.locate import CONFIG
from smolpilot.smolvla.loading import choose_device
from smolpilot.smolvla.network.noise import finite_chunk
from smolpilot.smolvla.policy import network_sizes
from smolpilot.smolvla.transforms.camera_slots import pair_embodiment
from smolpilot.smolvla.transforms.frame_cameras import camera_key, check_cameras, has_image
from smolpilot.smolvla.transforms.images import to_unit_range

from .checked_observations import read_instruction, read_state, refuse_previous

BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
_INSTALL = "pip install 'smolpilot[lerobot]'"
_MIGRATE = "python -m lerobot.processor.migrate_policy_normalization --pretrained-path"

# Their tests compare them with LeRobot's own tools on the same frames.
_COMPARED = ("act", "diffusion", "smolvla", "vqbet")
# The same observation gives the same chunk.
_FIXED = ("act",)
# These compute on images as they are, at one size; the others resize.
_ONE_SIZE = ("act", "diffusion", "multi_task_dit", "vqbet")
_REFUSED = {
    "tdmpc": "it plans anew at each step from its own last plan, and gives no chunk of one observation",
    "gaussian_actor": "it gives single actions, no chunks",
    # Their tokenizers are Python files that a checkpoint names: opening one would run a stranger's code.
    "pi0_fast": "its action tokenizer is code that the checkpoint names, and that would be run",
    "groot": "its backbone is code that the checkpoint names, and that would be run",
    "wall_x": "its action tokenizer is code that the checkpoint names, and that would be run",
}
_CODE_STEPS = ("action_tokenizer_processor",)


class LeRobotPolicy(Policy):
    """A chunk as LeRobot's own tools make it: the checkpoint's pre-processor, policy, post-processor."""

    spec: PolicySpec

    def __init__(self, network: Any, before: Any, after: Any, spec: PolicySpec, device: torch.device) -> None:
        self._network, self._before, self._after = network, before, after
        self.spec, self._device, self._kind = spec, device, str(network.config.type)
        self._reads_text = any("tokenizer" in str(type(step)).lower() for step in before.steps)
        self._sizes = spec.image_sizes if self._kind in _ONE_SIZE and not _resizes(network.config) else {}
        self._ms: dict[str, float] = {}

    @property
    def last_ms(self) -> Mapping[str, float]:
        """Milliseconds of the newest prediction: `transforms` (both processors), `network`, `total`."""
        return dict(self._ms)

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """As the contract says. A seed fixes what LeRobot draws, and leaves torch's global generator as it was; SmolVLA
        starts from the noise that smolpilot's SmolVLA has for that seed.
        """
        refuse_previous(previous, f"LeRobot's {self._kind}")
        begin = time.perf_counter()
        steps = [self._steps(one) for one in observations]
        self._ms = {"network": 0.0}
        if not steps:
            chunks = torch.zeros(0, self.spec.chunk_size, self.spec.action_dim)
        elif self._kind in _FIXED:
            chunks = self._chunks(steps, None)
        else:  # one by one: what is drawn must not depend on the others
            chunks = torch.cat(
                [self._chunks([one], None if seeds is None else seeds[i]) for i, one in enumerate(steps)]
            )
        finite_chunk(chunks, self.spec.action_names)
        self._ms["total"] = (time.perf_counter() - begin) * 1e3
        self._ms["transforms"] = self._ms["total"] - self._ms["network"]
        return np.asarray(chunks.numpy(), dtype=np.float32)

    def reset(self) -> None:
        """Nothing is left behind: each prediction starts from empty queues."""
        self._network.reset()

    def close(self) -> None:
        """Let go of the network."""
        del self._network

    def _steps(self, observation: Observation) -> list[dict[str, Any]]:
        """What LeRobot reads of an observation and of those before it: `n_obs_steps` frames, oldest first."""
        count = self.spec.n_obs_steps
        if count == 1:
            return [self._frame(observation)]
        if HISTORY not in observation:
            raise TransformError(
                f"{self._kind} reads the last {count} observations, one step apart; this one brings no '{HISTORY}'.",
                expected=f"the {count - 1} before it as '{HISTORY}' (at the start of an episode: those that there are)",
                fix="give it by smolpilot.contracts.History, at each step of the episode",
            )
        seen = [*list(observation[HISTORY])[-(count - 1) :], observation]
        frames = [self._frame(one) for one in seen]
        # As LeRobot begins an episode: its first observation as often as there is none before it.
        return [*[frames[0]] * (count - len(frames)), *frames]

    def _frame(self, observation: Observation) -> dict[str, Any]:
        """State, images under the checkpoint's names, instruction; TransformError for what does not fit."""
        spec = self.spec
        check_cameras(observation, spec.facts.camera_map)
        frame: dict[str, Any] = {TASK: read_instruction(observation) if self._reads_text else observation.get(TASK, "")}
        names = [joint.name for joint in spec.profile.state_joints] if spec.profile is not None else []
        frame[STATE] = torch.from_numpy(read_state(observation, spec.state_dim, names))
        for camera, slot in spec.facts.camera_map.items():
            if slot is None:
                continue
            image = to_unit_range(observation[camera_key(observation, camera)], camera)
            expected, found = self._sizes.get(camera), tuple(image.shape[1:])
            if expected is not None and found != expected:
                raise TransformError(
                    f"The image of camera '{camera}' has {found[0]} x {found[1]} pixels (height x width).",
                    expected=f"{expected[0]} x {expected[1]}, as the policy was trained: {self._kind} does not resize",
                    fix="set the camera to that size",
                )
            frame[image_key(slot)] = image
            if not has_image(observation, camera):
                if self._kind != "smolvla":
                    raise TransformError(
                        f"Camera '{camera}' delivers no image.", expected=f"one from each camera of {self._kind}"
                    )
                frame[f"{image_key(slot)}{PADDING_MASK}"] = torch.tensor([False])
        return frame

    def _chunks(self, samples: Sequence[list[dict[str, Any]]], seed: int | None) -> Tensor:
        """Chunks [B, H, A] in robot units, of samples that each hold the frames of their steps."""
        batches = [self._ready([sample[step] for sample in samples]) for step in range(self.spec.n_obs_steps)]
        noise = {}
        if self._kind == "smolvla" and seed is not None:
            config = self._network.config
            shape = (len(samples), config.chunk_size, config.max_action_dim)
            drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            noise = {"noise": drawn.to(self._device)}
        begin = time.perf_counter()
        with torch.no_grad(), _drawn(seed, self._device):
            chunks = self._network.predict_action_chunk(self._with_queues(batches), **noise).cpu()
        self._ms["network"] += (time.perf_counter() - begin) * 1e3
        chunks = torch.as_tensor(self._after(chunks)).float()
        expected = (len(samples), self.spec.chunk_size, self.spec.action_dim)
        if tuple(chunks.shape) != expected:
            raise CheckpointError(
                f"LeRobot's {self._kind} gives chunks of shape {list(chunks.shape)}.", expected=f"{list(expected)}"
            )
        return chunks

    def _ready(self, frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The pre-processor's batch of one step."""
        masks = {key: value for key, value in frames[0].items() if key.endswith(PADDING_MASK)}
        keys = [key for key in frames[0] if key not in masks and key != TASK]
        batch = {key: torch.stack([frame[key] for frame in frames]) for key in keys}
        ready = self._before({**batch, TASK: [frame[TASK] for frame in frames]})
        return {**ready, **{key: mask.to(self._device) for key, mask in masks.items()}}

    def _with_queues(self, batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The newest batch; policies that read their observations from queues get them filled step by step.

        As `select_action` of LeRobot 0.6.1 does it (policies/diffusion/modeling_diffusion.py, vqbet, multi_task_dit).
        """
        from lerobot.policies.utils import populate_queues

        self._network.reset()
        queues = getattr(self._network, "_queues", {})
        newest = {key: value for key, value in batches[-1].items() if key != ACTION}
        for batch in batches:
            newest = {key: value for key, value in batch.items() if key != ACTION}
            if IMAGES in queues:
                newest[IMAGES] = torch.stack([newest[key] for key in self._network.config.image_features], dim=-4)
            if STATE in queues:
                populate_queues(queues, newest)
        return newest


def open_lerobot(folder: str | Path, options: PolicyOptions, embodiment: Embodiment | None) -> LeRobotPolicy:
    """The policy of a checkpoint folder that LeRobot 0.6.1 wrote, other than smolpilot's own SmolVLA.

    The checkpoint names no joints: names, units and robot are the embodiment's, where it has as many. Its cameras fill
    the checkpoint's image inputs by name, or as `options.camera_map` says. Raises UsageError where LeRobot or a package
    of this policy is not installed, for options that it does not have, and for joints or cameras that do not fit;
    CheckpointError for what LeRobot cannot load, and for policies that give no chunks or would run a stranger's code.
    """
    return _opened(Path(folder), options, embodiment, as_built=True)


def open_beside(folder: Path, options: PolicyOptions, embodiment: Embodiment | None) -> dict[str, LeRobotPolicy]:
    """LeRobot's policy twice: with float32 weights, and in the precisions in which LeRobot builds it.

    What `smolpilot bench --against lerobot` measures beside smolpilot's own.
    """
    return {
        "LeRobot float32": _opened(folder, options, embodiment, as_built=False),
        "LeRobot as built": _opened(folder, options, embodiment, as_built=True),
    }


def _opened(folder: Path, options: PolicyOptions, embodiment: Embodiment | None, *, as_built: bool) -> LeRobotPolicy:
    begin = time.perf_counter()
    if importlib.util.find_spec("lerobot") is None:
        raise UsageError("LeRobot is not installed beside smolpilot.", expected="lerobot 0.6", fix=_INSTALL)
    kind = _kind(folder)
    options.only(f"LeRobot's {kind}", "device", "camera_map", "num_steps")
    device = choose_device(options.device)
    _stay_offline()
    with _told(folder, kind), _quiet():
        from lerobot.policies import get_policy_class

        config = _config(folder, kind, device, options.num_steps)
        _check_inputs(config, kind)
        steps = _check_steps(folder)
        network = get_policy_class(kind).from_pretrained(folder, config=config, strict=True)
        before, after = _processors(folder, config, device, steps)
    if not as_built:
        network = network.float()
    network.to(device).eval()
    spec = _spec(folder, network, options, embodiment, _statistics(before, after), begin)
    return LeRobotPolicy(network, before, after, spec, device)


def _kind(folder: Path) -> str:
    """The policy type in config.json, as LeRobot registers it."""
    try:
        values = read_json_file(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} cannot be read: {plain(error, 300)}", expected="the config of a LeRobot policy"
        ) from error
    kind = values.get("type") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise CheckpointError(
            f"{folder / CONFIG} has the type {shown(kind)}.", expected="the name of a LeRobot policy, such as act"
        )
    if kind in _REFUSED:
        raise CheckpointError(
            f"LeRobot's {kind} is not opened: {_REFUSED[kind]}.",
            expected="a policy that predicts chunks of actions, such as act, diffusion or smolvla",
        )
    return kind


def _config(folder: Path, kind: str, device: torch.device, num_steps: int | None) -> Any:
    """LeRobot's configuration, such that building the network fetches and compiles nothing."""
    import lerobot.policies  # noqa: F401  # registers the types
    from lerobot.configs import PreTrainedConfig

    known = list(PreTrainedConfig.get_known_choices())
    if kind not in known:
        raise CheckpointError(
            f"LeRobot {importlib.metadata.version('lerobot')} has no policy '{plain(kind, 80)}'.",
            fix=did_you_mean(kind, known),
        )
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = str(device)
    # All weights come from the checkpoint.
    for name, value in (("pretrained_backbone_weights", None), ("load_vlm_weights", False), ("compile_model", False)):
        if hasattr(config, name):
            setattr(config, name, value)
    if num_steps is not None:
        setting = next((one for one in ("num_steps", "num_inference_steps") if hasattr(config, one)), None)
        if setting is None:
            raise UsageError(f"--num-steps is given, but LeRobot's {kind} has no denoising steps.", fix="leave it out")
        setattr(config, setting, num_steps)
    if config.use_peft:
        raise CheckpointError(
            f"{folder} is a LoRA adapter of LeRobot's {kind}.", expected="a whole policy", fix="merge the adapter first"
        )
    return config


def _check_inputs(config: Any, kind: str) -> None:
    """CheckpointError for what no camera and no joint gives."""
    if config.action_feature is None:
        raise CheckpointError(f"This {kind} predicts no '{ACTION}'.", expected=f"'{ACTION}' in output_features")
    if config.robot_state_feature is None:
        raise CheckpointError(
            f"This {kind} reads no '{STATE}', without which LeRobot 0.6.1 itself cannot run it.",
            expected=f"'{STATE}' in input_features",
        )
    if config.env_state_feature is not None:
        name = next(key for key, one in config.input_features.items() if one == config.env_state_feature)
        raise CheckpointError(
            f"This {kind} reads '{name}', the state of a simulation, which no camera and no joint gives.",
            expected="a policy that reads images and joints",
        )


def _check_steps(folder: Path) -> dict[str, list[str]]:
    """The names of the steps of both processors; CheckpointError where they are missing, or name code to run.

    LeRobot imports whatever class a step names and calls it with the values beside it.
    """
    from lerobot.processor import ProcessorStepRegistry

    known = set(ProcessorStepRegistry.list())
    found: dict[str, list[str]] = {}
    if not (folder / BEFORE).is_file() or not (folder / AFTER).is_file():
        raise CheckpointError(
            f"{folder} lacks {BEFORE} or {AFTER}: it is not complete, or LeRobot before 0.4 wrote it, which kept the "
            "statistics among the weights.",
            expected="a checkpoint as LeRobot 0.4 to 0.6 writes it",
            fix=f"LeRobot converts it into {folder}_migrated: {_MIGRATE} {folder}",
        )
    for name in (BEFORE, AFTER):
        try:
            steps = read_json_file(folder / name)["steps"]
            names = [step.get("registry_name", step.get("class")) for step in steps]
            settings = [str(step.get("config")) for step in steps]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{folder / name} cannot be read: {plain(error, 300)}", expected="the steps of a processor of LeRobot"
            ) from error
        for step, config in zip(names, settings, strict=True):
            if step not in known or step in _CODE_STEPS or "trust_remote_code" in config:
                raise CheckpointError(
                    f"{folder / name} names the step {shown(step)}, which is not LeRobot's own, or runs other code.",
                    expected="steps that LeRobot registers",
                )
        found[name] = names
    return found


def _processors(folder: Path, config: Any, device: torch.device, steps: Mapping[str, list[str]]) -> tuple[Any, Any]:
    """The checkpoint's own; CheckpointError where a statistic is missing: LeRobot would pass the raw number."""
    from lerobot.configs import NormalizationMode
    from lerobot.policies import make_pre_post_processors

    place = {"device_processor": {"device": str(device)}} if "device_processor" in steps[BEFORE] else {}
    before, after = make_pre_post_processors(config, str(folder), preprocessor_overrides=place)
    used = {*config.input_features, ACTION}
    for pipeline in (before, after):
        for step in pipeline.steps:
            for key, feature in getattr(step, "features", {}).items():
                mode = step.norm_map.get(feature.type, NormalizationMode.IDENTITY)
                needed = key in used if pipeline is before else key == ACTION
                if needed and mode is not NormalizationMode.IDENTITY and key not in (step.stats or {}):
                    raise CheckpointError(
                        f"The processors of {folder} normalize '{key}' by {mode.value}, but hold no statistics of it.",
                        expected="the statistics of the training data: without them LeRobot passes raw numbers",
                    )
    return before, after


def _statistics(before: Any, after: Any) -> Statistics:
    """Those of state and action, in the checkpoint's joint order and units."""
    found: Statistics = {}
    for pipeline in (before, after):
        for step in pipeline.steps:
            for key in (STATE, ACTION):
                stored = (getattr(step, "stats", None) or {}).get(key)
                if stored and key not in found:
                    found[key] = {name: np.asarray(value, np.float64).reshape(-1) for name, value in stored.items()}
    return found


def _spec(
    folder: Path, network: Any, options: PolicyOptions, embodiment: Embodiment | None, statistics: Statistics,
    begin: float,
) -> PolicySpec:  # fmt: skip
    config, kind = network.config, str(network.config.type)
    # LeRobot fills the inputs of this name by itself (empty_cameras).
    images = {key: one.shape for key, one in config.image_features.items() if "empty_camera" not in key}
    pairing = pair_embodiment([camera_name(key) for key in images], embodiment, options.camera_map)
    used = {camera: slot for camera, slot in pairing.map.items() if slot is not None}
    body = embodiment if embodiment is not None else Embodiment("nobody")
    state_dim, action_dim = config.robot_state_feature.shape[0], config.action_feature.shape[0]
    profile = body.profile
    action_names = tuple(one.name for one in profile.action_joints) if profile is not None else body.action_names
    state_names = tuple(one.name for one in profile.state_joints) if profile is not None else body.state_names
    for what, names, width in (("state", state_names, state_dim), (ACTION, action_names, action_dim)):
        if names and len(names) != width:
            raise UsageError(
                f"The {what} of {body.owner} has {len(names)} joints ({', '.join(names)}), this {kind}'s has {width}.",
                expected="the robot that the policy was trained for",
            )
    chunk = next(
        getattr(config, name) for name in ("chunk_size", "action_chunk_size", "n_action_steps") if hasattr(config, name)
    )
    if kind in ("diffusion", "multi_task_dit"):  # of their horizon they give what is to be executed
        chunk = config.n_action_steps
    horizon = min(int(getattr(config, "n_action_steps", chunk)), int(chunk))
    return PolicySpec(
        name=kind,
        state_dim=state_dim,
        action_dim=action_dim,
        chunk_size=int(chunk),
        n_action_steps=horizon,
        cameras=tuple(used),
        profile=profile,
        action_names=action_names,
        action_units=tuple(one.unit for one in profile.action_joints) if profile is not None else (),
        rate=body.rate,
        n_obs_steps=int(getattr(config, "n_obs_steps", 1)),
        image_sizes={camera: tuple(images[image_key(slot)][1:]) for camera, slot in used.items()},
        statistics=statistics,
        capabilities=frozenset({TIMED} if kind in _FIXED else {TIMED, RANDOM}),
        facts=PolicyFacts(
            source=str(folder),
            kind=kind,
            device=config.device,
            **vars(network_sizes(network)),
            load_seconds=time.perf_counter() - begin,
            num_steps=getattr(config, "num_steps", None) or getattr(config, "num_inference_steps", None),
            camera_map=pairing.map,
            notes=(*pairing.notes, *_notes(config, kind, embodiment)),
            warnings=tuple(pairing.warnings),
        ),
    )


def _notes(config: Any, kind: str, embodiment: Embodiment | None) -> list[str]:
    """What a report should say of it."""
    notes = []
    if embodiment is not None:
        notes.append(
            f"LeRobot's checkpoint names no joints: their names, order and units are those of {embodiment.owner}"
        )
    if getattr(config, "temporal_ensemble_coeff", None) is not None:
        notes.append("temporal ensembling is LeRobot's select_action; here each plan's first action is executed alone")
    if kind not in _COMPARED:
        notes.append(f"LeRobot's {kind} is run as it is; smolpilot's tests do not compare it with LeRobot's own tools")
    return notes


def _resizes(config: Any) -> bool:
    return any(getattr(config, name, None) is not None for name in ("resize_shape", "image_resize_shape"))


def _stay_offline() -> None:
    """The folder holds all that LeRobot needs. The hub's package reads the variable once: it may be loaded already."""
    import huggingface_hub.constants

    if "HF_HUB_OFFLINE" not in os.environ:
        os.environ["HF_HUB_OFFLINE"] = "1"
        huggingface_hub.constants.HF_HUB_OFFLINE = True


@contextlib.contextmanager
def _drawn(seed: int | None, device: torch.device) -> Iterator[None]:
    """What torch draws inside is fixed by the seed, and moves nothing on outside; None: as it comes."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _told(folder: Path, kind: str) -> Iterator[None]:
    """What LeRobot raises while it loads, as one error."""
    try:
        yield
    except SmolpilotError:
        raise
    except ImportError as error:
        extras = importlib.metadata.metadata("lerobot").get_all("Provides-Extra") or []
        extra = next((one for one in (kind, kind.replace("_", "-")) if one in extras), "all")
        raise UsageError(
            f"LeRobot's {kind} needs a package that is not installed: {plain(error, 300)}",
            fix=f"pip install 'lerobot[{extra}]==0.6.1'",
        ) from error
    except Exception as error:  # LeRobot, draccus, transformers, safetensors: each has its own
        raise CheckpointError(
            f"LeRobot cannot load the {kind} in {folder}: {type(error).__name__}: {plain(error, 400)}",
            expected="a checkpoint as LeRobot 0.6.1 writes it, with all that it names in the folder",
            fix="copy or download the folder again; LeRobot itself says more: "
            f"lerobot.policies.get_policy_class('{kind}').from_pretrained(FOLDER)",
        ) from error
