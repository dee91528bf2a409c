"""GovernedRobot: an arm and its cameras behind the Robot contract; every command goes through the governor."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError, DeviceGoneError, UsageError
from smolpilot.common.keys import STATE, image_key
from smolpilot.contracts import (
    Camera,
    Driver,
    Flag,
    JointReadings,
    Joints,
    RobotSpec,
    SentAction,
    Stop,
    StopCategory,
    make_observation,
)
from smolpilot.robots import RobotProfile

from .governor import Decision, Governor, GovernorOptions, Phase, Request
from .limits import EffectiveLimits, OperatingLimit, effective_limits

_LOST_WRITES = 3  # in a row, before the bus counts as broken


class GovernedRobot:
    """One arm: `driver` and `cameras`, and in front of the driver the governor. Nothing else may write to the driver.

    Threads: `stop` may be called by any, also in the middle of a tick, after which it is in force; all else by one.
    """

    def __init__(
        self,
        profile: RobotProfile,
        driver: Driver,
        cameras: Mapping[str, Camera] | None = None,
        *,
        operating_limits: Mapping[str, OperatingLimit] | None = None,
        demonstrated_velocity: Mapping[str, float | None] | None = None,
        demonstrated_acceleration: Mapping[str, float | None] | None = None,
        options: GovernorOptions | None = None,
        rate: float | None = None,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """demonstrated_...: joint -> limit from a policy's demonstrations. rate: ticks per second, None: the profile's.
        share: of velocity and acceleration limits that is used. UsageError where the driver has other joints than the
        profile."""
        self.spec = RobotSpec(
            profile.name, profile, tuple(camera.spec for camera in (cameras or {}).values()), rate or profile.rate
        )
        self._share = share
        self.driver, self.cameras = driver, dict(cameras or {})
        self._setup_limits = dict(operating_limits or {})
        self._shown = (demonstrated_velocity, demonstrated_acceleration)
        self._options, self._clock = options, clock
        self._bus = threading.RLock()
        self._governor: Governor | None = None
        self._reading: JointReadings | None = None
        self._gone: str | None = None
        self._rehearsing = False
        self._failed_writes = 0
        self._torque_due: dict[str, float] = {}  # joint -> share that its servo does not know yet
        self._orders = _Orders(profile, driver.joints)

    @property
    def governor(self) -> Governor:
        """DeviceError while not connected."""
        if self._governor is None:
            raise DeviceError("The robot is not connected.", fix="call connect() first")
        return self._governor

    @property
    def limits(self) -> EffectiveLimits:
        """The limits in force, each with its origin."""
        return self.governor.limits

    @property
    def reading(self) -> JointReadings | None:
        """The newest reading of the joints, in the order of the action; None before the first."""
        return self._reading

    @property
    def gone(self) -> bool:
        """Whether the way to the arm is gone: the servos hold their last goal."""
        return self._gone is not None

    def connect(self) -> None:
        """Open arm and cameras, and hold the arm where it stands, under torque."""
        self.open()
        try:
            self.engage()
        except BaseException:
            self.disconnect()
            raise

    def open(self) -> None:
        """Open arm and cameras and find the limits, without switching torque on: nothing can be commanded yet."""
        if self._governor is not None:
            raise DeviceError("The robot is connected already.", fix="disconnect() it first")
        try:
            self.driver.connect()
            servos = self.driver.limits()
            limits = effective_limits(
                self.spec.profile,
                servos,
                self._setup_limits,
                demonstrated_velocity=self._shown[0],
                demonstrated_acceleration=self._shown[1],
            )
            if not hasattr(self.driver, "set_torque_limit"):
                limits = self._without_torque(limits)
            limits = limits.scaled(self._share)
            for camera in self.cameras.values():
                camera.connect()
            governor = Governor(limits, self.spec.rate, servos=servos, options=self._options)
        except BaseException:
            self.disconnect()
            raise
        self._governor = governor
        self._gone, self._reading, self._failed_writes = None, None, 0

    def engage(self) -> None:
        """Hold each joint where it is measured to be, then let torque on; the first motion will be a slow ramp."""
        with self._bus:
            self.governor.start(self._hold())

    def rehearse(self) -> None:
        """Instead of `engage`: everything goes on as if the arm obeyed, and nothing is sent. It stays where it is, with
        torque as it was, and is taken to be wherever it would have been commanded to."""
        with self._bus:
            self._rehearsing = True
            self.governor.start(self.read().position.astype(np.float64))

    def imagine(self, position: Joints, velocity: Joints) -> None:
        """While rehearsing: the arm is there now, [A], and moves so fast, as far as its limits let it: a chunk begins
        where an arm is, and this one has not followed the last."""
        self.governor.imagine(position, velocity)

    def observe(self) -> dict[str, Any]:
        """State and images, each with the time when it was captured.

        When the joints do not answer, their last reading is given again, with its own time: it is an age, and no error
        as long as it is young enough. DeviceError when they never answered.
        """
        reading = self.read()
        images = {name: camera.latest() for name, camera in self.cameras.items()}
        stamps = {STATE: reading.read_at} | {image_key(name): one.captured_at for name, one in images.items()}
        return make_observation(
            self.state(reading),
            {name: one.image for name, one in images.items()},
            captured_at=stamps,
        )

    def read(self) -> JointReadings:
        """A reading of all joints, in the order of the action; the last one again where none comes."""
        governor = self.governor
        if self._gone is None:
            try:
                with self._bus:
                    self._reading = self._in_order(self.driver.read())
            except DeviceGoneError as error:
                self._lose(error)
            except DeviceError:
                if self._reading is None:
                    raise
        if self._reading is None:
            raise DeviceError(self._gone or "The joints were never read.")
        if self._gone is not None and governor.stop is None:
            governor.halt(StopCategory.HOLD, self._gone)
        return self._reading

    def state(self, reading: JointReadings) -> Joints:
        """The state [S] of a reading, in the profile's order."""
        found: Joints = reading.position[self._orders.state]
        return found

    def command(self, action: npt.ArrayLike) -> SentAction:
        """Ask for joint positions `action` [A] now; what was sent, and why it differs."""
        return self.ask(Request(action, asked_at=self._clock()))

    def ask(self, request: Request | None) -> SentAction:
        """One tick: what is asked for, None where nothing is, goes through the governor to the motors."""
        governor, (images, blind) = self.governor, self._image_times(request)
        with self._bus:  # no stop of another thread takes torque away between the decision and its write
            now = self._clock()
            decision = governor.tick(now, request, self._seen(), images)
            sent_at = self._send(decision, now)
            self._finish_stop()
        held = decision.command if decision.command is not None else self._resting()
        return SentAction(
            decision.requested if request is not None else held.astype(np.float32),
            held.astype(np.float32),
            sent_at,
            None if self._reading is None else self._reading.position.astype(np.float32),
            {**decision.flags, Flag.STALE_IMAGE: blind} if blind else decision.flags,
            governor.stop or decision.stop or (_NOT_ENGAGED if decision.command is None else None),
        )

    def _seen(self) -> JointReadings | None:
        """The newest reading; of an arm that only rehearses, as if it had followed."""
        reading, imagined = self._reading, self.governor.last_command
        if not self._rehearsing or reading is None or imagined is None:
            return reading
        return dataclasses.replace(reading, position=imagined, velocity=None, load=None, current=None)

    def stop(self, category: StopCategory) -> None:
        """Stop in this way; it stays in force until `rearm`."""
        self.halt(category, "stopped by a person or program")

    def halt(self, category: StopCategory, reason: str) -> None:
        """The same, with the reason that a person will read."""
        with self._bus:
            self.governor.halt(category, reason)
            if category is StopCategory.POWER_OFF:
                self._release()

    def rearm(self) -> None:
        """A person has looked and lifts the stop: the arm is held where it is, and its first motion will be slow.

        DeviceError, and the stop stays, when the arm is still coming to rest, does not answer or is gone.
        """
        governor = self.governor
        if self._gone is not None:
            raise DeviceError(
                self._gone, expected="an arm that answers", fix="plug it in, disconnect() and connect() again"
            )
        with self._bus:  # a stop that comes meanwhile is a new one, and comes after it
            governor.rearm(self.read().position.astype(np.float64) if self._rehearsing else self._hold())

    def disconnect(self) -> None:
        """Close arm and cameras, whatever does not answer. Torque stays as it is: the servos hold their last goal."""
        # Whatever a camera or a driver of somebody else raises: it keeps nobody from closing the rest.
        try:
            for camera in self.cameras.values():
                with contextlib.suppress(Exception):
                    camera.disconnect()
        finally:
            with self._bus, contextlib.suppress(Exception):
                self._governor, self._rehearsing = None, False
                self.driver.disconnect()

    def _hold(self) -> Joints:
        """Let the driver hold the arm where it is; the positions held, in the order of the action."""
        if self.governor.moving(self._clock()):
            raise DeviceError(
                "The arm is still coming to rest: held where it is measured, it would stop at once.",
                fix="wait until it stands",
            )
        with self._bus:
            self._failed_writes = 0
            self._torque_due = {one.joint: one.torque.value for one in self.limits.joints if one.torque is not None}
            self._set_torque()
            held: Joints = self.driver.engage()[self._orders.from_driver]
            self._reading = self._in_order(self.driver.read())
        return held

    def _without_torque(self, limits: EffectiveLimits) -> EffectiveLimits:
        """What is shown is what holds: UsageError where the setup asks for what the driver cannot do."""
        if asked := [name for name, limit in self._setup_limits.items() if limit.torque is not None]:
            raise UsageError(
                f"The setup limits the torque of joint '{asked[0]}'; this arm's driver cannot.",
                fix="leave `torque` out of its operating limits",
            )
        return EffectiveLimits(tuple(dataclasses.replace(joint, torque=None) for joint in limits.joints))

    def _in_order(self, reading: JointReadings) -> JointReadings:
        """A driver's reading in the order of the action."""
        order = self._orders.from_driver
        columns = ("position", "velocity", "load", "current", "temperature", "voltage")
        given = {name: getattr(reading, name) for name in columns}
        return dataclasses.replace(reading, **{name: v[order] for name, v in given.items() if v is not None})

    def _image_times(self, request: Request | None) -> tuple[dict[str, float], tuple[str, ...]]:
        """When the images were captured whose age matters, and the cameras that have failed; a name that is none of
        ours has no time, which the governor tells. A camera that fails is a stop and no error: the arm has to come to
        rest."""
        times, blind = {}, []
        for name in () if request is None else request.sees:
            if name not in self.cameras:
                continue
            try:
                times[name] = captured_at(self.cameras[name])
            except Exception as error:
                self.halt(StopCategory.HOLD, f"Camera '{name}' has failed: {getattr(error, 'found', error)}")
                blind.append(name)
        return times, tuple(blind)

    def _send(self, decision: Decision, now: float) -> float:
        """Write to the bus; when."""
        if self._rehearsing:
            return now
        self._torque_due |= decision.torque or {}
        if decision.command is None or self._gone is not None or self.governor.phase is Phase.DISENGAGED:
            return now
        sent_at = now
        try:
            if decision.send:
                sent_at = self.driver.write(decision.command[self._orders.to_driver])
                self._failed_writes = 0
            self._set_torque()
        except DeviceGoneError as error:
            self._lose(error)
        except DeviceError as error:
            self._failed_writes += 1
            if self._failed_writes >= _LOST_WRITES:
                self.governor.halt(
                    StopCategory.HOLD, f"{self._failed_writes} commands could not be sent: {error.found}"
                )
        return sent_at

    def _finish_stop(self) -> None:
        """A stop that ends without power: when the arm stands, torque goes off."""
        governor = self.governor
        if governor.phase is Phase.DISENGAGED or governor.stop is None:
            return
        if governor.stop.category is StopCategory.THEN_POWER_OFF and governor.at_rest:
            self._release()

    def _release(self) -> None:
        with self._bus:
            self.governor.disengage()  # first: whatever comes of it, nothing is sent any more
            if self._rehearsing:  # torque is not ours
                return
            try:
                self.driver.release()
            except DeviceGoneError as error:
                self._lose(error)

    def _lose(self, error: DeviceGoneError) -> None:
        # One line: it is a reason, which a person reads behind "Stopped:".
        self._gone = " ".join(filter(None, (error.found, error.fix)))
        self.governor.halt(StopCategory.HOLD, self._gone)

    def _resting(self) -> Joints:
        """Where the arm is when nothing is commanded."""
        where = np.zeros(len(self.limits.names)) if self._reading is None else self._reading.position
        return np.nan_to_num(where, nan=0.0)

    def _set_torque(self) -> None:
        """Limit the motors' force where the driver can; what is lost on the way is due again in the next tick."""
        limit = getattr(self.driver, "set_torque_limit", None)
        for joint in list(self._torque_due):
            if limit is not None:
                limit(joint, self._torque_due[joint])
            del self._torque_due[joint]


