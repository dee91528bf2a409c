"""What a recording of demonstrations amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RecordSummary:
    """What was written. `tried` and `succeeded`: the expert's own rate, over all that it played; `discarded`: the
    demonstrations that are not in the dataset; `simulation`: what it was drawn and computed with."""

    path: str
    env: str
    robot_type: str
    episodes: int
    frames: int
    rate: float
    seconds: float
    shortest: int
    longest: int
    tried: int
    succeeded: int
    discarded: int
    instructions: dict[str, int]
    simulation: Mapping[str, Any] = field(default_factory=dict)
    profile: str | None = None  # the file of the robot's profile, where it is not the shipped one of that name
