"""Driver: the joints of one arm on its bus, and nothing above them. Only the governor writes to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

type Joints = npt.NDArray[np.float64]  # [A], a value for each joint of the driver, in its order


@dataclass(frozen=True, eq=False)
class JointReadings:
    """What the joints of an arm say of themselves, all arrays float64 [A] in the order of `Driver.joints`.

    position: in the profile's units; NaN for a joint that did not answer. read_at: when, seconds on the monotonic
    clock. What a bus does not tell is None: velocity in units per second, load as a signed share of what the motor can
    give (1 is all), current in A (not negative), temperature in degrees Celsius, voltage in V. faults: joint -> what
    its servo reports against itself, as ("overload",). retries: how often the reading had to be asked for again.
    """

    position: Joints
    read_at: float
    velocity: Joints | None = None
    load: Joints | None = None
    current: Joints | None = None
    temperature: Joints | None = None
    voltage: Joints | None = None
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class DriverLimits:
    """What the servos themselves hold a joint to; None where nobody says.

    position: lowest and highest value in the profile's units, as its calibration has them, on the grid of what the
    servo can be told, so that a command within them is within them on the bus too; step: of that grid. temperature:
    degrees Celsius, and voltage: V (lowest, highest), beyond which the servo switches off.
    """

    position: tuple[float, float] | None = None
    step: float | None = None
    temperature: float | None = None
    voltage: tuple[float, float] | None = None


@runtime_checkable
class Driver(Protocol):
    """The joints of one arm. Nothing moves but by `write`, and nothing is switched on but by `engage`.

    Every call raises DeviceError when nothing answers, and DeviceGoneError when the way to the arm is gone (the cable
    was pulled out): then only `disconnect` is of use. Positions are in the profile's units, in the order of `joints`.
    """

    joints: tuple[str, ...]
    """Names of the joints as the profile has them, in the order of all arrays [A]."""

    def connect(self) -> None:
        """Open the bus and see that every servo is the one that is meant; without effect where it is open.

        Sends no goal and leaves torque as it is.
        """
        ...

    def limits(self) -> Mapping[str, DriverLimits]:
        """What the servos hold each joint to; after `connect`."""
        ...

    def read(self) -> JointReadings:
        """One reading of all joints, as much as the bus tells in one exchange. Returns within a few milliseconds."""
        ...

    def engage(self) -> Joints:
        """Hold each joint where it is: its goal is set to where it was measured and read back, then torque goes on.

        Returns the goals [A]. Nothing is switched on when a goal does not read back.
        """
        ...

    def write(self, goals: Joints) -> float:
        """Send the goals [A], finite and within `limits`; when, seconds on the monotonic clock."""
        ...

    def release(self) -> None:
        """Switch torque off: an arm without brakes falls. Only when a person has asked for it."""
        ...

    def disconnect(self) -> None:
        """Close the bus and leave torque as it is; without effect where it is closed. Never raises."""
        ...
