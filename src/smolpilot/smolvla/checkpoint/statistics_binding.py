"""Statistics of a checkpoint, found under whatever name it keeps them, or refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

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
    statistics_problem,
)

from .processors import FlatStatistics

type Feature = dict[str, npt.NDArray[np.float64]]

# `observation.state.mean`, `normalize_inputs.buffer_observation_state.mean`, `so100.buffer.action.std`, ...
_NAME = re.compile(
    r"^(?P<prefix>.*?)(?:^|[._])(?:buffer[._])?"
    r"(?P<feature>observation[._]state|action)[._](?P<statistic>mean|std|min|max|count|q\d\d)$"
)


_OTHERS = "give those of the dataset: --policy-stats-from DATASET (load_policy(..., stats_from=DATASET))"


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
        names = (joints or {}).get(feature, ())
        wrong = partial(statistics_problem, feature, mode, dim=dim, joints=names)
        groups = _groups(feature, sources)
        if feature in groups and wrong(groups[feature]) is None:
            name = feature
        elif needed_statistics(mode):
            name = _only_usable(feature, mode, groups, wrong)
        else:
            continue
        bound.statistics[feature], bound.origin[feature] = _sound(feature, groups[name], dim, names), name
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


def _only_usable(feature: str, mode: str, groups: Mapping[str, Feature], wrong: Callable[[Feature], str | None]) -> str:
    """The name of the one group that can normalize; groups that are equal count as one."""
    needed = needed_statistics(mode)
    problems = {name: wrong(group) for name, group in groups.items()}
    usable: list[str] = []
    for name in (name for name, problem in problems.items() if problem is None):
        same = (all(np.array_equal(groups[name][key], groups[other][key]) for key in needed) for other in usable)
        if not any(same):
            usable.append(name)
    if len(usable) == 1:
        return usable[0]
    if usable:
        found = f"The checkpoint has several statistics for '{feature}': {', '.join(map(repr, usable))}."
    else:
        # The first defect of each group, the proper name's first.
        order = sorted(problems, key=lambda name: (name != feature, name))[:3]
        said = [f"{problems[name]}" + ("" if name == feature else f" (stored as '{name}')") for name in order]
        found = f"The checkpoint has no usable statistics for '{feature}': {'; '.join(said) or 'none are stored'}."
    raise CheckpointError(
        found,
        expected=f"one {' and '.join(needed)} of '{feature}', each a number per joint; without it actions would stay "
        "normalized numbers",
        fix=_OTHERS,
    )
