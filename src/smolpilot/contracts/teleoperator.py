"""Teleoperator: a leader arm, a gamepad, a keyboard: what a person wants the joints to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from smolpilot.common.errors import DeviceError
from smolpilot.common.text import plain, shown


@dataclass(frozen=True)
class TeleoperatorSpec:
    """What a teleoperator gives: a value for each joint of `units`, which maps joint name -> unit, as "deg"."""

    name: str
    units: Mapping[str, str]


@dataclass(frozen=True)
class TeleoperatorReading:
    """Where a person wants each joint: joint name -> value in the teleoperator's unit of it.

    By name and not by position: a leader arm may count its joints in another order than the follower. captured_at:
    seconds on the monotonic clock. DeviceError for a value or time that is not a finite number.
    """

    action: Mapping[str, float]
    captured_at: float

    def __post_init__(self) -> None:
        for name, value in self.action.items():
            if not math.isfinite(value):
                raise DeviceError(
                    f"A teleoperator gave {shown(value)} for joint '{plain(name, 80)}'.", expected="a finite number"
                )
        if not math.isfinite(self.captured_at):
            raise DeviceError(
                f"A teleoperator's reading is said to be of {shown(self.captured_at)}.",
                expected="seconds on the monotonic clock",
            )

    def age(self, now: float) -> float:
        """Seconds that have passed since, at `now` on the monotonic clock."""
        return now - self.captured_at


@runtime_checkable
class Teleoperator(Protocol):
    """A device that a person moves, read once per tick."""

    if TYPE_CHECKING:
        # A plain attribute will do: at run time nothing is in the way of `self.spec = ...`.
        @property
        def spec(self) -> TeleoperatorSpec: ...

    def connect(self) -> None:
        """Open the device; DeviceError when it does not answer."""
        ...

    def read(self) -> TeleoperatorReading:
        """What is wanted now, a value for each joint of `spec.units`. DeviceError while not connected."""
        ...

    def disconnect(self) -> None:
        """Close the device; without effect where it is closed."""
        ...
