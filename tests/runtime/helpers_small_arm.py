"""An arm of three joints in memory, in another order than its profile has them, and what may go wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DeviceError
from smolpilot.contracts import DriverLimits, JointReadings
from smolpilot.contracts.camera import CameraSpec, CapturedImage
from smolpilot.robots import Joint, RobotProfile

PROFILE = RobotProfile(
    name="small", description="a test", rate=20.0, gripper=["grip"], state=["grip", "pan", "lift"],
    joints=[
        Joint(name="pan", unit="deg", position_limits=(-90.0, 90.0), velocity_limit=None),
        Joint(name="lift", unit="deg", position_limits=(-45.0, 45.0), velocity_limit=None),
        Joint(name="grip", unit="percent", position_limits=(0.0, 100.0), velocity_limit=None),
    ],
    cameras=[],
)  # fmt: skip
START = {"grip": 40.0, "pan": 10.0, "lift": -5.0}
TICK = 1 / PROFILE.rate


class Time:
    """Seconds that a test lets pass."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class SmallArm:
    """Joints are at once where they are told to be. `failing`: verb -> what it raises from now on."""

    joints: tuple[str, ...] = ("grip", "pan", "lift")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.at = dict(START)
        self.failing: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.written: list[dict[str, float]] = []
        self.torques: list[tuple[str, float]] = []
        self.connected = self.torque = False

    def _call(self, verb: str) -> None:
        self.calls.append(verb)
        if verb in self.failing:
            raise self.failing[verb]
        if not self.connected and verb != "connect":
            raise DeviceError("The small arm is not connected.")

    def connect(self) -> None:
        self._call("connect")
        self.connected = True

    def limits(self) -> Mapping[str, DriverLimits]:
        self._call("limits")
        return {"pan": DriverLimits(position=(-80.0, 80.0))}

    def read(self) -> JointReadings:
        self._call("read")
        at = np.array([self.at[name] for name in self.joints])
        return JointReadings(at, self.clock(), temperature=np.array([31.0, 32.0, 33.0]))

    def engage(self) -> npt.NDArray[np.float64]:
        self._call("engage")
        self.torque = True
        return np.array([self.at[name] for name in self.joints])

    def write(self, goals: npt.NDArray[np.float64]) -> float:
        self._call("write")
        self.torque = True  # as servos do that get a goal
        self.at = dict(zip(self.joints, goals.tolist(), strict=True))
        self.written.append(dict(self.at))
        return self.clock()

    def set_torque_limit(self, joint: str, share: float) -> None:
        self._call("set_torque_limit")
        self.torques.append((joint, share))

    def release(self) -> None:
        self._call("release")
        self.torque = False

    def disconnect(self) -> None:
        self.calls.append("disconnect")
        self.connected = False
        if "disconnect" in self.failing:
            raise self.failing["disconnect"]


class SmallCamera:
    """Takes an image whenever it is asked, until `frozen_at`. `failing` as of SmallArm."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.spec = CameraSpec(name, height=6, width=8, fps=10.0)
        self.clock, self.connected = clock, False
        self.frozen_at: float | None = None
        self.failing: dict[str, Exception] = {}

    def connect(self) -> None:
        if "connect" in self.failing:
            raise self.failing["connect"]
        self.connected = True

    def latest(self) -> CapturedImage:
        if "latest" in self.failing:
            raise self.failing["latest"]
        if not self.connected:
            raise DeviceError(f"Camera '{self.spec.name}' is not connected.")
        now = self.clock() if self.frozen_at is None else self.frozen_at
        return CapturedImage(np.full((6, 8, 3), 7, np.uint8), now)

    def disconnect(self) -> None:
        self.connected = False
        if "disconnect" in self.failing:
            raise self.failing["disconnect"]
