"""FeetechLeader: an arm of STS3215 servos that a person moves by hand (the leader of SO-100 and SO-101)."""

from __future__ import annotations

import time
from collections.abc import Callable

from smolpilot.common.errors import DeviceError
from smolpilot.contracts.teleoperator import TeleoperatorReading, TeleoperatorSpec
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import LEADERS, Calibration, JointCalibration, find_calibration, read_calibration

from . import registers as r
from .bus import TIMEOUT, Bus
from .engaging import switch_off
from .options import BusOptions
from .scale import JointScale
from .servos import LEADER_CONFIGURATION, Difference, Servos


class FeetechLeader:
    """The joints of a profile's actions as a person holds them. Not for several threads at once.

    Positions that wrap are counted on from `connect`, so that no reading jumps by a turn.
    """

    Options = BusOptions

    def __init__(
        self,
        profile: RobotProfile,
        port: str,
        calibration: Calibration,
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """profile: of the follower, whose joints and units the readings have. calibration: the leader's own."""
        joints = profile.action_joints
        self.spec = TeleoperatorSpec("feetech", {joint.name: joint.unit for joint in joints})
        self.calibration: dict[str, JointCalibration] = {joint.name: calibration[joint.name] for joint in joints}
        self.scales = tuple(JointScale.of(joint, calibration[joint.name]) for joint in joints)
        self._ids = {joint: entry.id for joint, entry in self.calibration.items()}
        self.bus = Bus(port, names={servo: joint for joint, servo in self._ids.items()}, timeout=timeout)
        self.servos = Servos(self.bus, self.calibration, dict.fromkeys(self._ids, LEADER_CONFIGURATION))
        self._clock = clock
        self._last: dict[str, int] = {}
        self._connected = False

    @classmethod
    def from_options(
        cls, profile: RobotProfile, options: BusOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> FeetechLeader:
        """The arm that a setup means; UsageError for a calibration that is not there or does not fit."""
        calibration = read_calibration(find_calibration(options.calibration, LEADERS), profile)
        return cls(profile, options.port, calibration, timeout=options.timeout, clock=clock)

    def connect(self) -> None:
        """Open the port, see that every servo is the one that is meant, and switch torque off where it is on.

        The arm falls then, if a program has held it. DeviceError that says what is wrong, the port closed again.
        """
        if self._connected:
            return
        self.bus.open()
        try:
            self.servos.identify()
            self.servos.refuse_other_calibration()
            held = [joint for joint in self._ids if self.servos.has_torque(joint)]
            switch_off(self.bus, self._ids, held)
            for joint in held:
                self.servos.load(joint)
            self.servos.configure()
            self.servos.close_locks()
        except BaseException:
            self.bus.close()
            raise
        self._last, self._connected = {}, True

    def read(self) -> TeleoperatorReading:
        """Where the person holds each joint, by name. DeviceError when a servo does not answer."""
        if not self._connected:
            raise DeviceError(f"The leader arm on {self.bus.port} is not connected.")
        at = self._clock()
        replies, _ = self.bus.sync_read(list(self._ids.values()), r.PRESENT_POSITION)
        if silent := [servo for servo in self._ids.values() if servo not in replies]:
            raise self.bus.silent(silent)
        action = {}
        for scale in self.scales:
            steps = r.PRESENT_POSITION.decode(replies[scale.calibration.id].data)
            self._last[scale.joint] = scale.unwrapped(steps, self._last.get(scale.joint))
            action[scale.joint] = scale.value(self._last[scale.joint])
        return TeleoperatorReading(action, at)

    def disconnect(self) -> None:
        """Close the port; without effect where it is closed. Never raises."""
        self._connected = False
        self.bus.close()

    def write_calibration(self) -> tuple[Difference, ...]:
        """Write the calibration to the servos, where they differ; what was written. Only while not connected."""
        self.bus.open()
        try:
            self.servos.identify()
            return tuple(self.servos.write_calibration())
        finally:
            if not self._connected:
                self.bus.close()
