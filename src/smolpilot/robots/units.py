"""Units of joints, and the factors between those that a factor connects."""

from __future__ import annotations

import math
from typing import Literal

Unit = Literal["rad", "deg", "m", "mm", "normalized", "fraction", "percent", "byte", "px", "unknown"]

# Other spellings that are accepted wherever a unit is read.
SPELLINGS = {"normalised": "normalized"}

# What a device's own scale ends at. `normalized` says it by its limits: [0, 100], [0, 1], [-100, 100], ...
SCALES: dict[str, float] = {"fraction": 1.0, "percent": 100.0, "byte": 255.0}

FACTORS = {
    ("rad", "deg"): 180.0 / math.pi,
    ("deg", "rad"): math.pi / 180.0,
    ("m", "mm"): 1000.0,
    ("mm", "m"): 0.001,
}
"""From a unit to another one; those of scales depend on the joint: `Joint.factor_from`."""

_KINDS = {"rad": "angle", "deg": "angle", "m": "length", "mm": "length", "normalized": "scale"} | dict.fromkeys(
    SCALES, "scale"
)


def kind_of(unit: str) -> str:
    """`angle`, `length`, `scale`, or the unit itself where nothing converts into it."""
    return _KINDS.get(unit, unit)
