"""Checkpoints of a run: whole bundles with the training state to resume from, `last` and `best`."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from smolpilot.common.atomic import as_others, atomic_folder, sweep, write_text_atomic
from smolpilot.common.errors import FULL, LIMITS, CheckpointError, TrainingError, explain
from smolpilot.common.hashing import DIGESTS, Digests, differences, digests_of, is_sealed, sealed
from smolpilot.common.json_input import read_json_file
from smolpilot.common.safe_paths import drop, point, target_of
from smolpilot.common.text import format_bytes, shown
from smolpilot.smolvla import Policy, save_bundle

STATE_FOLDER = "training_state"
_STATE, _TENSORS = "state.json", "tensors.safetensors"
_STEP = re.compile(r"step_(\d+)")


@dataclass
class TrainingState:
    """Where a run stands after `step` optimizer steps; the sampler's position follows from it.

    `pending` sums what the next metrics line will average; `validated_at` is the step of the last validation,
    `without_gain` counts the validations since the best one. `best_step` is None before the first validation whose
    error is a finite number.
    """

    step: int = 0
    validated_at: int = 0
    best_step: int | None = None
    best_score: float | None = None
    without_gain: int = 0
    pending: dict[str, float] = field(default_factory=dict)
    dataset: str = ""
    sampler: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Runs of earlier versions called an infinite error their best.
        if self.best_score is not None and not math.isfinite(self.best_score):
            self.best_score = self.best_step = None

    @property
    def best(self) -> int | None:
        """The step that `best` stands for: without any validation the newest; None when no error was finite."""
        return self.best_step if self.best_step is not None or self.validated_at else self.step


class Checkpoints:
    """The folder `checkpoints` of a run. Each checkpoint appears whole or not at all."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self._keep = folder, keep

    def save(self, policy: Policy, state: TrainingState, tensors: dict[str, Tensor]) -> Path:
        """Write the checkpoint of `state.step`, point `last` and `best` at it, drop old ones.

        Raises TrainingError when the disk does not take it; the earlier checkpoints are whole then.
        """
        path = self.folder / f"step_{state.step:06d}"
        try:
            if path.exists():
                # A run that was stopped here has validated since: the weights are the same, the score is new.
                _renew_state(path / STATE_FOLDER, state)
            else:
                with atomic_folder(path) as beside:
                    _write(beside, policy, state, tensors)
        except (OSError, safetensors.SafetensorError) as error:
            raise self._cannot_save(state.step, error) from error
        point(self.folder / "last", path.name)
        if state.best == state.step:
            point(self.folder / "best", path.name)
        self._drop_old()
        return path

    def finalize(self, state: TrainingState) -> None:
        """Finish what a kill left half done: `last` and `best` point where `state` says, torn folders are gone."""
        for entry in self.folder.glob(".step_*.partial"):
            shutil.rmtree(entry, ignore_errors=True)
        steps = self._steps()
        for path in steps.values():
            sweep(path / STATE_FOLDER)
        for name, step in (("last", state.step), ("best", state.best)):
            if step in steps:
                point(self.folder / name, steps[step].name)
            elif step is None or not (self.folder / name).exists():
                drop(self.folder / name)
        self._drop_old()

    def newest(self) -> Path | None:
        """The checkpoint of the latest step, or None."""
        steps = self._steps()
        return steps[max(steps)] if steps else None

    def from_newest(self) -> list[Path]:
        """All checkpoints, the latest first."""
        return [path for _, path in sorted(self._steps().items(), reverse=True)]

    def _steps(self) -> dict[int, Path]:
        found = {}
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _STEP.fullmatch(entry.name)
            if match and not entry.is_symlink():
                found[int(match.group(1))] = entry
        return found

    def _drop_old(self) -> None:
        best = Path(target_of(self.folder / "best") or "").name
        steps = self._steps()
        for step in sorted(steps)[: -self._keep]:
            if steps[step].name != best:
                # Out of sight in one move first: a kill in between must not leave half a checkpoint.
                gone = self.folder / f".{steps[step].name}.old"
                steps[step].rename(gone)
        for entry in self.folder.glob(".step_*.old"):
            shutil.rmtree(entry, ignore_errors=True)

    def _cannot_save(self, step: int, error: Exception) -> TrainingError:
        newest = self.newest()
        kept = f"The checkpoint {newest} is whole." if newest else "There is no earlier checkpoint."
        free, needed = shutil.disk_usage(self.folder).free, _size(newest) if newest else None
        room = f"{format_bytes(free)} free" + (f", the checkpoint before took {format_bytes(needed)}" if needed else "")
        refusal = explain(error) if isinstance(error, OSError) else None
        # safetensors says the system's words only.
        full = (isinstance(error, OSError) and error.errno in FULL) or "No space left" in str(error)
        how = "free some space" if full else refusal.fix if refusal else ""
        again = f"smolpilot train --resume --out {self.folder.parent}"
        return TrainingError(
            f"The checkpoint of step {step} could not be written to {self.folder} ({room}): "
            f"{refusal.found if refusal else error}",
            expected=f"a disk that takes the whole checkpoint. {kept}",
            fix=f"{how}; then: {again}" if how else f"when it is mended: {again}",
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def load_state(checkpoint: Path) -> tuple[TrainingState, dict[str, Tensor]]:
    """The training state inside a checkpoint folder; CheckpointError when it is missing or damaged."""
    folder = checkpoint / STATE_FOLDER
    try:
        values = read_json_file(folder / _STATE)
        if is_sealed(values):
            found = differences(values, _STATE, folder, [_TENSORS] if (folder / _TENSORS).is_file() else [])
            if found:
                raise ValueError(f"its content does not match its digests ({found.text()})")
            values = {key: value for key, value in values.items() if key != DIGESTS}
        state = _state_of(values)
        return state, load_file(folder / _TENSORS)
    except (OSError, ValueError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        if isinstance(error, OSError) and error.errno in LIMITS:
            raise
        raise CheckpointError(
            f"The training state in {folder} cannot be read: {error}",
            fix=f"start a new run from these weights: --policy {checkpoint}",
        ) from error


def _state_of(values: dict[str, Any]) -> TrainingState:
    try:
        pydantic.TypeAdapter(TrainingState).validate_python(values)
        return TrainingState(**values)  # and not what was validated: 0 would be written as 0.0 the next time
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"'{'.'.join(map(str, first['loc']))}' is {shown(first['input'])}: {first['msg']}") from None


def rng_tensors() -> dict[str, Tensor]:
    """State of torch's own generator; what a step draws needs none (see `sample_rng`)."""
    return {"rng/torch": torch.get_rng_state()}


def load_rng(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put back what `rng_tensors` gave; returns the other tensors."""
    torch.set_rng_state(tensors["rng/torch"])
    return {name: value for name, value in tensors.items() if not name.startswith("rng/")}


def _write(folder: Path, policy: Policy, state: TrainingState, tensors: dict[str, Tensor]) -> None:
    bundle = folder / "bundle"
    save_bundle(policy, bundle)
    for entry in bundle.iterdir():
        entry.rename(folder / entry.name)
    bundle.rmdir()
    inner = folder / STATE_FOLDER
    inner.mkdir()
    with as_others(inner / _TENSORS):
        save_file({name: value.contiguous() for name, value in tensors.items()}, inner / _TENSORS)
    _write_state(inner, state, digests_of(inner, [_TENSORS]))


def _renew_state(folder: Path, state: TrainingState) -> None:
    """Write another state beside the same tensors, whose digest is kept."""
    old = read_json_file(folder / _STATE)
    kept = old.get(DIGESTS) if isinstance(old, dict) else None
    _write_state(folder, state, {_TENSORS: kept[_TENSORS]} if kept else digests_of(folder, [_TENSORS]))


def _write_state(folder: Path, state: TrainingState, digests: Digests) -> None:
    values = sealed(dataclasses.asdict(state), _STATE, digests)
    write_text_atomic(folder / _STATE, json.dumps(values, indent=2))
