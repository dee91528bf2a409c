"""Units of joints, and the factors between those that a factor connects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .profile import Joint

Unit = Literal["rad", "deg", "m", "mm", "normalized", "fraction", "percent", "byte", "px", "unknown"]

# Spellings of versions before 0.2: accepted for ever, wherever a unit is read.
SPELLINGS = {"normalised": "normalized"}

# What a device's own scale ends at. `normalized` says it by its limits: [0, 100], [0, 1], [-100, 100], ...
SCALES: dict[str, float] = {"fraction": 1.0, "percent": 100.0, "byte": 255.0}

_FACTORS = {
    ("rad", "deg"): 180.0 / math.pi,
    ("deg", "rad"): math.pi / 180.0,
    ("m", "mm"): 1000.0,
    ("mm", "m"): 0.001,
}
_KINDS = {"rad": "angle", "deg": "angle", "m": "length", "mm": "length", "normalized": "scale"} | dict.fromkeys(
    SCALES, "scale"
)


def kind_of(unit: str) -> str:
    """`angle`, `length`, `scale`, or the unit itself where nothing converts into it."""
    return _KINDS.get(unit, unit)


def full_scale(joint: Joint) -> float | None:
    """The end of a joint's own scale: 1, 100 or 255; None where neither its unit nor its limits say one."""
    if joint.unit in SCALES:
        return SCALES[joint.unit]
    if joint.unit != "normalized" or joint.position_limits is None:
        return None
    low, high = joint.position_limits
    return high if high in SCALES.values() and low in (0.0, -high) else None


def factor(unit: str, joint: Joint) -> float | None:
    """What turns a value in `unit` into the joint's own unit; None where no factor does.

    Degrees into the normalized -100..100 of a servo bus have none: that scale depends on each arm's calibration.
    """
    if unit == joint.unit or "unknown" in (unit, joint.unit):
        return 1.0
    if unit in SCALES:
        end = full_scale(joint)
        return None if end is None else end / SCALES[unit]
    if unit == "normalized" and joint.unit in SCALES:
        return 1.0  # the device's own scale, whatever it is called
    return _FACTORS.get((unit, joint.unit))
