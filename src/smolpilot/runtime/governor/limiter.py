"""One tick of motion within position, velocity and acceleration limits, all joints at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smolpilot.contracts import Joints

type _Marks = npt.NDArray[np.bool_]

_SLACK = 1e-9  # of a limit: rounding of sums that are equal on paper


@dataclass(frozen=True)
class Motion:
    """Where the last command was, float64 [A], and how fast it was going, per second [A]."""

    position: Joints
    velocity: Joints


@dataclass(frozen=True)
class Limits:
    """Of all joints [A]; `velocity` and `acceleration` are above 0."""

    low: Joints
    high: Joints
    velocity: Joints
    acceleration: Joints


@dataclass(frozen=True)
class Moved:
    """The next command, and which joints had to be held back, and by what."""

    motion: Motion
    position: _Marks
    velocity: _Marks
    acceleration: _Marks

    @property
    def clamped(self) -> _Marks:
        return self.position | self.velocity | self.acceleration


def brake(room: Joints, acceleration: Joints, dt: float) -> Joints:
    """The highest speed for this tick from which rest is reached within `room`: v dt + v² / (2 a) = room.

    It is enough for every length of the ticks that follow: v² / (2 a) is the way of a continuous braking, and
    braking tick by tick takes less.
    """
    room = np.maximum(room, 0.0)
    return acceleration * (np.sqrt(dt * dt + 2.0 * room / acceleration) - dt)


def step_to(last: Motion, target: Joints, before: Joints, dt: float, limits: Limits) -> Moved:
    """The command of this tick for a request of `target` [A], which was `before` [A] one tick ago.

    A request that can be reached within all limits, and left again, is passed on exactly. Else the joint catches up:
    it approaches the moving request so that it does not overshoot it. Nothing but acceleration keeps a joint from
    slowing down, and nothing lets it go where it could not stop in front of a position limit.
    """
    low = np.minimum(limits.low, last.position)  # who stands outside may stay, or go inward
    high = np.maximum(limits.high, last.position)
    wanted = np.clip(target, low, high)
    before = np.clip(before, low, high)
    outside = wanted != target
    a = limits.acceleration
    asked = (wanted - last.position) / dt
    request_velocity = np.clip((wanted - before) / dt, -limits.velocity, limits.velocity)
    behind = before - last.position

    slowest, fastest = _reachable(last, dt, limits, low, high)
    followed = np.abs(behind) <= 0.5 * a * dt * dt  # closer than what one tick of the acceleration covers
    slack = _SLACK * (limits.velocity + a * dt)
    passes = followed & (asked >= slowest - slack) & (asked <= fastest + slack)
    catching_up = request_velocity + np.sign(behind) * brake(np.abs(behind), a, dt)
    velocity = np.where(passes, asked, np.clip(np.where(followed, asked, catching_up), slowest, fastest))
    position = np.where(passes, wanted, np.clip(last.position + velocity * dt, low, high))
    velocity = np.where(passes, asked, (position - last.position) / dt)

    held_back = ~passes & (np.abs(wanted - position) > slack * dt)
    too_fast = held_back & (np.abs(asked) > limits.velocity + slack)
    return Moved(Motion(position, velocity), outside, too_fast, held_back & ~too_fast)


def slow_down(last: Motion, dt: float, limits: Limits) -> Motion:
    """The command of this tick on the way to rest: as hard as the acceleration limit allows."""
    change = limits.acceleration * dt
    velocity = np.sign(last.velocity) * np.maximum(np.abs(last.velocity) - change, 0.0)
    low, high = np.minimum(limits.low, last.position), np.maximum(limits.high, last.position)
    position = np.clip(last.position + velocity * dt, low, high)
    return Motion(position, (position - last.position) / dt)


def _reachable(last: Motion, dt: float, limits: Limits, low: Joints, high: Joints) -> tuple[Joints, Joints]:
    """The lowest and highest velocity of this tick; where the limits exclude each other, the nearest to rest."""
    a = limits.acceleration
    least, most = last.velocity - a * dt, last.velocity + a * dt
    slowest = np.maximum(np.maximum(least, -limits.velocity), -brake(last.position - low, a, dt))
    fastest = np.minimum(np.minimum(most, limits.velocity), brake(high - last.position, a, dt))
    rest = np.clip(0.0, least, most)
    crossed = slowest > fastest  # limits became tighter during the motion: as soon as possible within them
    return np.where(crossed, rest, slowest), np.where(crossed, rest, fastest)
