"""GovernedRobot: the Robot contract in front of a driver, its stops, and what it does when devices do not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError, DeviceGoneError, UsageError
from smolpilot.common.keys import STATE, image_key
from smolpilot.contracts import Flag, Robot, StopCategory
from smolpilot.robots import RobotProfile
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.governed_robot import GovernedRobot
from smolpilot.runtime.governor import Phase, Request
from smolpilot.runtime.limits import OperatingLimit

from ..contracts.helpers_devices import check_robot
from .helpers_small_arm import PROFILE, START, TICK, SmallArm, SmallCamera, Time
from .safety.helpers_rig import HOME, JOINTS, SPEEDS, Rig

SILENT = DeviceError("No reply on the bus.")
GONE = DeviceGoneError("The bus is gone.", expected="a cable that stays", fix="Plug it in.")
HERE = np.array([START[name] for name in ("pan", "lift", "grip")])


class Small:
    """A governed small arm with one camera, and time."""

    def __init__(self, *cameras: str, **options: Any) -> None:
        self.time = Time()
        self.arm = SmallArm(self.time)
        self.cameras = {name: SmallCamera(name, self.time) for name in cameras}
        self.robot = GovernedRobot(PROFILE, self.arm, self.cameras, clock=self.time, **options)

    def tick(self, action: Any, **request: Any) -> Any:
        """Read, ask, and let a tick pass."""
        self.robot.read()
        asked = None if action is None else Request(**({"action": action, "asked_at": self.time.now} | request))
        made = self.robot.ask(asked)
        self.time.now += TICK
        return made

    def run(self, action: Any, ticks: int, **request: Any) -> Any:
        made = None
        for _ in range(ticks):
            made = self.tick(action, **request)
        return made


@pytest.fixture
def small() -> Iterator[Small]:
    """Connected, with the camera `front`."""
    made = Small("front")
    made.robot.connect()
    yield made
    made.robot.disconnect()


# The contract


def test_it_is_a_robot_on_real_bytes() -> None:
    with Rig(connect=False) as rig:
        assert isinstance(rig.robot, Robot)
        check_robot(rig.robot, rig.clock)


def test_it_is_a_robot_with_cameras_and_joints_in_another_order() -> None:
    small = Small("front", "wrist")
    check_robot(small.robot, small.time)
    assert small.robot.spec.cameras == tuple(camera.spec for camera in small.cameras.values())
    assert small.robot.spec.action_names == ("pan", "lift", "grip")
    assert small.robot.spec.rate == PROFILE.rate


def test_nothing_is_commanded_before_it_is_connected_and_nothing_twice() -> None:
    small = Small()
    for verb in (lambda: small.robot.command(HERE), small.robot.observe, small.robot.read, small.robot.rearm,
                 lambda: small.robot.ask(None), lambda: small.robot.limits, small.robot.engage,
                 lambda: small.robot.stop(StopCategory.HOLD)):  # fmt: skip
        with pytest.raises(DeviceError, match="The robot is not connected"):
            verb()
    assert small.arm.calls == []
    small.robot.connect()
    with pytest.raises(DeviceError, match="connected already"):
        small.robot.connect()
    assert small.arm.connected, "and it stays so"


def test_joints_in_another_order_are_told_apart_in_both_directions(small: Small) -> None:
    made = small.run([12.0, -4.0, 42.0], 60)
    assert small.arm.at == pytest.approx({"pan": 12.0, "lift": -4.0, "grip": 42.0})
    np.testing.assert_allclose(made.commanded, [12.0, -4.0, 42.0])
    np.testing.assert_allclose(made.measured, [12.0, -4.0, 42.0])
    assert small.robot.reading is not None
    assert small.robot.reading.temperature is not None
    assert small.robot.reading.temperature.tolist() == [32.0, 33.0, 31.0]
    np.testing.assert_allclose(small.robot.observe()[STATE], [42.0, 12.0, -4.0], err_msg="the state has its own order")


@pytest.mark.parametrize("joints", [("pan", "lift"), ("pan", "lift", "grip", "roll"), ("pan", "lift", "gripp")])
def test_a_driver_with_other_joints_is_refused(joints: tuple[str, ...]) -> None:
    arm = SmallArm(Time())
    arm.joints = joints
    with pytest.raises(UsageError, match=f"The driver has the joints {', '.join(joints)}") as caught:
        GovernedRobot(PROFILE, arm)
    assert "pan, lift, grip" in caught.value.expected


def test_a_state_of_joints_that_nobody_can_read_is_refused() -> None:
    robot = RobotProfile.model_validate({**PROFILE.model_dump(), "action": ["pan", "lift"], "state": ["pan", "grip"]})
    arm = SmallArm(Time())
    arm.joints = ("lift", "pan")
    with pytest.raises(UsageError, match="reads the joint 'grip', which the driver does not have"):
        GovernedRobot(robot, arm)


def test_an_observation_has_state_and_images_each_with_its_time(small: Small) -> None:
    small.cameras["front"].frozen_at = 99.5
    seen = small.robot.observe()
    key = image_key("front")
    assert seen[key].shape == (6, 8, 3)
    assert seen["captured_at"] == {STATE: small.time.now, key: 99.5}
    assert seen[STATE].dtype == np.float32


def test_when_nothing_answers_the_last_reading_is_given_with_its_own_time(small: Small) -> None:
    small.robot.observe()
    then = small.time.now
    small.arm.failing["read"] = SILENT
    small.time.now += 0.1
    seen = small.robot.observe()
    assert seen["captured_at"][STATE] == then
    np.testing.assert_allclose(seen[STATE], [START["grip"], START["pan"], START["lift"]])
    small.arm.failing.clear()
    assert small.robot.observe()["captured_at"][STATE] == small.time.now


def test_joints_that_never_answered_are_an_error() -> None:
    small = Small()
    small.robot.open()
    small.arm.failing["read"] = SILENT
    with pytest.raises(DeviceError, match="No reply on the bus"):
        small.robot.observe()


def test_torque_limits_are_set_before_torque_goes_on() -> None:
    small = Small(operating_limits={"lift": OperatingLimit(torque=0.7)})
    small.robot.connect()
    assert small.arm.torques == [("lift", 0.7), ("grip", 0.5)]
    assert small.arm.calls.index("set_torque_limit") < small.arm.calls.index("engage")


def test_torque_limits_are_in_the_servos_once_the_arm_is_held() -> None:
    limits = {**SPEEDS, "elbow_flex": OperatingLimit(torque=0.6)}
    with Rig(limits=limits) as rig:
        found = {name: rig.bus.servo(name).get(reg.TORQUE_LIMIT) for name in JOINTS}
        assert found == dict.fromkeys(JOINTS, 1000) | {"elbow_flex": 600, "gripper": 500}


# Opening and closing


def test_open_switches_no_torque_on_and_commands_nothing(small: Small) -> None:
    other = Small()
    other.robot.open()
    made = other.run(HERE + 1, 5)
    assert made.stop is not None
    assert Flag.STOPPED in made.flags
    assert (other.arm.torque, other.arm.written) == (False, [])
    assert other.robot.limits.names == ("pan", "lift", "grip")
    np.testing.assert_allclose(made.commanded, HERE)


@pytest.mark.parametrize("verb", ["connect", "limits", "engage", "read"])
def test_what_fails_half_way_closes_everything(verb: str) -> None:
    small = Small("front", "wrist")
    small.arm.failing[verb] = SILENT
    with pytest.raises(DeviceError, match="No reply"):
        small.robot.connect()
    assert not small.arm.connected
    assert not any(camera.connected for camera in small.cameras.values())
    small.arm.failing.clear()
    small.robot.connect()
    assert small.arm.torque, "and can be tried again"


def test_a_camera_that_does_not_open_closes_arm_and_other_cameras() -> None:
    small = Small("front", "wrist")
    small.cameras["wrist"].failing["connect"] = DeviceError("Camera 'wrist' got no image.")
    with pytest.raises(DeviceError, match="'wrist' got no image"):
        small.robot.connect()
    assert (small.arm.connected, small.cameras["front"].connected, small.arm.torque) == (False, False, False)


def test_limits_that_cannot_be_close_everything() -> None:
    small = Small("front", operating_limits={"pan": OperatingLimit(position=(85.0, 90.0))})
    with pytest.raises(UsageError, match="'pan' may nowhere be"):
        small.robot.connect()
    assert not small.arm.connected


@pytest.mark.parametrize("error", [SILENT, OSError(5, "Input/output error"), RuntimeError("a plugin's own")])
def test_disconnect_closes_whatever_it_can_and_never_raises(error: Exception) -> None:
    small = Small("front", "wrist")
    small.robot.connect()
    small.cameras["front"].failing["disconnect"] = error
    small.arm.failing["disconnect"] = error
    small.robot.disconnect()
    assert not small.arm.connected
    assert not small.cameras["wrist"].connected
    small.robot.disconnect()
    with pytest.raises(DeviceError, match="not connected"):
        small.robot.command(HERE)
    assert small.arm.torque, "torque stays as it is"
    small.arm.failing.clear()
    small.robot.connect()
    assert small.arm.connected


def test_a_closed_arm_holds_its_last_goal_with_torque() -> None:
    with Rig() as rig:
        rig.reach(HOME + 5)
        rig.robot.disconnect()
        rig.now += 2.0
        np.testing.assert_allclose(rig.positions(), HOME + 5, atol=0.5)
        assert all(servo.torque for servo in rig.bus.servos.values())


# Writes that are lost


def test_a_lost_write_or_two_are_no_fault_and_three_in_a_row_stop(small: Small) -> None:
    small.run(HERE, 5)
    for _ in range(2):  # each time two, then one that gets through
        small.arm.failing["write"] = SILENT
        assert small.run(HERE + 0.1, 2).stop is None
        small.arm.failing.clear()
        assert small.tick(HERE).stop is None
    small.arm.failing["write"] = SILENT
    made = small.run(HERE + 0.1, 3)
    assert made.stop is not None
    assert made.stop.category is StopCategory.HOLD
    assert made.stop.reason == "3 commands could not be sent: No reply on the bus."
    small.arm.failing.clear()
    small.robot.rearm()
    small.arm.failing["write"] = SILENT
    assert small.run(HERE, 2).stop is None, "counted anew"


def test_a_torque_limit_that_is_lost_is_set_in_the_next_tick() -> None:
    with Rig() as rig:
        rig.reach(HOME)
        rig.plant.block("gripper", rig.arm.scales[-1].steps(30.0))
        limit = rig.arm.set_torque_limit
        lost: list[float] = []

        def losing(joint: str, share: float) -> None:
            if len(lost) < 2:
                lost.append(share)
                raise DeviceError("No reply on the bus.")
            limit(joint, share)

        rig.arm.set_torque_limit = losing  # type: ignore[method-assign]
        target = HOME.copy()
        made = rig.tick(HOME)
        for i in range(90):
            target[-1] = max(5.0, 50.0 - 1.5 * i)
            made = rig.tick(target)
        assert made.stop is None
        assert lost == [0.25, 0.25]
        assert rig.bus.servo("gripper").get(reg.TORQUE_LIMIT) == 250
        rig.check_bytes()


# Stops


def test_hold_keeps_torque_and_stays_until_a_person_lifts_it(small: Small) -> None:
    small.run(HERE + 20, 30)
    small.robot.stop(StopCategory.HOLD)
    made = small.run(HERE - 20, 30)
    assert made.stop is not None
    assert made.stop.reason == "stopped by a person or program"
    written = len(small.arm.written)
    small.run(HERE, 20)
    assert (len(small.arm.written), small.arm.torque) == (written, True)
    small.robot.rearm()
    made = small.tick(HERE + 20)
    assert made.stop is None
    assert Flag.RAMP in made.flags
    assert len(small.arm.written) == written + 1


def test_then_power_off_comes_to_rest_first_and_then_releases() -> None:
    small = Small(operating_limits={"pan": OperatingLimit(velocity=30.0, acceleration=20.0)})
    small.robot.connect()
    small.run(HERE + 20, 30)
    small.robot.stop(StopCategory.THEN_POWER_OFF)
    made = small.tick(HERE + 20)
    assert (small.arm.torque, made.stop.category) == (True, StopCategory.THEN_POWER_OFF)
    torque = []
    for _ in range(10):
        small.tick(HERE)
        torque.append(small.arm.torque)
    assert torque[0]
    assert not torque[-1]
    moved = np.diff([one["pan"] for one in small.arm.written[-6:]])
    assert (np.diff(np.abs(moved)) <= 1e-9).all(), "it slowed down"
    written = len(small.arm.written)
    assert small.run(HERE, 5).stop is not None
    assert len(small.arm.written) == written, "a goal would switch torque on again"
    assert small.arm.calls.count("release") == 1


def test_then_power_off_of_an_arm_at_rest_releases_at_the_next_tick(small: Small) -> None:
    small.robot.stop(StopCategory.THEN_POWER_OFF)
    assert small.arm.torque
    small.tick(None)
    assert not small.arm.torque


def test_power_off_releases_at_once_also_in_motion_and_a_rearm_holds_the_arm_again(small: Small) -> None:
    small.run(HERE + 20, 30)
    small.robot.stop(StopCategory.POWER_OFF)
    assert not small.arm.torque
    written = len(small.arm.written)
    made = small.run(HERE, 5)
    assert made.stop.category is StopCategory.POWER_OFF
    assert (len(small.arm.written), small.robot.governor.phase) == (written, Phase.DISENGAGED)
    small.arm.at["lift"] = -30.0  # it fell
    small.robot.rearm()
    made = small.run(None, 3)
    assert small.arm.torque
    np.testing.assert_allclose(made.commanded, [small.arm.at["pan"], -30.0, small.arm.at["grip"]])


def test_a_stop_becomes_harder_never_softer(small: Small) -> None:
    small.robot.halt(StopCategory.THEN_POWER_OFF, "parked")
    small.robot.halt(StopCategory.HOLD, "another reason")
    made = small.tick(None)
    assert (made.stop.category, made.stop.reason) == (StopCategory.THEN_POWER_OFF, "parked")
    assert not small.arm.torque


def test_servos_lose_torque_by_power_off_on_real_bytes() -> None:
    with Rig() as rig:
        rig.reach(HOME)
        rig.robot.stop(StopCategory.POWER_OFF)
        before = len(rig.bus.log)
        rig.run(HOME, 5)
        assert not any(servo.torque for servo in rig.bus.servos.values())
        assert not rig.goal_writes(before), "a goal would switch torque on"


def test_another_thread_may_switch_power_off_at_any_time() -> None:
    """Not between a decision and its write, nor in the middle of a tick: no goal after the release."""
    small = Small()
    small.robot.connect()
    begun, released = threading.Event(), threading.Event()
    write = small.arm.write

    def slow_write(goals: Any) -> float:
        begun.set()
        assert not released.wait(0.05), "released in the middle of a write"
        return write(goals)

    small.arm.write = slow_write  # type: ignore[method-assign]

    def stop() -> None:
        assert begun.wait(10)
        small.robot.stop(StopCategory.POWER_OFF)
        released.set()

    thread = threading.Thread(target=stop)
    thread.start()
    small.tick(HERE + 1)
    thread.join(10)
    assert released.is_set()
    small.arm.write = write  # type: ignore[method-assign]
    small.run(HERE + 1, 3)
    assert small.arm.calls[-1] != "write"
    assert not small.arm.torque


def test_a_goal_that_was_decided_before_power_went_off_is_not_sent(small: Small) -> None:
    small.run(HERE, 3)
    governor = small.robot.governor
    decide = governor.tick

    def slow(*args: Any, **kwargs: Any) -> Any:
        made = decide(*args, **kwargs)
        small.robot.stop(StopCategory.POWER_OFF)  # as another thread would, in between
        return made

    governor.tick = slow  # type: ignore[method-assign]
    written = len(small.arm.written)
    made = small.tick(HERE + 1)
    assert (len(small.arm.written), small.arm.torque) == (written, False)
    assert made.stop is not None


def test_a_release_that_fails_is_told_and_nothing_is_sent_any_more(small: Small) -> None:
    small.arm.failing["release"] = DeviceError("The torque of pan may still be on.")
    with pytest.raises(DeviceError, match="pan may still be on"):
        small.robot.stop(StopCategory.POWER_OFF)
    written = len(small.arm.written)
    assert small.run(HERE, 3).stop is not None
    assert len(small.arm.written) == written


# Gone


@pytest.mark.parametrize("verb", ["read", "write"])
def test_a_pulled_cable_stops_and_no_rearm_brings_it_back(small: Small, verb: str) -> None:
    small.run(HERE, 3)
    small.arm.failing[verb] = GONE
    made = small.tick(HERE + 1)
    assert made.stop is not None
    assert made.stop.reason == "The bus is gone. Plug it in.", "one line, behind `Stopped:`"
    assert small.robot.gone
    small.arm.failing.clear()
    calls = len(small.arm.calls)
    for _ in range(3):
        assert small.tick(HERE).stop is not None
    assert small.arm.calls[calls:] == [], "who is gone is not asked again"
    with pytest.raises(DeviceError, match="The bus is gone") as caught:
        small.robot.rearm()
    assert "connect() again" in caught.value.fix
    assert small.robot.governor.stop is not None
    small.robot.disconnect()
    small.robot.connect()
    assert not small.robot.gone
    assert Flag.RAMP in small.tick(HERE + 20).flags, "a person has connected it again: slowly at first"


def test_a_rearm_that_finds_nobody_leaves_the_stop(small: Small) -> None:
    small.robot.stop(StopCategory.HOLD)
    small.arm.failing["engage"] = SILENT
    with pytest.raises(DeviceError, match="No reply"):
        small.robot.rearm()
    assert small.robot.governor.stop is not None
    written = len(small.arm.written)
    small.run(HERE + 1, 3)
    assert len(small.arm.written) == written


# Cameras


def test_only_cameras_that_a_request_sees_may_stop_it(small: Small) -> None:
    small.run(HERE, 3, sees=("front",))
    small.cameras["front"].frozen_at = small.time.now
    assert small.run(HERE, 20).stop is None, "nobody looks"
    made = small.tick(HERE, sees=("front",))
    assert made.flags[Flag.STALE_IMAGE] == ("front",)
    assert made.stop is not None


def test_a_camera_that_fails_while_it_is_looked_through_stops_the_arm_within_its_limits(small: Small) -> None:
    small.run(HERE + 30, 30, sees=("front",))
    small.cameras["front"].failing["latest"] = DeviceError("Camera 'front' has no image any more.")
    made = small.tick(HERE + 30, sees=("front",))
    assert made.flags[Flag.STALE_IMAGE] == ("front",)
    assert "Camera 'front' has failed" in made.stop.reason
    small.run(HERE, 20)
    pan = np.diff([one["pan"] for one in small.arm.written])
    assert np.abs(np.diff(pan)).max() <= small.robot.limits.acceleration[0] * TICK * TICK + 1e-6
