"""What the servos say of themselves, tick by tick: who is in trouble, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smolpilot.contracts import DriverLimits, Flag, JointReadings, Joints
from smolpilot.runtime.limits import EffectiveLimits

from .options import GovernorOptions

OVERLOAD = "overload"


@dataclass(frozen=True)
class Trouble:
    """A reason to stop: `flag` and joints, a sentence, and which of the joints must give way."""

    flag: Flag
    joints: tuple[str, ...]
    reason: str
    relax: tuple[str, ...] = ()


class Health:
    """Counts, joint by joint, for how many readings in a row, or for how long, something has been wrong."""

    def __init__(self, limits: EffectiveLimits, servos: Mapping[str, DriverLimits], options: GovernorOptions) -> None:
        self._limits, self._options = limits, options
        self._names = limits.names
        self._servos = [servos.get(name, DriverLimits()) for name in self._names]
        self.reset()

    def reset(self) -> None:
        """Forget what was: a person has looked."""
        size = len(self._names)
        self._counts: dict[str, npt.NDArray[np.int64]] = {}
        self._stalled_since: list[float | None] = [None] * size
        self._silent_since: list[float | None] = [None] * size

    def look(self, reading: JointReadings, command: Joints, moving: Joints) -> tuple[list[Trouble], tuple[str, ...]]:
        """What is wrong with a new reading, worst first, and which grippers have closed on something.

        command: the last command [A]; moving: its velocity [A].
        """
        found = [
            *self._status(reading),
            *self._temperature(reading),
            *self._voltage(reading),
            *self._silence(reading),
        ]
        stalled = self._stalls(reading, command)
        arm = tuple(name for name in stalled if not self._is_gripper(name))
        if arm:
            found.append(Trouble(Flag.STALL, arm, self._stall_reason(arm, reading, command), relax=arm))
        if lost := self._tracking(reading, command):
            found.append(lost)
        return found, tuple(name for name in stalled if self._is_gripper(name))

    def _is_gripper(self, name: str) -> bool:
        return self._limits.joints[self._names.index(name)].gripper

    def _repeated(
        self, kind: str, wrong: npt.NDArray[np.bool_], said: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Which joints have been wrong so often in a row that it is no disturbed reading.

        said: what was judged; a joint that said nothing (NaN) has not said that it is well.
        """
        counts = self._counts.get(kind, np.zeros(len(self._names), dtype=np.int64))
        self._counts[kind] = np.where(wrong, counts + 1, np.where(np.isnan(said), counts, 0))
        return self._counts[kind] >= self._options.repeated

    def _status(self, reading: JointReadings) -> list[Trouble]:
        wrong = np.array([bool(reading.faults.get(name)) for name in self._names])
        certain = self._repeated("status", wrong, reading.position)
        found = []
        for name, sure in zip(self._names, certain, strict=True):
            words = reading.faults.get(name, ())
            if not sure or (self._is_gripper(name) and set(words) <= {OVERLOAD}):
                continue  # a gripper that holds something is overloaded: its force is lowered, see `Governor`
            reason = f"The servo of '{name}' reports a fault of its own: {', '.join(words)}."
            found.append(Trouble(Flag.STATUS, (name,), reason, relax=(name,) if OVERLOAD in words else ()))
        return found

    def _temperature(self, reading: JointReadings) -> list[Trouble]:
        if reading.temperature is None:
            return []
        most = np.array([np.inf if s.temperature is None else s.temperature for s in self._servos])
        wrong = reading.temperature >= most - self._options.temperature_margin
        hot = self._repeated("temperature", wrong, reading.temperature)
        return [
            Trouble(
                Flag.TEMPERATURE,
                (name,),
                f"The servo of '{name}' is at {reading.temperature[i]:.0f} °C; it switches off at {most[i]:.0f} °C.",
            )
            for i, name in enumerate(self._names)
            if hot[i]
        ]

    def _voltage(self, reading: JointReadings) -> list[Trouble]:
        if reading.voltage is None:
            return []
        bounds = [(-np.inf, np.inf) if s.voltage is None else s.voltage for s in self._servos]
        low, high = np.array(bounds).T
        wrong = self._repeated("voltage", (reading.voltage <= low) | (reading.voltage >= high), reading.voltage)
        return [
            Trouble(
                Flag.VOLTAGE,
                (name,),
                f"The servo of '{name}' has {reading.voltage[i]:.1f} V; it works from {low[i]:.1f} to {high[i]:.1f} V.",
            )
            for i, name in enumerate(self._names)
            if wrong[i]
        ]

    def _silence(self, reading: JointReadings) -> list[Trouble]:
        """Joints that have not answered for longer than a reading may be old."""
        silent = []
        for i, name in enumerate(self._names):
            if np.isfinite(reading.position[i]):
                self._silent_since[i] = None
                continue
            since = self._silent_since[i] = self._silent_since[i] or reading.read_at
            if reading.read_at - since > self._options.max_state_age:
                silent.append(name)
        if not silent:
            return []
        names = ", ".join(f"'{name}'" for name in silent)
        return [Trouble(Flag.STALE_STATE, tuple(silent), f"No answer from the servo of {names}.")]

    def _tracking(self, reading: JointReadings, command: Joints) -> Trouble | None:
        error = np.abs(command - reading.position)
        beyond = self._repeated("tracking", (error > self._limits.tracking) & ~self._limits.gripper, error)
        if not beyond.any():
            return None
        i = int(np.argmax(np.where(beyond, error / self._limits.tracking, 0)))
        joints = tuple(name for name, lost in zip(self._names, beyond, strict=True) if lost)
        unit = self._limits.joints[i].unit
        return Trouble(
            Flag.TRACKING,
            joints,
            f"'{self._names[i]}' is at {reading.position[i]:.1f} {unit}, commanded {command[i]:.1f}: more than "
            f"{self._limits.tracking[i]:.1f} apart (something in the way, or the wrong calibration).",
            relax=joints,
        )

    def _stalls(self, reading: JointReadings, command: Joints) -> tuple[str, ...]:
        """Joints that push and do not move, for long enough."""
        options = self._options
        span = self._limits.high - self._limits.low
        pushing = self._pushing(reading)
        if pushing is None or reading.velocity is None:
            return ()
        stuck = (
            (np.abs(command - reading.position) > options.stall_error * span)
            & (np.abs(reading.velocity) < options.stall_speed * span)
            & pushing
        )
        found = []
        for i, name in enumerate(self._names):
            if not stuck[i]:
                if np.isfinite(reading.position[i]):
                    self._stalled_since[i] = None
                continue
            if self._stalled_since[i] is None:
                self._stalled_since[i] = reading.read_at
            since = self._stalled_since[i]
            if since is not None and reading.read_at - since >= options.stall_time:
                found.append(name)
        return tuple(found)

    def _pushing(self, reading: JointReadings) -> npt.NDArray[np.bool_] | None:
        """Which joints push. By the current, or where a servo gives less because it protects itself, by its load."""
        if reading.current is None and reading.load is None:
            return None
        pushing = np.zeros(len(self._names), dtype=bool)
        if reading.current is not None:
            pushing |= reading.current > self._options.stall_current
        if reading.load is not None:
            allowed = np.array([1.0 if one.torque is None else one.torque.value for one in self._limits.joints])
            pushing |= np.abs(reading.load) >= self._options.stall_load * allowed
        return pushing

    def _stall_reason(self, joints: tuple[str, ...], reading: JointReadings, command: Joints) -> str:
        i = self._names.index(joints[0])
        pull = "" if reading.current is None else f" with {reading.current[i]:.1f} A"
        unit = self._limits.joints[i].unit
        return (
            f"'{joints[0]}' pushes{pull} and does not move: it is at {reading.position[i]:.1f} {unit}, "
            f"commanded {command[i]:.1f}."
        )
