"""Statistics of a checkpoint, found under whatever name it keeps them, or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import CheckpointError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.transforms.normalize import (
    feature_mode,
    needed_statistics,
    never_set,
    order_problem,
    statistic_problem,
)

from .processors import FlatStatistics

type Feature = dict[str, npt.NDArray[np.float64]]

# `observation.state.mean`, `normalize_inputs.buffer_observation_state.mean`, `so100.buffer.action.std`, ...
_NAME = re.compile(
    r"^(?P<prefix>.*?)(?:^|[._])(?:buffer[._])?"
    r"(?P<feature>observation[._]state|action)[._](?P<statistic>mean|std|min|max|count|q\d\d)$"
)


_OTHERS = "give those of the recording: --policy-stats-from DATASET (load_policy(..., stats_from=DATASET))"


@dataclass
class Bound:
    """Statistics of state and action, and where those of each feature came from."""

    statistics: Statistics = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    problem: str | None = None  # why there are none, where they were not required


def bind_statistics(
    before: FlatStatistics,
    after: FlatStatistics,
    in_weights: FlatStatistics,
    config: PolicyConfig,
    joints: Mapping[str, Sequence[str]] | None = None,
) -> Bound:
    """Find what the normalization of `config` needs.

    before, after: entries of the pre- and post-processor's state files; in_weights: normalization buffers among the
    weights (older layouts). The proper name wins; under other names exactly one candidate of the right size must be
    left (equal ones count as one). joints: their names by feature, where the checkpoint says them. Raises
    CheckpointError that names what is missing, not finite or contradicts the config, and --policy-stats-from.
    """
    bound = Bound()
    for feature, dim, sources in (
        (STATE, config.state_dim, (before, after, in_weights)),
        (ACTION, config.action_dim, (after, before, in_weights)),
    ):
        mode = feature_mode(config.normalization_mapping, feature)
        needed = needed_statistics(mode)
        groups = _groups(feature, sources)
        proper, names = groups.get(feature), (joints or {}).get(feature, ())
        if proper is not None and _fits(proper, needed, dim):
            name, chosen = feature, proper
        elif needed:
            name, chosen = _only_candidate(_Wanted(feature, mode, needed, dim, names), groups)
        else:
            continue
        bound.statistics[feature], bound.origin[feature] = _sound(feature, chosen, dim, names), name
    return bound


def _sound(feature: str, group: Feature, dim: int, joints: Sequence[str]) -> Feature:
    """All statistics of a feature that were set; CheckpointError where one is no number, or two contradict each other.

    Also those that do not normalize: reports, limits and a fine-tuning read them.
    """
    kept = {name: value for name, value in group.items() if not never_set(value)}
    problems = (statistic_problem(feature, name, value, dim, joints) for name, value in kept.items() if name != "count")
    problem = next((found for found in problems if found is not None), None) or order_problem(feature, kept, joints)
    if problem is not None:
        raise CheckpointError(
            f"The statistics of the checkpoint cannot be used: {problem}.",
            expected=f"{dim} finite numbers each, in order",
            fix=_OTHERS,
        )
    return kept


def check_agreement(before: FlatStatistics, after: FlatStatistics, joints: Mapping[str, Sequence[str]]) -> None:
    """CheckpointError where the two state files differ in a statistic of state or action: LeRobot writes one into both.

    An action that is un-normalized by other numbers than the network was trained with moves the robot elsewhere.
    """
    for key in sorted(before.keys() & after.keys()):
        match = _NAME.match(key)
        if match is None:
            continue
        ours, theirs = (np.asarray(source[key], dtype=np.float64).reshape(-1) for source in (before, after))
        names = joints.get(match["feature"].replace("_", "."), ())
        if ours.shape == theirs.shape:
            # LeRobot keeps them in the dtype of what it last normalized: one file may be rounded to bfloat16.
            apart = ~np.isclose(ours, theirs, rtol=4e-3, atol=1e-7, equal_nan=True)
            if not apart.any():
                continue
            number = int(np.flatnonzero(apart)[0])
            joint = f" of joint {number}" + (f" ({names[number]})" if number < len(names) else "")
            found = f"{ours[number]:g} before the network and {theirs[number]:g} after it"
        else:
            joint, found = "", f"{ours.size} values before the network and {theirs.size} after it"
        raise CheckpointError(
            f"The two processor files contradict each other: {key}{joint} is {found}.",
            expected="the same statistics in both, as they were written",
            fix=f"copy or download both .safetensors files again; or {_OTHERS}",
        )


def _groups(feature: str, sources: tuple[FlatStatistics, ...]) -> dict[str, Feature]:
    """Statistics of a feature by the name they are kept under; an earlier source wins."""
    groups: dict[str, Feature] = {}
    for source in sources:
        for key, value in source.items():
            match = _NAME.match(key)
            if match is None or match["feature"].replace("_", ".") != feature:
                continue
            name = key.removesuffix(f".{match['statistic']}")
            groups.setdefault(name, {}).setdefault(match["statistic"], np.asarray(value, dtype=np.float64).reshape(-1))
    return groups


def _fits(group: Mapping[str, npt.NDArray[np.float64]], needed: tuple[str, ...], dim: int) -> bool:
    # Buffers that were never set hold infinity: the same as absent.
    return all(name in group and statistic_problem("", name, group[name], dim) is None for name in needed)


@dataclass(frozen=True)
class _Wanted:
    """What the normalization of one feature needs."""

    feature: str
    mode: str
    statistics: tuple[str, ...]
    dim: int
    joints: Sequence[str]


def _only_candidate(wanted: _Wanted, groups: Mapping[str, Feature]) -> tuple[str, Feature]:
    needed, feature = wanted.statistics, wanted.feature
    distinct: dict[str, Feature] = {}
    for name, group in groups.items():
        if _fits(group, needed, wanted.dim) and not any(
            all(np.array_equal(group[key], other[key]) for key in needed) for other in distinct.values()
        ):
            distinct[name] = group
    if len(distinct) == 1:
        return next(iter(distinct.items()))
    if distinct:
        problem = f"The checkpoint has several statistics for '{feature}': {', '.join(map(repr, distinct))}."
    else:
        problem = f"The checkpoint has no usable statistics for '{feature}': {_what_is_wrong(wanted, groups)}."
    raise CheckpointError(
        problem,
        expected=f"one {' and '.join(needed)} of '{feature}' with {wanted.dim} values; without it actions would stay "
        "normalized numbers",
        fix=_OTHERS,
    )


def _what_is_wrong(wanted: _Wanted, groups: Mapping[str, Feature]) -> str:
    """The first defect of each group of stored statistics, the proper name's first."""
    if not groups:
        return "none are stored"
    order = sorted(groups, key=lambda name: (name != wanted.feature, name))
    found = [(name, _defect(wanted, groups[name])) for name in order]
    texts = [text if name == wanted.feature else f"{text} (stored as '{name}')" for name, text in found[:3]]
    return "; ".join(texts)


def _defect(wanted: _Wanted, group: Feature) -> str:
    missing = [name for name in wanted.statistics if name not in group]
    if missing:
        stored = ", ".join(name for name in group if name != "count") or "nothing"
        return (
            f"its config normalizes '{wanted.feature}' by {wanted.mode}, which needs {' and '.join(wanted.statistics)};"
            f" {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not stored, only {stored}"
        )
    problems = (
        statistic_problem(wanted.feature, name, group[name], wanted.dim, wanted.joints) for name in wanted.statistics
    )
    return next(problem for problem in problems if problem is not None)
