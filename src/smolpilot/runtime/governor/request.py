"""What is asked of the arm in one tick, and what the governor answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from smolpilot.contracts import Joints, Stop


@dataclass(frozen=True, eq=False)
class Request:
    """An action [A] in the robot's units and order, as a source gives it: not yet trusted.

    asked_at: when it was decided or read off a person's hand; observed_at: when the joints and images were captured
    that it was planned from, None where no observation was; seconds on the monotonic clock. sees: names of the cameras
    whose images it depends on.
    """

    action: npt.ArrayLike
    asked_at: float
    observed_at: float | None = None
    sees: tuple[str, ...] = ()


class Phase(StrEnum):
    """What the governor is doing."""

    DISENGAGED = "disengaged"
    """Torque was not switched on by this process; nothing is sent."""
    RAMP = "ramp"
    """On the slow way from where the arm stands to what is asked for."""
    RUNNING = "running"
    STOPPED = "stopped"
    """A stop is in force until a person lifts it; the arm is held."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What becomes of a tick. command: float64 [A], to be sent, None where nothing may be sent (torque is not ours).

    flags: as in SentAction. stop: the stop in force. relaxed: joints whose command goes back to where they are.
    torque: joint -> share that its motor may give from now on; only what changes in this tick. send: whether the
    command is news: an arm that has come to rest under a stop is left alone, so that a servo that comes back from a
    loss of power, or a bus that is plugged in again, is told nothing before a person has looked.
    """

    requested: npt.NDArray[np.float32]
    command: Joints | None
    flags: Mapping[str, tuple[str, ...]]
    stop: Stop | None
    relaxed: tuple[str, ...] = ()
    torque: Mapping[str, float] | None = None
    send: bool = True
