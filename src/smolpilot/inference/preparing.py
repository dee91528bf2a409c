"""`prepare`: from a policy or a bundle to a running engine, checked against the plain network."""

from __future__ import annotations

import copy
import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.hashing import content_name, folder_digest, tensors_digest
from smolpilot.common.keys import ACTION
from smolpilot.smolvla import Policy, SmolVLA, load_policy
from smolpilot.smolvla.checkpoint.locate import locate
from smolpilot.smolvla.config import check_steps
from smolpilot.smolvla.loading import choose_device
from smolpilot.smolvla.network.inputs import PolicyInputs

from .backends import choose_backend, choose_precision, load_backend
from .backends.backend import EngineSpec, Mode
from .backends.parity_check import LIMITS, default_folder, engine_key
from .engine import Engine
from .example_frame import example_frame

MODES: tuple[str, ...] = get_args(Mode)
Frame = Mapping[str, Any]


def prepare(
    policy: Policy | str | Path,
    *,
    engine: Mode = "fast",
    device: str | torch.device = "auto",
    cameras: Sequence[str] | None = None,
    max_instruction_tokens: int | None = None,
    num_steps: int | None = None,
    backend: str = "auto",
    precision: str = "auto",
    frame: Frame | Sequence[Frame] | None = None,
    limit: float | None = None,
    check: bool = True,
    calibration: Sequence[Frame] = (),
    warm_up: bool = True,
    cache_dir: str | Path | None = None,
    **load_options: Any,
) -> Engine:
    """A running engine for a policy, or for the bundle, checkpoint or hub id behind a path.

    engine: `exact` is the plain network bit for bit; `fast` whatever is mathematically equal, in the precision that is
    fastest on this device; `int8` for CPUs, calibrated on the frames of `calibration`. device: `auto`, `cpu`, `cuda`.
    cameras: the robot cameras that deliver images, default all of the camera map; the other slots are treated as
    masked and a frame need not hold them. max_instruction_tokens, num_steps: default the policy's own.
    frame: a real frame (or several) to check the engine on now; without one the first frame that comes is used, which
    then takes as long as the plain network. limit: the largest difference let pass, in standard deviations of each
    joint's recorded actions; default by precision (`parity_check.LIMITS`). Above it the plain network runs
    instead, with a warning. The verdict is kept in `cache_dir` (default: the user's cache folder), so that a later
    start needs the engine only. warm_up: run a made-up frame before anybody waits. load_options: see `load_policy`.
    Raises UsageError for options that make no sense, and what `load_policy` raises.
    """
    mode = engine
    if "mode" in load_options:
        warnings.warn("prepare(mode=...) is now prepare(engine=...)", DeprecationWarning, stacklevel=2)
        mode = load_options.pop("mode")
    if mode not in MODES:
        raise UsageError(f"There is no engine '{mode}'.", fix=did_you_mean(str(mode), MODES))
    source = _Source(policy, device, load_options)
    shell, place = source.shell, source.device
    name = choose_backend(backend, mode, place, precision, source.stored_precision)
    chosen = choose_precision(name, mode, place, precision, source.stored_precision)
    config = shell.config
    settings = EngineSpec(
        config=config,
        mode=mode,
        device=place,
        precision=chosen,
        cameras=_slots(shell, cameras),
        max_tokens=_tokens(max_instruction_tokens, config.tokenizer_max_length),
        steps=check_steps(shell.num_steps if num_steps is None else num_steps),
        folder=Path(cache_dir).expanduser() if cache_dir is not None else default_folder(),
        calibration=_calibration(shell, calibration),
    )
    digest = source.digest()
    calibrated = _remembered(settings, digest)
    settings = dataclasses.replace(settings, folder=settings.folder / _key(settings, name, digest, calibrated))
    build = load_backend(name)
    made = Engine(
        shell,
        settings,
        backend_name=name,
        make=lambda: build(settings, source.load),
        plain=source,
        limit=limit if limit is not None else LIMITS["exact" if mode == "exact" else chosen],
        check=check,
    ).start()
    if frame is not None and check and made.verdict is None:
        made.check([frame] if isinstance(frame, Mapping) else list(frame))
    if warm_up:
        made.warm_up(example_frame(shell.transforms_config))
    return made


