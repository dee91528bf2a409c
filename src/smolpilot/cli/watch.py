"""`smolpilot watch RUN`: a live view of a training run."""

from __future__ import annotations

from collections.abc import Sequence

from .status import watch


def main(args: Sequence[str]) -> int:
    """Run the verb."""
    return watch(args)
