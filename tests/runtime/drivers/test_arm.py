"""FeetechArm on an emulated bus: connecting, reading, sending goals."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError, DeviceGoneError, ProfileError, UsageError
from smolpilot.contracts.driver import Driver
from smolpilot.contracts.registry import ROBOTS
from smolpilot.robots import Joint, RobotProfile
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as r
from smolpilot.runtime.drivers.feetech.arm import FeetechArm
from smolpilot.runtime.drivers.feetech.servos import CONFIGURATION, GRIPPER_CONFIGURATION

from .helpers_arm import CALIBRATION, PROFILE, bench, calibrate, changes

MIDDLE = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 50.0])
STEP = 360 / 4095


def test_it_is_a_driver_and_goes_by_its_name() -> None:
    with bench() as b:
        assert isinstance(b.arm, Driver)
        assert b.arm.joints == tuple(CALIBRATION)
    assert ROBOTS.get("feetech") is FeetechArm


def test_connecting_sends_no_goal_and_leaves_torque_as_it_is() -> None:
    with bench() as b:
        b.put("gripper", r.TORQUE_ENABLE, 1)
        b.put("gripper", r.P_GAIN, 16)
        b.arm.connect()
        touched = {change.address for change in changes(b.since(0))}
        assert not touched & {r.GOAL_POSITION.address, r.TORQUE_ENABLE.address}
        assert b.values(r.TORQUE_ENABLE) == [0, 0, 0, 0, 0, 1]
        assert b.values(r.LOCK) == [1] * 6


def test_only_what_differs_is_written() -> None:
    with bench() as b:
        b.put("elbow_flex", r.RETURN_DELAY, 250)
        b.put("elbow_flex", r.PHASE, 0x0C | r.PHASE_MULTI_TURN)
        b.put("elbow_flex", r.LOCK, 0)
        b.arm.connect()
        for joint in b.arm.joints:
            wanted = CONFIGURATION | (GRIPPER_CONFIGURATION if joint == "gripper" else {})
            assert {name: b.value(joint, getattr(r, name)) for name in wanted} == wanted
        assert b.value("elbow_flex", r.PHASE) == 0x0C
        of_the_elbow = [change.address for change in changes(b.since(0)) if change.servo == 3]
        assert of_the_elbow == [r.LOCK.address, 7, 21, 18, r.LOCK.address]
        b.arm.disconnect()
        start = len(b.bus.log)
        b.arm.connect()
        assert changes(b.since(start)) == []


def test_a_lock_that_was_left_open_is_closed() -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.disconnect()
        b.put("wrist_roll", r.LOCK, 0)
        b.arm.connect()
        assert b.values(r.LOCK) == [1] * 6


def test_a_servo_that_acknowledges_nothing_is_told_to() -> None:
    with bench() as b:
        b.put("wrist_roll", r.RESPONSE_LEVEL, 0)
        b.arm.connect()
        assert b.value("wrist_roll", r.RESPONSE_LEVEL) == 1


@pytest.mark.parametrize("register", ["MODE", "PHASE", "P_GAIN"])
def test_what_would_move_an_arm_under_torque_is_not_written(register: str) -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.disconnect()
        b.put("wrist_flex", getattr(r, register), 0x10 if register == "PHASE" else 1)
        b.put("wrist_flex", r.TORQUE_ENABLE, 1)
        b.put("elbow_flex", r.RETURN_DELAY, 250)
        start = len(b.bus.log)
        with pytest.raises(DeviceError, match=rf"(?s)wrist_flex \(servo 4\): {register} is .*torque is on.*power off"):
            b.arm.connect()
        assert changes(b.since(start)) == []
        assert not b.arm.bus.is_open


def test_silent_servos_are_named() -> None:
    with bench() as b:
        b.bus.faults.silent = {"elbow_flex", "gripper"}
        with pytest.raises(DeviceError, match=r"No reply on .* from servo 3 \(elbow_flex\), 6 \(gripper\)"):
            b.arm.connect()
        b.bus.faults.silent = set(CALIBRATION)
        with pytest.raises(DeviceError, match=r"(?s)No servo of the arm answers.*servos 1, 2, 3, 4, 5, 6.*power on"):
            b.arm.connect()
        b.bus.faults.silent = set()
        b.arm.connect()


def test_another_model_is_refused() -> None:
    with bench() as b:
        b.put("wrist_roll", r.MODEL_NUMBER, 2825)
        with pytest.raises(DeviceError, match=r"(?s)Servo 5 \(wrist_roll\) .* is STS3250 \(model 2825\).*STS3215"):
            b.arm.connect()
        b.put("wrist_roll", r.MODEL_NUMBER, 4711)
        with pytest.raises(DeviceError, match="is of model 4711"):
            b.arm.connect()


@pytest.mark.parametrize("register", ["HOMING_OFFSET", "MIN_POSITION", "MAX_POSITION"])
def test_another_calibration_is_refused_and_written_when_asked_to(register: str) -> None:
    with bench() as b:
        was = b.value("elbow_flex", getattr(r, register))
        b.put("elbow_flex", getattr(r, register), 111)
        with pytest.raises(
            DeviceError, match=rf"(?s)elbow_flex \(servo 3\): {register} is 111, not {was}\..*--write-calibration"
        ):
            b.arm.connect()
        assert [str(one) for one in b.arm.calibration_difference()] == [
            f"elbow_flex (servo 3): {register} is 111, not {was}"
        ]
        assert len(b.arm.write_calibration()) == 1
        assert b.value("elbow_flex", getattr(r, register)) == was
        assert b.arm.calibration_difference() == ()
        assert not b.arm.bus.is_open
        b.arm.connect()


def test_no_calibration_is_written_under_torque() -> None:
    with bench(calibrated=False) as b:
        b.put("gripper", r.TORQUE_ENABLE, 1)
        with pytest.raises(DeviceError, match=r"gripper \(servo 6\): HOMING_OFFSET is 0, .* its torque is on"):
            b.arm.write_calibration()
        assert b.values(r.MIN_POSITION) == [0] * 6
        b.put("gripper", r.TORQUE_ENABLE, 0)
        assert len(b.arm.write_calibration()) == 15  # the roll has the factory's
        b.arm.connect()


def test_a_servo_that_keeps_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench() as b:
        servo = b.bus.servos["gripper"]
        monkeypatch.setattr(servo, "write", lambda address, data: None)
        with pytest.raises(DeviceError, match=r"gripper \(servo 6\) does not keep P_GAIN: 16 was written, 32 is read"):
            b.arm.connect()


def test_limits_are_those_of_servos_and_calibration() -> None:
    with bench() as b:
        with pytest.raises(DeviceError, match="not connected"):
            b.arm.limits()
        b.arm.connect()
        limits = b.arm.limits()
        assert limits["gripper"].position == pytest.approx((0.0, 100.0))
        half = (3391 - 760) / 2 * STEP
        assert limits["shoulder_pan"].position == pytest.approx((-half, half))
        assert limits["shoulder_pan"].temperature == 70
        assert limits["shoulder_pan"].voltage == pytest.approx((4.0, 14.0))


def test_a_reading_tells_all_that_a_tick_needs_in_one_exchange() -> None:
    with bench(gravity={"shoulder_lift": 0.1}) as b:
        b.arm.connect()
        b.place("shoulder_pan", 760)
        b.place("gripper", 2033 + 366)
        servo = b.bus.servo("wrist_flex")
        servo.temperature, servo.voltage, servo.encoder_fault = 51.0, 11.4, True
        start = len(b.bus.log)
        reading = b.arm.read()
        assert [packet.code for packet in b.since(start)] == [packets.SYNC_READ]
        assert reading.position[0] == pytest.approx(-(3391 - 760) / 2 * STEP)
        assert reading.position[5] == pytest.approx(25.0)
        assert reading.faults == {"wrist_flex": ("encoder",)}
        assert reading.temperature is not None
        assert reading.voltage is not None
        assert (reading.temperature[3], reading.voltage[3], reading.voltage[0]) == pytest.approx((51.0, 11.4, 12.1))


def test_speed_load_and_current_have_the_sign_and_unit_of_the_joint() -> None:
    """A coarse speed register counts fifty times as much; a scale that is turned round turns speed and load, too."""
    turned = CALIBRATION | {"gripper": replace(CALIBRATION["gripper"], drive_mode=1)}
    with bench(calibration=turned) as b:
        b.arm.connect()
        for joint in ("elbow_flex", "gripper"):
            b.put(joint, r.PHASE, 0x0C if joint == "elbow_flex" else 0x08)
        b.arm.disconnect()
        b.arm.connect()
        for servo in b.bus.servos.values():
            servo._measure = lambda: None  # type: ignore[method-assign]  # what is measured is put in below
        for joint, speed in (("elbow_flex", -1000), ("gripper", 20)):
            b.put(joint, r.PRESENT_SPEED, speed)
            b.put(joint, r.PRESENT_LOAD, -300)
            b.put(joint, r.PRESENT_CURRENT, -100)
        reading = b.arm.read()
        assert reading.velocity is not None
        assert reading.load is not None
        assert reading.current is not None
        assert reading.velocity[2] == pytest.approx(-1000 * STEP)
        assert reading.velocity[5] == pytest.approx(-20 * 50 * 100 / (3497 - 2033))
        assert (reading.load[2], reading.load[5]) == pytest.approx((-0.3, 0.3))
        assert (reading.current[2], reading.current[5]) == pytest.approx((0.65, 0.65))


def test_a_silent_joint_is_nan_and_a_silent_arm_an_error() -> None:
    with bench(timeout=0.1) as b:
        b.arm.connect()
        b.bus.faults.silent = {"elbow_flex"}
        reading = b.arm.read()
        for values in (reading.position, reading.velocity, reading.load, reading.current, reading.temperature):
            assert values is not None
            assert np.isnan(values).tolist() == [False, False, True, False, False, False]
        assert reading.retries == 1
        b.bus.faults.silent = set(CALIBRATION)
        with pytest.raises(DeviceError, match=r"No reply .* 1 \(shoulder_pan\), 2 .* 6 \(gripper\)"):
            b.arm.read()
        b.bus.faults.silent = set()
        assert np.isfinite(b.arm.read().position).all()


def test_goals_are_one_packet_of_the_nearest_steps() -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.engage()
        start = len(b.bus.log)
        b.arm.write(np.array([10.0, -10.0, 20.0, 0.04, -170.0, 100.0]))
        b.arm.read()  # a goal is not acknowledged: what comes after it is
        packet, _ = b.since(start)
        assert (packet.code, packet.data[:2]) == (packets.SYNC_WRITE, bytes([42, 2]))
        middles = [(c.range_min + c.range_max) / 2 for c in CALIBRATION.values()]
        wanted = [round(m + v / STEP) for m, v in zip(middles[:5], (10.0, -10.0, 20.0, 0.04, -170.0), strict=True)]
        assert b.values(r.GOAL_POSITION) == [*wanted, 3497]


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        (MIDDLE[:5], r"\[5\] goals were to be sent"),
        (np.zeros((1, 6)), r"\[1, 6\] goals"),
        (MIDDLE * math.nan, "'shoulder_pan' was told nan"),
        (MIDDLE - math.inf, "was told -inf"),
        (MIDDLE + 1e9, "beyond its calibrated range"),
        (MIDDLE + np.array([0, 0, 0, 0, 0, 50.1]), "'gripper' was told 100.1 normalized, beyond"),
        (MIDDLE + np.array([0, 0, 106, 0, 0, 0]), "'elbow_flex' was told 106 deg, beyond"),
    ],
)
def test_what_must_not_reach_the_bus_does_not(
    goals: np.ndarray[tuple[int, ...], np.dtype[np.float64]], message: str
) -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.engage()
        start = len(b.bus.log)
        with pytest.raises(DeviceError, match=message):
            b.arm.write(goals)
        b.arm.read()
        assert [packet.code for packet in b.since(start)] == [packets.SYNC_READ]


def test_no_goal_is_sent_to_an_arm_that_is_not_engaged() -> None:
    """A servo that gets a goal switches its torque on by itself."""
    with bench() as b:
        with pytest.raises(DeviceError, match="not connected"):
            b.arm.write(MIDDLE)
        b.arm.connect()
        with pytest.raises(DeviceError, match="not engaged"):
            b.arm.write(MIDDLE)
        b.arm.engage()
        b.arm.write(MIDDLE)
        b.arm.release()
        with pytest.raises(DeviceError, match="not engaged"):
            b.arm.write(MIDDLE)
        b.arm.engage()
        b.arm.disconnect()
        b.arm.connect()
        with pytest.raises(DeviceError, match="not engaged"):
            b.arm.write(MIDDLE)


def test_the_force_of_a_gripper_is_limited() -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.set_torque_limit("gripper", 0.3)
        assert b.value("gripper", r.TORQUE_LIMIT) == 300
        b.put("gripper", r.TORQUE_LIMIT, 1000)
        b.arm.engage()
        assert b.value("gripper", r.TORQUE_LIMIT) == 300
        b.arm.set_torque_limit("gripper", 1.0)
        assert b.value("gripper", r.TORQUE_LIMIT) == GRIPPER_CONFIGURATION["MAX_TORQUE"]
        for share in (0.0, 1.1, math.nan):
            with pytest.raises(UsageError, match="was to be"):
                b.arm.set_torque_limit("gripper", share)
        with pytest.raises(UsageError, match="Did you mean 'gripper'"):
            b.arm.set_torque_limit("griper", 0.5)


def test_disconnecting_leaves_torque_and_never_raises() -> None:
    with bench() as b:
        b.arm.disconnect()
        b.arm.connect()
        b.arm.engage()
        start = len(b.bus.log)
        b.arm.disconnect()
        b.arm.disconnect()
        assert b.since(start) == []
        assert b.values(r.TORQUE_ENABLE) == [1] * 6
        b.arm.connect()
        b.bus.unplug()
        b.arm.disconnect()


def test_a_pulled_cable_is_told_and_servos_hold() -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.engage()
        b.bus.unplug()
        for call in (b.arm.read, lambda: b.arm.write(MIDDLE), b.arm.engage, b.arm.release):
            with pytest.raises(DeviceGoneError, match=r"is gone"):
                call()
        b.arm.disconnect()
        assert b.values(r.TORQUE_ENABLE) == [1] * 6


def test_details_tell_of_each_servo_and_write_nothing() -> None:
    with bench() as b:
        b.bus.faults.silent = {"wrist_flex"}
        b.put("wrist_roll", r.MODEL_NUMBER, 2825)
        b.put("gripper", r.MAX_POSITION, 3000)
        b.put("gripper", r.TORQUE_ENABLE, 1)
        b.put("shoulder_pan", r.MIN_POSITION, 4000)
        b.put("elbow_flex", r.MIN_VOLTAGE, 130)
        pan, lift, elbow, flex, roll, gripper = b.arm.details()
        assert (lift.id, lift.model, lift.firmware, lift.temperature, lift.torque) == (2, 777, "3.10", 30, False)
        assert (lift.voltage, lift.position) == pytest.approx((12.1, 0.0), abs=STEP)
        assert lift.calibration == CALIBRATION["shoulder_lift"]
        assert [one.name for one in lift.configuration_differences] == ["P_GAIN"]
        assert (flex.answers, flex.model) == (False, None)
        assert (roll.answers, roll.model, roll.firmware) == (True, 2825, None)
        assert gripper.torque
        assert [str(one) for one in gripper.calibration_differences] == [
            "gripper (servo 6): MAX_POSITION is 3000, not 3497"
        ]
        assert pan.calibration is None
        assert elbow.faults == ("voltage",)
        assert changes(b.since(0)) == []
        assert not b.arm.bus.is_open


def test_details_of_a_connected_arm_leave_it_connected() -> None:
    with bench() as b:
        b.arm.connect()
        assert all(one.configuration_differences == () for one in b.arm.details())
        b.arm.read()


def test_an_arm_is_made_of_a_setups_options(tmp_path: Path) -> None:
    path = tmp_path / "arm.json"
    path.write_text(json.dumps({joint: asdict(entry) for joint, entry in CALIBRATION.items()}))
    options = FeetechArm.Options(port="/dev/ttyACM9", calibration=str(path))
    arm = FeetechArm.from_options(PROFILE, options)
    assert (arm.bus.port, arm.calibration) == ("/dev/ttyACM9", CALIBRATION)
    with pytest.raises(UsageError, match="does not exist"):
        FeetechArm.from_options(PROFILE, FeetechArm.Options(port="x", calibration=str(tmp_path / "none.json")))
    with pytest.raises(ValueError, match="Extra inputs"):
        FeetechArm.Options.model_validate({"port": "x", "calibration": "y", "prot": "z"})


def test_a_joint_in_a_unit_of_no_servo_is_refused() -> None:
    joint = Joint(name="lift", unit="mm", position_limits=(0.0, 1.0), velocity_limit=None)
    profile = RobotProfile(name="crane", description="a test", rate=10.0, joints=[joint])
    with pytest.raises(ProfileError, match="'lift' is in 'mm'"):
        FeetechArm(profile, "/dev/ttyACM0", {"lift": CALIBRATION["gripper"]})


def test_another_order_of_joints_is_the_profiles(tmp_path: Path) -> None:
    profile = PROFILE.model_copy(update={"action": ["gripper", "shoulder_pan"]})
    with bench() as b:
        arm = FeetechArm(profile, b.bus.port, CALIBRATION, timeout=0.5)
        arm.connect()
        b.place("gripper", 2033)
        assert arm.joints == ("gripper", "shoulder_pan")
        assert arm.read().position == pytest.approx([0.0, 0.0], abs=STEP)
        arm.disconnect()


def test_noise_on_the_line_costs_readings_nothing_but_time() -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.engage()
        b.bus.faults.noise, b.bus.faults.corrupt, b.bus.faults.drop = 7, 0.05, 0.05
        b.arm.bus.timeout = 0.1
        for _ in range(60):
            reading = b.arm.read()
            known = ~np.isnan(reading.position)
            assert reading.position[known] == pytest.approx(MIDDLE[known], abs=0.1)


def test_the_same_arm_calibrated_twice(tmp_path: Path) -> None:
    """As in life: another program calibrates, the file follows."""
    again = CALIBRATION | {"gripper": replace(CALIBRATION["gripper"], range_max=3400)}
    with bench() as b:
        calibrate(b.bus, again)
        arm = FeetechArm(PROFILE, b.bus.port, again, timeout=0.5)
        arm.connect()
        b.place("gripper", 3400)
        assert arm.read().position[5] == pytest.approx(100.0)
        arm.disconnect()
