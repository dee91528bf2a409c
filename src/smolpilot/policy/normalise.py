"""Normalisation of states and actions: LeRobot's formulas, forward and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.errors import CheckpointError, TransformError, did_you_mean
from smolpilot.keys import ACTION, STATE

EPS = 1e-8
# What LeRobot subtracts and divides by, per mode: (offset and scale) for MEAN_STD, (low, high) for the others.
_NEEDS = {
    "IDENTITY": (),
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
FEATURE_TYPES = {STATE: "STATE", ACTION: "ACTION"}


def needed_statistics(mode: str) -> tuple[str, ...]:
    """Names of the statistics that a normalisation mode reads; an unknown mode is a CheckpointError."""
    if mode not in _NEEDS:
        raise CheckpointError(f"Unknown normalisation mode '{mode}'.", fix=did_you_mean(mode, _NEEDS))
    return _NEEDS[mode]


def feature_mode(mapping: Mapping[str, str], feature: str) -> str:
    """The mode of `observation.state` or `action` in LeRobot's `normalization_mapping`; absent means IDENTITY."""
    return mapping.get(FEATURE_TYPES[feature], "IDENTITY")


class Normaliser:
    """One feature in its units <-> what the network sees; float32, [..., D] in and out.

    MEAN_STD: (x - mean) / (std + eps), back x * std + mean, so a constant dimension comes back as its mean.
    MIN_MAX, QUANTILES, QUANTILE10: to [-1, 1]; a constant dimension has eps in place of its range and comes back as
    its minimum. Source: lerobot/processor/normalize_processor.py.
    Raises TransformError when a statistic is missing, has another dimension, or is not finite.
    """

    def __init__(
        self,
        feature: str,
        mode: str,
        statistics: Mapping[str, Mapping[str, npt.NDArray[np.float64]]],
        dim: int,
        *,
        eps: float = EPS,
    ) -> None:
        self.feature, self.mode, self.dim, self.eps = feature, mode, dim, eps
        tensors = [_statistic(feature, name, mode, statistics, dim) for name in needed_statistics(mode)]
        self.offset = self.scale = self.divisor = torch.zeros(0)
        if not tensors:
            return
        self.offset = tensors[0]
        if mode == "MEAN_STD":
            self.scale = tensors[1]
            self.divisor = self.scale + eps
        else:
            span = tensors[1] - tensors[0]
            self.scale = self.divisor = torch.where(span == 0, torch.tensor(eps), span)

    def forward(self, values: Tensor) -> Tensor:
        """Units -> normalised."""
        if self.mode == "IDENTITY":
            return values
        if self.mode == "MEAN_STD":
            return (values - self.offset) / self.divisor
        return 2 * (values - self.offset) / self.divisor - 1

    def backward(self, values: Tensor) -> Tensor:
        """Normalised -> units."""
        if self.mode == "IDENTITY":
            return values
        if self.mode == "MEAN_STD":
            return values * self.scale + self.offset
        if self.mode == "MIN_MAX":
            return (values + 1) / 2 * self.scale + self.offset
        # LeRobot multiplies before it halves here; kept, so that results stay equal to the last bit.
        return (values + 1) * self.scale / 2 + self.offset

    def describe(self) -> str:
        return f"{self.feature}: {self.mode}"


def _statistic(
    feature: str, name: str, mode: str, statistics: Mapping[str, Mapping[str, npt.NDArray[np.float64]]], dim: int
) -> Tensor:
    fix = "give the statistics of the recording: --stats-from DATASET (stats_from= in Python)"
    if name not in statistics.get(feature, {}):
        found = f"there are statistics of {', '.join(sorted(statistics))}" if statistics else "there are no statistics"
        raise TransformError(
            f"The statistic '{name}' of '{feature}' is missing; {found}.",
            expected=f"'{name}' of '{feature}', {dim} values: normalisation {mode} cannot do without",
            fix=fix,
        )
    value = np.asarray(statistics[feature][name], dtype=np.float64).reshape(-1)
    if len(value) != dim:
        raise TransformError(
            f"The statistic '{name}' of '{feature}' has {len(value)} values.", expected=f"{dim}, one per joint", fix=fix
        )
    if not np.isfinite(value).all():
        raise TransformError(
            f"The statistic '{name}' of '{feature}' holds NaN or infinity.", expected="finite numbers", fix=fix
        )
    if name == "std" and (value < 0).any():
        raise TransformError(f"The statistic 'std' of '{feature}' is negative.", expected="0 or more", fix=fix)
    return torch.from_numpy(value).to(torch.float32)
