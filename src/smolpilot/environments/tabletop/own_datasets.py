"""What the tabletop knows of its own datasets, and of settings by earlier names: see `environments.of_datasets`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .colors import COLORS

# As stages files up to the contracts wrote them, beside `env`.
OLD_SETTINGS = {"target": "target", "colors": "colors", "colours": "colors"}
_NAMED = re.compile(r"touch the (\w+) block")


def for_recording(robot_type: str | None, instructions: Sequence[str]) -> Mapping[str, str] | None:
    """The color that a dataset of one task names; None for other robots, and for datasets of several tasks."""
    if robot_type != "tabletop" or len(instructions) != 1:
        return None
    match = _NAMED.fullmatch(instructions[0])
    return {"target": match[1]} if match is not None and match[1] in COLORS else None
