"""Normalization of states and actions: LeRobot's formulas, forward and back."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError, TransformError, did_you_mean
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import QUANTILES, Statistics, is_still, still_range
from smolpilot.smolvla.config import PolicyConfig

from .transform import Transform

EPS = 1e-8
_LARGEST = float(np.finfo(np.float32).max)
# A still action joint's deviation, in ranges of its float noise: its noise vanishes, and so does the network's.
_HELD = 1000.0
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
    """Names of the statistics that a normalization mode reads; an unknown mode is a CheckpointError."""
    if mode not in _NEEDS:
        raise CheckpointError(f"Unknown normalization mode '{mode}'.", fix=did_you_mean(mode, _NEEDS))
    return _NEEDS[mode]


def feature_mode(mapping: Mapping[str, str], feature: str) -> str:
    """The mode of `observation.state` or `action` in LeRobot's `normalization_mapping`; absent means IDENTITY."""
    return mapping.get(FEATURE_TYPES[feature], "IDENTITY")


def settle_still(statistics: Statistics, mapping: Mapping[str, str]) -> tuple[Statistics, dict[str, list[int]]]:
    """Statistics to train with, and the joints (by number, for each feature) that never move but for float noise.

    Dividing by such a joint's deviation would make its noise a motion to learn, and a state that differs by a hair
    would blind the network. So a still state gets a deviation of one unit, and a still action a small one: the
    network's own noise must not move a joint that is held. Means stay, and so do the formulas, which are LeRobot's.
    Modes that scale by a range get that deviation on both sides of the mean.
    """
    settled = {feature: dict(values) for feature, values in statistics.items()}
    found: dict[str, list[int]] = {}
    for feature in (STATE, ACTION):
        values = settled.get(feature, {})
        mean = values.get("mean")
        needed = needed_statistics(feature_mode(mapping, feature))
        if mean is None or not needed or any(name not in values for name in needed):
            continue
        if "min" in values and "max" in values:
            still = is_still(values["min"], values["max"])
        else:
            still = values.get("std", np.ones_like(mean)) <= still_range(mean, mean)
        joints = np.flatnonzero(still).tolist()
        if not joints:
            continue
        found[feature] = joints
        room = np.ones_like(mean) if feature == STATE else _HELD * still_range(mean, mean)
        ends = (room,) if "std" in needed else (mean - room, mean + room)
        for name, value in zip([name for name in needed if name != "mean"], ends, strict=True):
            values[name] = np.where(still, value, values[name])
    return settled, found


def statistic_problem(
    feature: str, name: str, value: npt.NDArray[np.float64], dim: int, joints: Sequence[str] = ()
) -> str | None:
    """What is wrong with one stored statistic, in the words of every command; None when nothing is."""
    what = f"{name} of '{feature}'"
    if value.shape != (dim,):
        return f"{what} has {value.size} values, the policy has {dim} joints there"
    if never_set(value):
        return f"{what} was never set (infinite throughout)"
    for wrong, word in (
        (np.isnan(value), "NaN"),
        (np.abs(value) > _LARGEST, "infinite"),  # in float32, in which it is used
        (value < 0, "negative"),
    ):
        if wrong.any() and (word != "negative" or name == "std"):
            return f"{what} is {word} for {_listed(wrong, joints)}"
    return None


def statistics_problem(
    feature: str, mode: str, group: Mapping[str, npt.NDArray[np.float64]], dim: int, joints: Sequence[str] = ()
) -> str | None:
    """Why statistics of a feature cannot normalize it by `mode`: one is missing, or no number; None where they can."""
    needed = needed_statistics(mode)
    if missing := [name for name in needed if name not in group]:
        stored = ", ".join(name for name in group if name != "count") or "nothing"
        return (
            f"its config normalizes '{feature}' by {mode}, which needs {' and '.join(needed)};"
            f" {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not stored, only {stored}"
        )
    problems = (statistic_problem(feature, name, group[name], dim, joints) for name in needed)
    return next((problem for problem in problems if problem is not None), None)