def captured_at(camera: Camera) -> float:
    """When a camera's newest image was captured, without the image where it can tell."""
    newest_at: Callable[[], float] | None = getattr(camera, "newest_at", None)
    return camera.latest().captured_at if newest_at is None else newest_at()


_NOT_ENGAGED = Stop(StopCategory.HOLD, "torque was not switched on by this process")


class _Orders:
    """Index arrays between the driver's order, the action's and the state's."""

    def __init__(self, profile: RobotProfile, joints: tuple[str, ...]) -> None:
        action = [joint.name for joint in profile.action_joints]
        if sorted(joints) != sorted(action):
            raise UsageError(
                f"The driver has the joints {', '.join(joints)}.",
                expected=f"those of profile '{profile.name}': {', '.join(action)}",
                fix="use the profile of this arm, or its calibration",
            )
        missing = [joint.name for joint in profile.state_joints if joint.name not in action]
        if missing:
            raise UsageError(
                f"Profile '{profile.name}' reads the joint '{missing[0]}', which the driver does not have.",
                expected="a state of joints that are commanded",
            )
        self.from_driver = np.array([joints.index(name) for name in action])
        """driver's array[from_driver] is in the action's order."""
        self.to_driver = np.array([action.index(name) for name in joints])
        self.state = np.array([action.index(joint.name) for joint in profile.state_joints])
