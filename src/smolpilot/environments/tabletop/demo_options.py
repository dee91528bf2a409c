"""Options of `smolpilot demo`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from smolpilot.common.option_types import Amount, AnyAmount, Flag, Seed, Steps


@dataclass(frozen=True)
class DemoOptions:
    """Record, train, evaluate and roll out a tiny policy on the shipped tabletop, and let it drive the emulated arm in
    real time; about ten minutes on two cores.

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
    robot_episodes: AnyAmount = 10
    """Episodes on the emulated arm, and one more in which the policy process is killed; 0: none of it."""
    quick: Flag = False
    """All of it in under two minutes, with a policy that has learned next to nothing: no goals are judged."""
    seed: Seed = 0
    """Seed of recording and training."""

    def resolved(self) -> DemoOptions:
        """The same, with the sizes of --quick."""
        if not self.quick:
            return self
        return dataclasses.replace(self, demonstrations=40, steps=60, rollouts=4, robot_episodes=1)