def order_problem(
    feature: str, values: Mapping[str, npt.NDArray[np.float64]], joints: Sequence[str] = ()
) -> str | None:
    """What is out of order among statistics of one feature that each are sound: min above max, a quantile above a
    higher one; None when nothing is.
    """
    quantiles = [name for name in QUANTILES if name in values]
    pairs = [("min", "max")] if "min" in values and "max" in values else []
    for low, high in [*pairs, *itertools.pairwise(quantiles)]:
        # Averages over episodes round; a still joint has one value for all.
        room = 1e-6 * np.maximum(np.abs(values[low]), np.abs(values[high]))
        wrong = values[low] > values[high] + room
        if wrong.any():
            return f"{low} of '{feature}' is above its {high} for {_listed(wrong, joints)}"
    return None


def never_set(value: npt.NDArray[np.float64]) -> bool:
    """Whether a buffer of an older checkpoint was never filled: the same as absent."""
    return bool(value.size and np.isinf(value).all())


def _listed(wrong: npt.NDArray[np.bool_], joints: Sequence[str]) -> str:
    listed = [_joint(number, joints) for number in np.flatnonzero(wrong).tolist()]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _joint(number: int, joints: Sequence[str]) -> str:
    return f"joint {number} ({joints[number]})" if number < len(joints) else f"joint {number}"


class Normalizer:
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
        group = {name: np.asarray(value, np.float64).reshape(-1) for name, value in statistics.get(feature, {}).items()}
        if problem := statistics_problem(feature, mode, group, dim):
            raise TransformError(
                f"The statistics cannot be used: {problem}.",
                expected=f"{' and '.join(needed_statistics(mode))} of '{feature}', {dim} finite numbers each",
                fix="give the statistics of the dataset: --policy-stats-from DATASET (stats_from= in Python)",
            )
        tensors = [torch.from_numpy(group[name]).to(torch.float32) for name in needed_statistics(mode)]
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
        """Units -> normalized."""
        if self.mode == "IDENTITY":
            return values
        if self.mode == "MEAN_STD":
            return (values - self.offset) / self.divisor
        return 2 * (values - self.offset) / self.divisor - 1

    def backward(self, values: Tensor) -> Tensor:
        """Normalized -> units."""
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

    def forward_affine(self) -> tuple[Tensor, Tensor]:
        """(scale, offset) [D] of `forward` as x * scale + offset; double, because the mean may be far from zero."""
        offset, divisor = self.offset.double(), self.divisor.double()
        if self.mode == "IDENTITY":
            return self._unchanged()
        if self.mode == "MEAN_STD":
            return 1 / divisor, -offset / divisor
        return 2 / divisor, -2 * offset / divisor - 1

    def backward_affine(self) -> tuple[Tensor, Tensor]:
        """(scale, offset) [D] of `backward`."""
        offset, scale = self.offset.double(), self.scale.double()
        if self.mode == "IDENTITY":
            return self._unchanged()
        if self.mode == "MEAN_STD":
            return scale, offset
        return scale / 2, offset + scale / 2

    def _unchanged(self) -> tuple[Tensor, Tensor]:
        return torch.ones(self.dim), torch.zeros(self.dim)


class NormalizeTransform(Transform):
    """States and actions to the network's scale and actions back."""

    name = "normalize"
    in_processors = True

    def __init__(self, config: PolicyConfig, statistics: Statistics, eps: float) -> None:
        mapping = config.normalization_mapping
        if mapping.get("VISUAL", "IDENTITY") != "IDENTITY":
            raise TransformError(
                f"The policy normalizes images by {mapping['VISUAL']}.",
                expected="IDENTITY: SmolVLA's vision tower takes images in [-1, 1]",
            )
        self.state = Normalizer(STATE, feature_mode(mapping, STATE), statistics, config.state_dim, eps=eps)
        self.action = Normalizer(ACTION, feature_mode(mapping, ACTION), statistics, config.action_dim, eps=eps)

    def describe(self) -> str:
        return f"{self.state.describe()}; {self.action.describe()}"

    def numbers(self, states: Tensor, actions: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.state.forward(states), self.action.forward(actions) if actions is not None else None

    def backward(self, actions: Tensor, states: Tensor | None) -> Tensor:
        return self.action.backward(actions)

    def spec(self) -> dict[str, Any]:
        """x * scale + offset per joint: of the state towards the network, of the action on its way back."""
        maps = {"state": self.state.forward_affine(), "action": self.action.backward_affine()}
        return {key: {"scale": scale.tolist(), "offset": offset.tolist()} for key, (scale, offset) in maps.items()}
