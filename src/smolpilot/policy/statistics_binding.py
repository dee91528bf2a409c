"""Statistics of a checkpoint, found under whatever name it keeps them, or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from smolpilot.errors import CheckpointError
from smolpilot.keys import ACTION, STATE
from smolpilot.statistics import Statistics

from .config import PolicyConfig
from .normalise import feature_mode, needed_statistics
from .processors import FlatStatistics

type Feature = dict[str, npt.NDArray[np.float64]]

# `observation.state.mean`, `normalize_inputs.buffer_observation_state.mean`, `so100.buffer.action.std`, ...
_NAME = re.compile(
    r"^(?P<prefix>.*?)(?:^|[._])(?:buffer[._])?"
    r"(?P<feature>observation[._]state|action)[._](?P<statistic>mean|std|min|max|count|q\d\d)$"
)


@dataclass
class Bound:
    """Statistics of state and action, and where those of each feature came from."""

    statistics: Statistics = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    problem: str | None = None  # why there are none, where they were not required


def bind_statistics(
    before: FlatStatistics, after: FlatStatistics, in_weights: FlatStatistics, config: PolicyConfig
) -> Bound:
    """Find what the normalisation of `config` needs.

    before, after: entries of the pre- and post-processor's state files; in_weights: normalisation buffers among the
    weights (older layouts). The proper name wins; under other names exactly one candidate of the right size must be
    left (equal ones count as one). Raises CheckpointError naming the feature, the candidates and --stats-from.
    """
    bound = Bound()
    for feature, dim, sources in (
        (STATE, config.state_dim, (before, after, in_weights)),
        (ACTION, config.action_dim, (after, before, in_weights)),
    ):
        needed = needed_statistics(feature_mode(config.normalization_mapping, feature))
        groups = _groups(feature, sources)
        proper = groups.get(feature)
        if proper is not None and _fits(proper, needed, dim):
            bound.statistics[feature], bound.origin[feature] = proper, feature
        elif needed:
            name, chosen = _only_candidate(feature, needed, dim, groups)
            bound.statistics[feature], bound.origin[feature] = chosen, name
    return bound


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
    return all(name in group and group[name].shape == (dim,) and np.isfinite(group[name]).all() for name in needed)


def _only_candidate(
    feature: str, needed: tuple[str, ...], dim: int, groups: Mapping[str, Feature]
) -> tuple[str, Feature]:
    fitting = {name: group for name, group in groups.items() if _fits(group, needed, dim)}
    distinct: dict[str, Feature] = {}
    for name, group in fitting.items():
        if not any(all(np.array_equal(group[key], other[key]) for key in needed) for other in distinct.values()):
            distinct[name] = group
    if len(distinct) == 1:
        return next(iter(distinct.items()))
    wanted = " and ".join(needed)
    if not distinct:
        sizes = [f"'{name}' ({', '.join(f'{key}: {len(value)}' for key, value in group.items())})"
                 for name, group in groups.items()]  # fmt: skip
        found = f"it has {', '.join(sizes)}" if sizes else "it has none"
        problem = f"The checkpoint has no usable statistics for '{feature}'; {found}."
    else:
        problem = f"The checkpoint has several statistics for '{feature}': {', '.join(map(repr, distinct))}."
    raise CheckpointError(
        problem,
        expected=f"one {wanted} of '{feature}' with {dim} values; without it actions would stay normalised numbers",
        fix="give those of the recording: --stats-from DATASET (load_policy(..., stats_from=DATASET))",
    )
