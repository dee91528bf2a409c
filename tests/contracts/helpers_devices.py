"""Small devices behind the contracts, as a stranger would write them, and checks that any such device must pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.contracts.camera import Camera, CameraSpec, CapturedImage
from smolpilot.contracts.robot import Flag, Robot, RobotSpec, SentAction, Stop, StopCategory
from smolpilot.contracts.teleoperator import Teleoperator, TeleoperatorReading, TeleoperatorSpec
from smolpilot.robots import CameraProfile, Joint, RobotProfile

type Clock = Callable[[], float]


class GrayCamera:
    """A camera whose images are as bright as the time is late; `fps` images a second, kept until the next."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.spec = CameraSpec(name, height=6, width=8, fps=10.0)
        self._clock, self._connected = clock, False

    def connect(self) -> None:
        self._connected = True

    def latest(self) -> CapturedImage:
        if not self._connected:
            raise DeviceError(f"Camera '{self.spec.name}' is not connected.")
        taken = int(self._clock() * self.spec.fps + 1e-9)
        shape = (self.spec.height, self.spec.width, 3)
        return CapturedImage(np.full(shape, taken % 256, np.uint8), taken / self.spec.fps)

    def disconnect(self) -> None:
        self._connected = False


class WavingHand:
    """A teleoperator that counts its joints in another order than the robot."""

    def __init__(self, clock: Clock) -> None:
        self.spec = TeleoperatorSpec("waving_hand", {"grip": "percent", "pan": "deg"})
        self._clock, self._connected = clock, False

    def connect(self) -> None:
        self._connected = True

    def read(self) -> TeleoperatorReading:
        if not self._connected:
            raise DeviceError("The hand is not connected.")
        now = self._clock()
        return TeleoperatorReading({"grip": 50.0, "pan": float(20 * np.sin(now))}, now)

    def disconnect(self) -> None:
        self._connected = False


class LaggingArm:
    """Two joints that close 90 % of the way to their command within `lag` seconds, held within their limits."""

    def __init__(self, clock: Clock, lag: float = 0.3) -> None:
        profile = RobotProfile(
            name="lagging", description="a test", rate=20.0, gripper=["grip"],
            joints=[
                Joint(name="pan", unit="deg", position_limits=(-90.0, 90.0), velocity_limit=None),
                Joint(name="grip", unit="percent", position_limits=(0.0, 100.0), velocity_limit=None),
            ],
            cameras=[CameraProfile(name="front", width=8, height=6)],
        )  # fmt: skip
        self._camera = GrayCamera("front", clock)
        self.spec = RobotSpec("lagging", profile, (self._camera.spec,), rate=20.0)
        self._clock, self._lag = clock, lag
        self._at = np.array([10.0, 50.0])
        self._goal, self._moved_at = self._at.copy(), clock()
        self._connected = False
        self._stop: Stop | None = None

    def connect(self) -> None:
        self._camera.connect()
        self._goal, self._moved_at, self._stop, self._connected = self._at.copy(), self._clock(), None, True

    def observe(self) -> dict[str, object]:
        now, picture = self._read(), self._camera.latest()
        key = image_key("front")
        return {
            STATE: self._at.astype(np.float32),
            key: picture.image,
            "captured_at": {STATE: now, key: picture.captured_at},
        }

    def command(self, action: npt.NDArray[np.float32]) -> SentAction:
        now, wanted, flags = self._read(), np.asarray(action), dict[str, tuple[str, ...]]()
        joints = self.spec.profile.action_joints
        if self._stop is not None:
            flags[Flag.STOPPED] = ()
        elif wanted.shape != self._goal.shape:
            flags[Flag.WRONG_LENGTH] = ()
        elif not np.isfinite(wanted).all():
            flags[Flag.NOT_FINITE] = ()
        else:
            low, high = np.array([joint.position_limits for joint in joints]).T
            self._goal = np.clip(wanted.astype(float), low, high)
            if clamped := tuple(np.array(self.spec.action_names)[self._goal != wanted]):
                flags[Flag.POSITION] = clamped
        return SentAction(wanted, self._goal, now, self._at, flags, self._stop)

    def stop(self, category: StopCategory) -> None:
        self._read()
        self._goal, self._stop = self._at.copy(), Stop(category, "it was asked for")

    def disconnect(self) -> None:
        self._camera.disconnect()
        self._connected = False

    def _read(self) -> float:
        """Let the joints move until now."""
        if not self._connected:
            raise DeviceError("The arm is not connected.")
        now = self._clock()
        self._at = self._goal + (self._at - self._goal) * 0.1 ** ((now - self._moved_at) / self._lag)
        self._moved_at = now
        return now


