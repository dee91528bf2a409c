"""Stored statistics as they are found: what cannot be read counts as missing, since all of it follows from the data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import batched
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.statistics import Statistics

type Arrays = dict[str, npt.NDArray[np.float64]]

# Rows that are turned into arrays together: as Python's lists all of them would take gigabytes.
_TOGETHER = 1000


def read_statistics(raw: Any) -> Statistics:
    """The statistics of `stats.json` or of one episode, without features whose entries are no numbers."""
    found: Statistics = {}
    for feature, parts in _by_feature([raw]).items():
        arrays = _stacked(parts)
        if arrays is not None:
            found[feature] = {key: values[0] for key, values in arrays.items()}
    return found


def merge_stored(rows: Iterable[Any]) -> Statistics:
    """The statistics of all episodes together, without features whose entries are no numbers or do not fit together.

    The same numbers as `merge_statistics`; a search for what is wrong with them is left to `dataset check`.
    """
    blocks: dict[str, list[Arrays | None]] = {}
    for some in batched(rows, _TOGETHER):
        for feature, parts in _by_feature(some).items():
            blocks.setdefault(feature, []).append(_stacked(parts))
    merged = {feature: _merged(arrays) for feature, arrays in blocks.items()}
    return {feature: stats for feature, stats in merged.items() if stats}


def _by_feature(rows: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        for feature, stats in row.items() if isinstance(row, dict) else ():
            if isinstance(stats, dict) and stats:
                parts.setdefault(str(feature), []).append(stats)
    return parts


def _stacked(parts: list[dict[str, Any]]) -> Arrays | None:
    """Each statistic that all parts have, `[parts, …]`; None when one of them is no array of numbers."""
    common = [key for key in parts[0] if all(key in part for part in parts)]
    try:
        stacked = {key: np.asarray([part[key] for part in parts], dtype=np.float64) for key in common}
    except (ValueError, TypeError):
        return None
    return {key: values[:, None] if values.ndim == 1 else values for key, values in stacked.items()}


def _merged(blocks: list[Arrays | None]) -> Arrays:
    """As lerobot/datasets/compute_stats.py, aggregate_feature_stats, does it; empty where the parts do not fit."""
    whole = [block for block in blocks if block is not None]
    if len(whole) < len(blocks):
        return {}
    common = [key for key in whole[0] if all(key in block for block in whole)]
    shapes = {block[key].shape[1:] for block in whole for key in common if key != "count"}
    if len(shapes) > 1 or any(block["count"].shape[1:] != (1,) for block in whole if "count" in common):
        return {}
    parts = {key: np.concatenate([block[key] for block in whole]) for key in common}
    if len(next(iter(parts.values()), ())) == 1:
        return {key: values[0] for key, values in parts.items()}
    merged: Arrays = {key: getattr(parts[key], key)(axis=0) for key in ("min", "max") if key in parts}
    if "count" not in parts:
        return merged
    merged["count"] = parts["count"].sum(axis=0)
    weights = parts["count"][:, 0] / merged["count"][0]

    def weighted(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.tensordot(weights, values, axes=1), dtype=np.float64)

    if "mean" in parts:
        merged["mean"] = weighted(parts["mean"])
    if "mean" in parts and "std" in parts:
        merged["std"] = np.sqrt(weighted(parts["std"] ** 2 + (parts["mean"] - merged["mean"]) ** 2))
    quantiles = [key for key in parts if key.startswith("q") and key[1:].isdigit()]
    return merged | {key: weighted(parts[key]) for key in quantiles}
