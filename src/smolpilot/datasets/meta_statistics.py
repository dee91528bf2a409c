"""Stored statistics as they are found: what cannot be read counts as missing, since all of it follows from the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.errors import DatasetError
from smolpilot.statistics import Statistics, merge_statistics

type Raw = dict[str, dict[str, Any]]


def read_statistics(raw: Any) -> Statistics:
    """The statistics of `stats.json` or of one episode, without features whose entries are no numbers."""
    return merge_stored([raw])


def merge_stored(rows: Sequence[Any]) -> Statistics:
    """The statistics of all episodes together, without features whose entries are no numbers or do not fit together."""
    merged: Statistics = {}
    for feature, parts in _by_feature(rows).items():
        arrays = _stacked(parts)
        if arrays is None:
            continue
        try:
            merged |= merge_statistics(
                [{feature: {key: values[i] for key, values in arrays.items()}} for i in range(len(parts))]
            )
        except DatasetError:
            continue
    return merged


def _by_feature(rows: Sequence[Any]) -> dict[str, list[dict[str, Any]]]:
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        for feature, stats in row.items() if isinstance(row, dict) else ():
            if isinstance(stats, dict) and stats:
                parts.setdefault(str(feature), []).append(stats)
    return parts


def _stacked(parts: list[dict[str, Any]]) -> dict[str, npt.NDArray[np.float64]] | None:
    """Each statistic that all parts have, `[parts, …]`; None when one of them is no array of numbers."""
    common = [key for key in parts[0] if all(key in part for part in parts)]
    try:
        stacked = {key: np.asarray([part[key] for part in parts], dtype=np.float64) for key in common}
    except (ValueError, TypeError):
        return None
    return {key: values[:, None] if values.ndim == 1 else values for key, values in stacked.items()}
