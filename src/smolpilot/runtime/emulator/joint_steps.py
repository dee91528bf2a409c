"""JointSteps: a joint's value in its unit, and the steps of its encoder."""

from __future__ import annotations

from dataclasses import dataclass

from smolpilot.runtime.drivers.feetech.scale import JointScale


@dataclass(frozen=True)
class JointSteps:
    """By the arm's calibration. The encoder counts from its own zero: what a servo tells is less by `offset`."""

    scale: JointScale
    offset: int

    def encoder(self, value: float | None) -> float:
        """Steps of the encoder for a value, not rounded; None: the middle of the calibrated range."""
        scale = self.scale
        if value is None:
            return scale.middle + self.offset
        return scale.middle + (value - (scale.high + scale.low) / 2) / scale.per_step + self.offset

    def value(self, encoder: float) -> float:
        """The value where the encoder stands at these steps."""
        return self.scale.value(encoder - self.offset)

    def per_second(self, velocity: float) -> float:
        """Units per second for steps per second."""
        return velocity * self.scale.per_step
