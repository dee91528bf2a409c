"""How far a dataset lies from a parent's statistics, per joint. Loads no torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from smolpilot.statistics import Statistics

FAR = 3.0  # standard deviations between two means, or the ratio of two deviations, that stop a run


def drift(parent: Statistics, own: Statistics, feature: str) -> tuple[Any, Any]:
    """Per joint: distance of the means in the parent's standard deviations; ratio own/parent of the deviations."""
    deviation = np.maximum(parent[feature]["std"], 1e-6)
    return np.abs(own[feature]["mean"] - parent[feature]["mean"]) / deviation, own[feature]["std"] / deviation
