"""Robot: LeRobot's verbs with time stamps. `command` tells what was really sent; `stop` says how to stop."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError
from smolpilot.common.text import plain, shown

from .camera import CameraSpec

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile

    from .observation import Observation

_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")


class StopCategory(IntEnum):
    """How to stop, after the stop categories of IEC 60204-1.

    This is software and no safety function in the sense of ISO 13849: the emergency stop is the power switch.
    """

    POWER_OFF = 0
    """Power is removed at once: an arm without brakes falls."""
    THEN_POWER_OFF = 1
    """A controlled stop under power, which is removed when the arm stands: only in a pose that it keeps without."""
    HOLD = 2
    """A controlled stop, and the arm is held where it stands. What every fault leads to."""


class Flag(StrEnum):
    """What was wrong with a command, or kept the robot from following it: keys of `SentAction.flags`.

    A robot may use further words (lower-case letters, digits, `_`).
    """

    NOT_FINITE = "not_finite"
    """The request held NaN or infinity; the last command was held."""
    WRONG_LENGTH = "wrong_length"
    """The request had another number of values than the robot has joints; the last command was held."""
    POSITION = "position"
    """Clamped to the position limits."""
    VELOCITY = "velocity"
    """Clamped to the velocity limit, counted from the last command."""
    ACCELERATION = "acceleration"
    """Clamped to the acceleration limit, counted from the last two commands."""
    TRACKING = "tracking"
    """The measured position is too far from what was commanded."""
    RAMP = "ramp"
    """On the slow way from where the arm stood to the first action."""
    STARVED = "starved"
    """No action was there when it was due; the last command was held."""
    STALE_STATE = "stale_state"
    """The joints were read too long ago."""
    STALE_IMAGE = "stale_image"
    """An image is too old; names cameras."""
    STALE_CHUNK = "stale_chunk"
    """The chunk was planned from an observation that is too old."""
    STALE_ACTION = "stale_action"
    """What a person or program asked for is too old."""
    STALL = "stall"
    """The joint pushes without moving."""
    TEMPERATURE = "temperature"
    VOLTAGE = "voltage"
    STATUS = "status"
    """A servo reports a fault of its own."""
    STOPPED = "stopped"
    """A stop is in force: nothing that is asked for is done."""


@dataclass(frozen=True)
class Stop:
    """A stop that is in force, and why: a sentence for a person, kept as one line of printable text."""

    category: StopCategory
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", plain(self.reason))


@dataclass(frozen=True)
class RobotSpec:
    """What a robot is. `profile`: its joints, in whose order and units states [S] and actions [A] are, and limits.

    `cameras`: those that each observation holds. `rate`: commands per second that it is made for.
    """

    name: str
    profile: RobotProfile
    cameras: tuple[CameraSpec, ...]
    rate: float

    @property
    def state_names(self) -> tuple[str, ...]:
        """Joints of `observation.state`, in order [S]."""
        return tuple(joint.name for joint in self.profile.state_joints)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Joints of an action, in order [A]."""
        return tuple(joint.name for joint in self.profile.action_joints)

    @property
    def action_units(self) -> tuple[str, ...]:
        """Units of an action, in order [A]."""
        return tuple(joint.unit for joint in self.profile.action_joints)


@dataclass(frozen=True, eq=False)
class SentAction:
    """What became of a command, in the robot's units. Arrays are copied, and cannot be written to.

    requested: what was asked for, float32 [A]; may hold NaN, and with the flag WRONG_LENGTH another number of values.
    commanded: what the motors were told, float32 [A], always finite. measured: where the joints were read to be when
    that was decided, float32 [A], NaN for a joint that did not answer; None where they were not read. sent_at: seconds
    on the monotonic clock. flags: what differed from the request, or else is wrong: `Flag` -> names of the joints (or
    cameras) concerned, none for the whole command; empty where all went as asked. stop: the stop in force, if any.
    DeviceError where this is not so.
    """

    requested: npt.NDArray[np.float32]
    commanded: npt.NDArray[np.float32]
    sent_at: float
    measured: npt.NDArray[np.float32] | None = None
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stop: Stop | None = None

    def __post_init__(self) -> None:
        for name in ("requested", "commanded", "measured"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _vector(getattr(self, name), name))
        object.__setattr__(self, "flags", {str(flag): tuple(names) for flag, names in self.flags.items()})
        if problem := self._problem():
            raise DeviceError(f"A robot says of a command: {problem[0]}.", expected=problem[1])

    def _problem(self) -> tuple[str, str] | None:
        """What is wrong, and what would be right."""
        size = len(self.commanded)
        if not bool(np.isfinite(self.commanded).all()):
            return f"commanded is {shown(self.commanded.tolist())}", "finite numbers: nothing else may reach a motor"
        if self.measured is not None and len(self.measured) != size:
            return f"measured has {len(self.measured)} values, commanded {size}", "a value for each joint"
        if len(self.requested) != size and Flag.WRONG_LENGTH not in self.flags:
            return f"requested has {len(self.requested)} values, commanded {size}", "the flag wrong_length"
        if not math.isfinite(self.sent_at):
            return f"sent_at is {shown(self.sent_at)}", "seconds on the monotonic clock"
        if odd := next((flag for flag in self.flags if not _WORD.fullmatch(flag)), None):
            return f"flag {shown(odd)}", "a word of lower-case letters, digits and _"
        return None


@runtime_checkable
class Robot(Protocol):
    """An arm, real or not, behind LeRobot's verbs (lerobot/robots/robot.py: get_observation, send_action).

    Unlike there, values are vectors in the order of the profile, observations carry when they were read, and a command
    answers with what was sent and why it differs. Nothing moves by itself: `connect` and `observe` send no goal.
    """

    if TYPE_CHECKING:
        # A plain attribute will do: at run time nothing is in the way of `self.spec = ...`.
        @property
        def spec(self) -> RobotSpec: ...

    def connect(self) -> None:
        """Open robot and cameras, and hold the arm where it stands; DeviceError when something does not answer."""
        ...

    def observe(self) -> Observation:
        """State float32 [S] and an image per camera, with `captured_at` for each of them; no instruction.

        DeviceError while not connected.
        """
        ...

    def command(self, action: npt.NDArray[np.float32]) -> SentAction:
        """Send the joint positions of `action` float32 [A], as far as they are allowed; returns at once.

        A request that is not finite or has another length is not sent: the last command is held, and flags say why.
        After a stop nothing is sent until a person has lifted it. DeviceError while not connected.
        """
        ...

    def stop(self, category: StopCategory) -> None:
        """Stop in this way, at any time, also while another thread commands. The stop stays in force."""
        ...

    def disconnect(self) -> None:
        """Close robot and cameras; without effect where they are closed. What the arm does then, the driver documents.

        Closes everything that it can, whatever does not answer."""
        ...


def _vector(value: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """A copy as float32 [n] that cannot be written to."""
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told then
            made = np.array(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise DeviceError(f"{name} is {shown(value)}.", expected="numbers, one for each joint") from None
    if made.ndim != 1:
        raise DeviceError(f"{name} has the shape {list(made.shape)}.", expected="one number for each joint")
    made.setflags(write=False)
    return made