class _Source:
    """The policy without its weights, and the weights when they are asked for."""

    def __init__(self, policy: Policy | str | Path, device: str | torch.device, options: Mapping[str, Any]) -> None:
        self._given = policy if isinstance(policy, Policy) else None
        self._model: SmolVLA | None = None
        self._options = dict(options)
        if self._given is not None:
            if options:
                raise UsageError(f"{sorted(options)[0]} goes with a path, not with a loaded policy.")
            self.device = self._given.device if device == "auto" else choose_device(device)
            self.shell = self._given
            return
        self.device = choose_device(device)
        self._path = locate(str(policy), self._options.get("revision"))
        self._name = str(policy)
        self.shell = self._read(need_weights=False)

    def _read(self, *, need_weights: bool) -> Policy:
        return load_policy(self._name, device=self.device, need_weights=need_weights, **self._options)

    @property
    def stored_precision(self) -> str:
        """What the plain network computes in on this device."""
        if self._given is not None:
            return str(self._given.model.state_proj.weight.dtype).removeprefix("torch.")
        asked = self._options.get("dtype", "auto")
        if asked != "auto":
            return str(asked).removeprefix("torch.")
        kinds = set(self.shell.report.found_dtypes.values())
        return next(iter(kinds)) if self.device.type != "cpu" and len(kinds) == 1 else "float32"

    def load(self) -> SmolVLA:
        """The plain network on the engine's device."""
        if self._model is None:
            if self._given is None:
                self._model = self._read(need_weights=True).model
            elif self._given.device == self.device:
                self._model = self._given.model
            else:
                self._model = copy.deepcopy(self._given.model).to(self.device)
        return self._model

    def release(self) -> None:
        self._model = None

    def digest(self) -> str:
        """What the engine's name depends on: weights, statistics, tokenizer, configuration."""
        if self._given is None and self.shell.report.kind != "LoRA adapter":
            return f"{folder_digest(self._path.folder)} {sorted(map(str, self._options.items()))}"
        tensors = dict(self.load().named_parameters())
        statistics = {k: {n: v.tolist() for n, v in s.items()} for k, s in self.shell.statistics.items()}
        return f"{tensors_digest(tensors)} {self.shell.config} {statistics} {self.shell.transforms.camera_map}"


def _remembered(settings: EngineSpec, policy: str) -> str:
    """A digest of the calibration frames; without frames that of the last ones of this policy (its graphs are kept)."""
    if settings.mode != "int8":
        return ""
    note = settings.folder / "calibrations" / content_name(policy)
    if settings.calibration:
        digest = _inputs_digest(settings.calibration)
        write_text_atomic(note, digest)
        return digest
    try:
        text = note.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    # A damaged note: the graphs are found again with the frames that they were calibrated on.
    return text if re.fullmatch("[0-9a-f]{32}", text) else ""


def _key(settings: EngineSpec, backend: str, policy: str, calibration: str) -> str:
    """The name of an engine: what its verdict and what a backend compiles depend on."""
    facts = {name: getattr(settings, name) for name in ("mode", "precision", "cameras", "max_tokens", "steps")}
    return engine_key(policy, {**facts, "backend": backend, "calibration": calibration}, settings.device)


def _slots(policy: Policy, cameras: Sequence[str] | None) -> tuple[int, ...]:
    """The indices of the slots that will hold a image."""
    slots, mapped = policy.config.cameras, policy.transforms.camera_map
    if cameras is None:
        return tuple(slots.index(slot) for slot in policy.config.real_cameras)
    chosen = []
    for camera in cameras:
        slot = mapped.get(camera)
        if slot is None:
            known = [name for name, target in mapped.items() if target is not None]
            raise UsageError(f"The policy uses no camera '{camera}'.", fix=did_you_mean(camera, known))
        chosen.append(slots.index(slot))
    if not chosen:
        raise UsageError("cameras is empty.", expected="at least one robot camera")
    return tuple(sorted(set(chosen)))


def _tokens(asked: int | None, most: int) -> int:
    if asked is None:
        return most
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= most:
        raise UsageError(
            f"max_instruction_tokens is {asked!r}.",
            expected=f"a whole number of at least 1 and at most {most}, as the policy was trained",
        )
    return asked


def _calibration(policy: Policy, frames: Sequence[Frame]) -> tuple[PolicyInputs, ...]:
    """Real inputs, batch 1 each."""
    return tuple(policy.transforms.inputs([{k: v for k, v in f.items() if k != ACTION}]) for f in frames)


def _inputs_digest(inputs: Sequence[PolicyInputs]) -> str:
    parts = {f"{i} {name}": value for i, one in enumerate(inputs) for name, value in vars(one).items()
             if isinstance(value, torch.Tensor)}  # fmt: skip
    return tensors_digest(parts) if parts else ""
