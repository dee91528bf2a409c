"""Learning rate over the run: linear warm-up, then cosine decay that ends with the run.

Source: lerobot/optim/schedulers.py, CosineDecayWithWarmupSchedulerConfig. LeRobot decays over 30,000 steps whatever
the run's length, so a longer run stands still at its floor; here the decay spans the run's own steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Rate at each step of a run of `steps`: from peak / (warmup + 1) up to `peak`, along a cosine to `floor`."""

    peak: float
    floor: float
    warmup: int
    steps: int

    def rate(self, step: int) -> float:
        """Learning rate of the optimizer step number `step` (0 is the first)."""
        if step < self.warmup:
            start = 1 / (self.warmup + 1)
            return self.peak * (1 - (1 - start) * (1 - step / self.warmup))
        # The cosine counts from step 0, not from the end of the warm-up, as LeRobot's does.
        cosine = 0.5 * (1 + math.cos(math.pi * min(step, self.steps) / self.steps))
        return self.floor + (self.peak - self.floor) * cosine
