"""Plants: what emulated servos move. `ServoPlant` is joints with a motor each, gravity, and things in the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from smolpilot.common.errors import UsageError, did_you_mean


class JointCommand(NamedTuple):
    """What a servo asks of its motor: `goal` in steps of the encoder, None without torque; `force`: the share of its
    drive that it may use; `gain`: share of the drive for each step of distance."""

    goal: float | None
    force: float
    gain: float


class JointState(NamedTuple):
    """`position` in steps of the encoder, not wrapped; `velocity` in steps per second.

    Shares of the most there is, above 0 towards higher positions: `load`, the drive that is given, and `torque`, what
    it exerts. A motor that turns freely takes drive and exerts none.
    """

    position: float
    velocity: float
    load: float
    torque: float


class Plant(Protocol):
    """Joints in the order of the bus's servos. Steps are the encoder's: a homing offset is the servo's own affair."""

    def advance(self, dt: float, commands: Sequence[JointCommand]) -> Sequence[JointState]:
        """Let `dt` seconds pass under these commands; 0 tells the states as they are."""
        ...

    def close(self) -> None:
        """Free what the plant holds."""
        ...


class _Axis:
    """One joint of a ServoPlant."""

    def __init__(self, position: float, gravity: float) -> None:
        self.position, self.gravity = position, gravity
        self.low, self.high = -math.inf, math.inf
        self.velocity = self.load = 0.0

    def advance(self, dt: float, command: JointCommand, speed: float) -> None:
        start = self.position
        goal, force, gain = command
        if goal is None or force <= 0:
            self.load = 0.0
            self.position = start + speed * self.gravity * dt
        else:
            distance = goal - start
            self.load = min(force, max(-force, gain * distance))
            if abs(gain * distance) >= force:
                # At most up to where the drive is no longer at its bound.
                self.position = start + speed * (self.load + self.gravity) * dt
                if (goal - self.position) * distance < 0:
                    self.position = goal
            else:  # first order, solved exactly
                rest = goal + self.gravity / gain
                self.position = rest + (start - rest) * math.exp(-speed * gain * dt)
        self.position = min(self.high, max(self.low, self.position))
        if dt > 0:
            self.velocity = (self.position - start) / dt

    def state(self, speed: float) -> JointState:
        torque = self.load - self.velocity / speed if self.load else 0.0
        return JointState(self.position, self.velocity, self.load, torque)


class ServoPlant:
    """Each joint is a motor whose speed follows from drive and gravity: v = speed * (drive + gravity).

    The drive is gain * distance within the force it may use: a first-order servo, limited in speed and force, which
    sags by gravity / gain. A joint without torque falls with speed * gravity.
    """

    def __init__(
        self, positions: Mapping[str, float], *, gravity: Mapping[str, float] | None = None, speed: float = 3072.0
    ) -> None:
        """positions: joint -> steps of the encoder. gravity: joint -> share of the full drive that pulls it, above 0
        towards higher positions. speed: steps per second with full drive and nothing to move (3072 is 45 rpm)."""
        pull = gravity or {}
        if unknown := sorted(pull.keys() - positions.keys()):
            raise UsageError(f"Gravity is given for '{unknown[0]}'.", fix=did_you_mean(unknown[0], positions))
        self._axes = {name: _Axis(float(at), pull.get(name, 0.0)) for name, at in positions.items()}
        self._order = list(self._axes.values())
        self._speed = speed

    def advance(self, dt: float, commands: Sequence[JointCommand]) -> Sequence[JointState]:
        for axis, command in zip(self._order, commands, strict=True):
            axis.advance(dt, command, self._speed)
        return [axis.state(self._speed) for axis in self._order]

    def block(self, joint: str, at: float) -> None:
        """Put something hard at `at` (steps): the joint cannot pass it from the side where it is."""
        axis = self._axis(joint)
        if at >= axis.position:
            axis.high = at
        else:
            axis.low = at

    def unblock(self, joint: str) -> None:
        """Take away what is in the joint's way."""
        axis = self._axis(joint)
        axis.low, axis.high = -math.inf, math.inf

    def place(self, joint: str, at: float) -> None:
        """Put the joint at `at` (steps), as a hand would."""
        self._axis(joint).position = float(at)

    def pull(self, joint: str, gravity: float) -> None:
        """Change what pulls the joint, a share of the full drive: a weight in the gripper, a hand that pushes."""
        self._axis(joint).gravity = gravity

    def close(self) -> None:
        return

    def _axis(self, joint: str) -> _Axis:
        if joint not in self._axes:
            raise UsageError(f"The plant has no joint '{joint}'.", fix=did_you_mean(joint, self._axes))
        return self._axes[joint]
