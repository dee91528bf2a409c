"""How far predicted action chunks are from held-out episodes, in robot units.

The flow loss says little about a robot's motion; this error does, and it decides which checkpoint is `best`. The same
frames and the same noise are used every time, so that two validations differ by the weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from smolpilot.common.statistics import Statistics
from smolpilot.datasets.read.order import Rows
from smolpilot.evaluation.metrics import chunk_errors
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import Policy
from smolpilot.training.data.batches import Batches

NOISE_SEED = 20_000


@dataclass(frozen=True)
class Validation:
    """MAE per joint [A] over the in-episode steps of all scored chunks, and one number to compare runs by.

    `score` is the mean over joints of the MAE when all joints have one unit, else the mean of MAE / standard
    deviation of the recorded action (`unit` "std"): meters and radians cannot be averaged. `datasets`: of a mixture the
    validation of each by its title; score and errors are their means, so that every dataset counts the same.
    """

    mae: npt.NDArray[np.float64]
    score: float
    unit: str
    joints: list[str]
    frames: int
    datasets: Mapping[str, Validation] = field(default_factory=dict)

    @classmethod
    def mean(cls, datasets: Mapping[str, Validation]) -> Validation:
        """The mean of validations of one policy."""
        each = list(datasets.values())
        mae = np.mean([one.mae for one in each], axis=0)
        score, frames = float(np.mean([one.score for one in each])), sum(one.frames for one in each)
        return cls(mae, score, each[0].unit, each[0].joints, frames, dict(datasets))

    def values(self) -> dict[str, Any]:
        """The line of the metrics log."""
        mae = {joint: float(value) for joint, value in zip(self.joints, self.mae, strict=True)}
        values: dict[str, Any] = {"score": self.score, "unit": self.unit, "frames": self.frames, "mae": mae}
        if self.datasets:
            own = ((name, one.values()) for name, one in self.datasets.items())
            values["tasks"] = {name: {"score": one["score"], "mae": one["mae"]} for name, one in own}
        return values

    def text(self) -> str:
        """As a person reads it."""
        score = f"{self.score:.4g} {self.unit}" if np.isfinite(self.score) else "not finite"
        each = ", ".join(f"{name} {one.score:.4g}" for name, one in self.datasets.items())
        return f"{score} (mean over {len(self.joints)} joints, {self.frames} frames)" + (f": {each}" if each else "")


class Validator:
    """Scores a policy on held-out frames: by dataset its title, the batches and the rows to score.

    by_dataset: whether the result says the error on each, as of a mixture, also where only one holds episodes out.
    """

    def __init__(
        self, held_out: Mapping[str, tuple[Batches, Rows]], *, batch_size: int, seed: int, by_dataset: bool = False
    ) -> None:
        self._held_out, self._batch_size, self._by_dataset = dict(held_out), batch_size, by_dataset
        self._seed = NOISE_SEED + seed

    def run(self, policy: Policy, stop: Callable[[], object] = lambda: False) -> Validation | None:
        """Predict a chunk at every row and compare; None when `stop` says to give up."""
        found: dict[str, Validation] = {}
        training = policy.model.training
        policy.model.eval()
        try:
            for name, (batches, rows) in self._held_out.items():
                scored = self._score(policy, batches, rows, stop)
                if scored is None:
                    return None
                found[name] = scored
        finally:
            policy.model.train(training)
        return Validation.mean(found) if self._by_dataset else next(iter(found.values()))

    def _score(self, policy: Policy, batches: Batches, rows: Rows, stop: Callable[[], object]) -> Validation | None:
        predicted, recorded, is_pad = [], [], []
        generator = torch.Generator().manual_seed(self._seed)
        for first in range(0, len(rows), self._batch_size):
            if stop():
                return None
            some = rows[first : first + self._batch_size]
            inputs, states = batches.batch(some), batches.states(some)
            assert inputs.actions is not None
            assert inputs.action_is_pad is not None
            noise = torch.randn(inputs.actions.shape, generator=generator).to(policy.device)
            chunks = policy.model.sample(inputs, noise=noise)
            # Both sides take the same way back to robot units.
            predicted.append(policy.transforms.actions(chunks.float().cpu(), states).numpy())
            recorded.append(policy.transforms.actions(inputs.actions.cpu(), states).numpy())
            is_pad.append(inputs.action_is_pad.cpu().numpy())
        errors = chunk_errors(np.concatenate(predicted), np.concatenate(recorded), np.concatenate(is_pad))
        return _validation(policy, errors.mae, len(rows))


def spread(count: int, wanted: int) -> Rows:
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
