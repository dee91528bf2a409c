"""How far predicted action chunks are from held-out recordings, in robot units.

The flow loss says little about a robot's motion; this error does, and it decides which checkpoint is `best`. The same
frames and the same noise are used every time, so that two validations differ by the weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from smolpilot.common.statistics import Statistics
from smolpilot.evaluation.metrics import chunk_errors
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import Policy
from smolpilot.training.data.batches import Batches

NOISE_SEED = 20_000


@dataclass(frozen=True)
class Validation:
    """MAE per joint [A] over the in-episode steps of all scored chunks, and one number to compare runs by.

    `score` is the mean over joints of the MAE when all joints have one unit, else the mean of MAE / standard
    deviation of the recorded action (`unit` "std"): meters and radians cannot be averaged.
    """

    mae: npt.NDArray[np.float64]
    score: float
    unit: str
    joints: list[str]
    frames: int

    def values(self) -> dict[str, Any]:
        """The line of the metrics log."""
        mae = {joint: float(value) for joint, value in zip(self.joints, self.mae, strict=True)}
        return {"score": self.score, "unit": self.unit, "frames": self.frames, "mae": mae}

    def text(self) -> str:
        score = f"{self.score:.4g} {self.unit}" if np.isfinite(self.score) else "not finite"
        return f"{score} (mean over {len(self.joints)} joints, {self.frames} frames)"


class Scorer(Protocol):
    """What the loop asks for the held-out error: one dataset (`Validator`) or several (`TaskValidator`)."""

    def run(self, policy: Policy, stop: Callable[[], object] = ...) -> Validation | None:
        """Score the policy; None when `stop` says to give up."""
        ...


@dataclass(frozen=True)
class TaskValidation(Validation):
    """Validations of several datasets; the score and the errors are their means: every dataset counts the same."""

    tasks: Mapping[str, Validation] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Mapping[str, Validation]) -> TaskValidation:
        """The mean of validations of one policy."""
        all_of = list(tasks.values())
        mae = np.mean([one.mae for one in all_of], axis=0)
        score, frames = float(np.mean([one.score for one in all_of])), sum(one.frames for one in all_of)
        return cls(mae, score, all_of[0].unit, all_of[0].joints, frames, dict(tasks))

    def values(self) -> dict[str, Any]:
        own = {name: {"score": one.score, "mae": one.values()["mae"]} for name, one in self.tasks.items()}
        return super().values() | {"tasks": own}

    def text(self) -> str:
        parts = ", ".join(f"{name} {one.score:.4g}" for name, one in self.tasks.items())
        return f"{super().text()}: {parts}"


class TaskValidator:
    """Scores a policy on each of several held-out datasets, by their names."""

    def __init__(self, validators: Mapping[str, Validator]) -> None:
        self._validators = dict(validators)

    def run(self, policy: Policy, stop: Callable[[], object] = lambda: False) -> TaskValidation | None:
        """All of them; None when `stop` says to give up."""
        found: dict[str, Validation] = {}
        for name, validator in self._validators.items():
            result = validator.run(policy, stop)
            if result is None:
                return None
            found[name] = result
        return TaskValidation.of(found)


class Validator:
    """Scores a policy on `rows` of a held-out dataset whose frames `batches` holds."""

    def __init__(self, batches: Batches, rows: npt.NDArray[np.int64], *, batch_size: int, seed: int) -> None:
        self._batches, self._rows, self._batch_size = batches, rows, batch_size
        self._seed = NOISE_SEED + seed

    def run(self, policy: Policy, stop: Callable[[], object] = lambda: False) -> Validation | None:
        """Predict a chunk at every row and compare; None when `stop` says to give up."""
        predicted, recorded, is_pad = [], [], []
        generator = torch.Generator().manual_seed(self._seed)
        device = torch.device(policy.device)
        training = policy.model.training
        policy.model.eval()
        try:
            for first in range(0, len(self._rows), self._batch_size):
                if stop():
                    return None
                rows = self._rows[first : first + self._batch_size]
                inputs, states = self._batches.batch(rows), self._batches.states(rows)
                assert inputs.actions is not None
                assert inputs.action_is_pad is not None
                noise = torch.randn(inputs.actions.shape, generator=generator).to(device)
                chunks = policy.model.sample(inputs, noise=noise)
                # Both sides take the same way back to robot units.
                predicted.append(policy.transforms.actions(chunks.float().cpu(), states).numpy())
                recorded.append(policy.transforms.actions(inputs.actions.cpu(), states).numpy())
                is_pad.append(inputs.action_is_pad.cpu().numpy())
        finally:
            policy.model.train(training)
        errors = chunk_errors(np.concatenate(predicted), np.concatenate(recorded), np.concatenate(is_pad))
        return _validation(policy, errors.mae, len(self._rows))


def spread(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """At most `wanted` of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def in_one_number(profile: RobotProfile, statistics: Statistics, mae: npt.NDArray[np.float64]) -> tuple[float, str]:
    """Errors per joint [A] as one number with its unit, as `Validation.score` explains."""
    units = {joint.unit for joint in profile.action_joints}
    if len(units) == 1:
        return float(np.mean(mae)), units.pop().replace("unknown", "dataset units")
    return float(np.mean(mae / np.maximum(statistics["action"]["std"], 1e-6))), "std"


def _validation(policy: Policy, mae: npt.NDArray[np.float64], frames: int) -> Validation:
    assert policy.profile is not None
    score, unit = in_one_number(policy.profile, policy.statistics, mae)
    # A policy that predicts NaN is the worst one, never the best.
    score = score if np.isfinite(score) else float("inf")
    return Validation(mae, score, unit, [joint.name for joint in policy.profile.action_joints], frames)