def check_camera(camera: Camera, clock: Clock) -> None:
    """What the contract promises of a camera."""
    assert isinstance(camera, Camera)
    with pytest.raises(DeviceError, match="not connected"):
        camera.latest()
    camera.connect()
    first, second = camera.latest(), camera.latest()
    assert first.image.shape == (camera.spec.height, camera.spec.width, 3)
    assert first.image.dtype == np.uint8
    assert first.captured_at <= second.captured_at <= clock()
    camera.disconnect()
    camera.disconnect()
    with pytest.raises(DeviceError, match="not connected"):
        camera.latest()


def check_teleoperator(teleoperator: Teleoperator, clock: Clock) -> None:
    """What the contract promises of a teleoperator."""
    assert isinstance(teleoperator, Teleoperator)
    with pytest.raises(DeviceError, match="not connected"):
        teleoperator.read()
    teleoperator.connect()
    reading = teleoperator.read()
    assert reading.action.keys() == teleoperator.spec.units.keys()
    assert reading.captured_at <= clock()
    teleoperator.disconnect()
    teleoperator.disconnect()
    with pytest.raises(DeviceError, match="not connected"):
        teleoperator.read()


def check_robot(robot: Robot, clock: Clock) -> None:
    """What the contract promises of a robot: nothing that is wrong is sent, and all that is sent is told."""
    assert isinstance(robot, Robot)
    size = len(robot.spec.action_names)
    for verb in (robot.observe, lambda: robot.command(np.zeros(size, np.float32))):
        with pytest.raises(DeviceError, match="not connected"):
            verb()
    robot.connect()
    observation = robot.observe()
    images = {image_key(camera.name): (camera.height, camera.width, 3) for camera in robot.spec.cameras}
    assert observation.keys() - {TASK} == {STATE, "captured_at", *images}
    assert observation["captured_at"].keys() == {STATE, *images}
    assert all(at <= clock() for at in observation["captured_at"].values())
    assert (observation[STATE].shape, observation[STATE].dtype) == ((len(robot.spec.state_names),), np.float32)
    assert {key: observation[key].shape for key in images} == images
    assert all(observation[key].dtype == np.uint8 for key in images)

    good = robot.command(robot.command(np.zeros(size, np.float32)).commanded)
    assert good.sent_at >= observation["captured_at"][STATE]
    np.testing.assert_array_equal(good.requested, good.commanded)
    bad = {
        Flag.NOT_FINITE: np.full(size, np.nan, np.float32),
        Flag.WRONG_LENGTH: np.zeros(size + 1, np.float32),
    }
    for flag, request in bad.items():
        sent = robot.command(request)
        assert flag in sent.flags
        np.testing.assert_array_equal(sent.requested, request)
        np.testing.assert_array_equal(sent.commanded, good.commanded)
    robot.stop(StopCategory.HOLD)
    held = robot.command(good.commanded + 1)
    again = robot.command(good.commanded - 1)
    assert held.stop is not None
    assert held.stop.category == StopCategory.HOLD
    assert held.stop.reason
    assert Flag.STOPPED in held.flags
    np.testing.assert_array_equal(held.commanded, again.commanded)
    robot.disconnect()
    robot.disconnect()
    with pytest.raises(DeviceError, match="not connected"):
        robot.command(good.commanded)
