"""Options of `smolpilot demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smolpilot.common.option_types import Amount, Seed, Steps


@dataclass(frozen=True)
class DemoOptions:
    """Record, train, evaluate and roll out a tiny policy on the shipped tabletop; about seven minutes on two cores.

    Started again on the same folder, it skips finished steps and continues with the others.
    """

    out: Path = Path("demo")
    """Folder for everything the demo makes."""
    demonstrations: Amount = 500
    """Episodes that the scripted expert records."""
    steps: Steps = 1400
    """Optimizer steps."""
    rollouts: Amount = 100
    """Fresh episodes per closed-loop test."""
    seed: Seed = 0
    """Seed of recording and training."""
