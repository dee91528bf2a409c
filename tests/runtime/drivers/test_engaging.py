"""Torque comes on only where nothing moves by it: the order of packets, and what stops it."""

from __future__ import annotations

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as r
from smolpilot.runtime.drivers.feetech.engaging import STILL, TOLERANCE
from smolpilot.runtime.drivers.feetech.packets import Packet

from .helpers_arm import CALIBRATION, Bench, bench, changes

STEP = 360 / 4095


def place_anywhere(b: Bench) -> list[int]:
    """Every joint somewhere else, old goals far away; where the joints are."""
    at = [1000, 2900, 1500, 1000, 3500, 2100]
    for joint, steps in zip(CALIBRATION, at, strict=True):
        b.place(joint, steps)
        b.put(joint, r.GOAL_POSITION, CALIBRATION[joint].range_max)
    return at


def test_goals_are_where_the_joints_are_and_read_back_before_torque() -> None:
    with bench() as b:
        at = place_anywhere(b)
        b.arm.connect()
        start = len(b.bus.log)
        goals = b.arm.engage()
        assert [b.position(joint) for joint in CALIBRATION] == at
        assert b.values(r.GOAL_POSITION) == at
        assert b.values(r.TORQUE_ENABLE) == [1] * 6
        np.testing.assert_allclose(goals, b.arm.read().position)

        asked = b.since(start)
        steps = [(packet.code, packet.data[0]) for packet in asked]
        goal = steps.index((packets.SYNC_WRITE, r.GOAL_POSITION.address))
        torque = steps.index((packets.SYNC_WRITE, r.TORQUE_ENABLE.address))
        assert steps[goal - 1] == (packets.SYNC_READ, r.PRESENT_POSITION.address)
        assert steps[goal + 1 : goal + 3] == [
            (packets.SYNC_READ, r.TORQUE_ENABLE.address),  # up to the goals: read back
            (packets.SYNC_READ, r.PRESENT_POSITION.address),  # and still there
        ]
        assert torque > goal + 2
        assert [change.raw for change in changes(asked) if change.of(r.GOAL_POSITION)] == [
            r.GOAL_POSITION.encode(steps) for steps in at
        ]


def test_nothing_moves_when_torque_comes_on() -> None:
    with bench(gravity={"shoulder_lift": 0.02}) as b:
        place_anywhere(b)
        b.arm.connect()
        before = [b.position(joint) for joint in CALIBRATION]
        b.arm.engage()
        for _ in range(30):
            b.arm.read()
        after = [b.position(joint) for joint in CALIBRATION]
        assert after == pytest.approx(before, abs=STILL)


def test_what_another_program_left_is_set_right_before_torque() -> None:
    with bench() as b:
        b.arm.connect()
        for register, value in ((r.GOAL_SPEED, 20), (r.GOAL_TIME, 5000), (r.ACCELERATION, 3), (r.TORQUE_LIMIT, 50)):
            b.put("elbow_flex", register, value)
        b.arm.engage()
        assert [b.value("elbow_flex", each) for each in (r.GOAL_SPEED, r.GOAL_TIME, r.ACCELERATION)] == [0, 0, 254]
        assert b.values(r.TORQUE_LIMIT) == [1000] * 5 + [500]


@pytest.mark.parametrize(("phase", "speed"), [(0x0C, 0), (0x08, 0), (0x04, 3400), (0x00, 68)])
def test_the_fastest_speed_is_spelled_as_the_servo_has_it(phase: int, speed: int) -> None:
    """Unit and meaning of 0 are in PHASE: a 0 that means standing still would be an arm that does not follow."""
    with bench() as b:
        b.put("elbow_flex", r.PHASE, phase)
        b.arm.connect()
        b.put("elbow_flex", r.GOAL_SPEED, 7)
        b.arm.engage()
        assert b.value("elbow_flex", r.GOAL_SPEED) == speed


def test_a_goal_that_does_not_read_back_leaves_torque_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servo is on its way then: it has switched its torque on with the goal."""
    with bench() as b:
        b.arm.connect()
        b.put("gripper", r.TORQUE_ENABLE, 1)
        servo = b.bus.servos["elbow_flex"]
        write = servo.write

        def garbled(address: int, data: bytes) -> None:
            write(address, b"\x00\x04" if address == r.GOAL_POSITION.address else data)

        monkeypatch.setattr(servo, "write", garbled)
        with pytest.raises(DeviceError, match=r"'elbow_flex' does not take its goal: 1998 was written, 1024 is read"):
            b.arm.engage()
        assert b.values(r.TORQUE_ENABLE) == [0, 0, 0, 0, 0, 1]  # the gripper's was on before
        with pytest.raises(DeviceError, match="not engaged"):
            b.arm.write(np.zeros(6))


def test_goals_that_are_lost_leave_torque_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench() as b:
        b.arm.connect()
        place_anywhere(b)
        answer = b.bus._replies

        def lost(packet: Packet) -> list[Packet]:
            return [] if packet.code == packets.SYNC_WRITE and packet.data[0] == 42 else answer(packet)

        monkeypatch.setattr(b.bus, "_replies", lost)
        with pytest.raises(DeviceError, match="does not take its goal"):
            b.arm.engage()
        assert b.values(r.TORQUE_ENABLE) == [0] * 6


def test_an_arm_that_does_not_keep_still_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench() as b:
        b.arm.connect()
        answer, at = b.bus._replies, [1500]

        def carried(packet: Packet) -> list[Packet]:
            if packet.code == packets.SYNC_READ and packet.data[0] == r.PRESENT_POSITION.address:
                at[0] += 3 * STILL
                b.place("elbow_flex", at[0])
            return answer(packet)

        monkeypatch.setattr(b.bus, "_replies", carried)
        with pytest.raises(DeviceError, match=r"(?s)Joint 'elbow_flex' does not keep still, so torque was not.*rest"):
            b.arm.engage()
        assert b.values(r.TORQUE_ENABLE) == [0] * 6


def test_an_arm_that_was_moved_once_gets_its_goals_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench() as b:
        b.arm.connect()
        answer, moves = b.bus._replies, [1500, 1600]

        def carried(packet: Packet) -> list[Packet]:
            if packet.code == packets.SYNC_READ and packet.data[0] == r.PRESENT_POSITION.address and moves:
                b.place("elbow_flex", moves.pop(0))
            return answer(packet)

        monkeypatch.setattr(b.bus, "_replies", carried)
        goals = b.arm.engage()
        held = b.value("elbow_flex", r.GOAL_POSITION)
        assert abs(held - 1600) <= STILL
        assert goals[2] == pytest.approx((held - (901 + 3096) / 2) * STEP)


def test_a_joint_beyond_its_range_is_refused_with_where_it_is() -> None:
    """Its servo would drive it to the end of the range as fast as it can."""
    with bench() as b:
        b.arm.connect()
        b.place("shoulder_lift", 3190 + TOLERANCE + 1)
        with pytest.raises(
            DeviceError, match=r"(?s)'shoulder_lift' stands at 107\.2 deg, .* -105\.0 to 105\.0.*by hand"
        ):
            b.arm.engage()
        b.place("shoulder_lift", 2000)
        b.place("gripper", 3700)
        with pytest.raises(DeviceError, match=r"'gripper' stands at 113\.9 normalized"):
            b.arm.engage()
        assert b.values(r.TORQUE_ENABLE) == [0] * 6


def test_a_joint_pressed_against_its_stop_is_held_at_the_end_of_its_range() -> None:
    with bench() as b:
        b.arm.connect()
        b.place("shoulder_lift", 801 - TOLERANCE)
        goals = b.arm.engage()
        assert b.value("shoulder_lift", r.GOAL_POSITION) == 801
        assert goals[1] == b.arm.limits()["shoulder_lift"].position[0]  # type: ignore[index]


def test_a_silent_servo_leaves_all_off() -> None:
    with bench(timeout=0.1) as b:
        b.arm.connect()
        b.bus.faults.silent = {"wrist_roll"}
        with pytest.raises(DeviceError, match=r"No reply on .* from servo 5 \(wrist_roll\)"):
            b.arm.engage()
        b.bus.faults.silent = set()
        assert b.values(r.TORQUE_ENABLE) == [0] * 6


def test_torque_that_may_be_left_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The goals have switched it on, and the bus does not answer any more when it is to be switched off again."""
    with bench(timeout=0.1) as b:
        b.arm.connect()
        answer = b.bus._replies

        def cut(packet: Packet) -> list[Packet]:
            if packet.code == packets.SYNC_WRITE and packet.data[0] == r.GOAL_POSITION.address:
                b.bus.faults.drop = 1.0
            return answer(packet)

        monkeypatch.setattr(b.bus, "_replies", cut)
        with pytest.raises(DeviceError, match=r"(?s)No reply .*The torque of shoulder_pan, .*gripper may still be on"):
            b.arm.engage()


def test_a_servo_that_stays_limp_is_told() -> None:
    with bench() as b:
        b.arm.connect()
        b.bus.servo("wrist_flex").temperature = 90.0
        with pytest.raises(DeviceError, match=r"'wrist_flex' \(servo 4\) does not switch its torque on"):
            b.arm.engage()
        assert b.values(r.TORQUE_ENABLE) == [0] * 6


def test_release_switches_torque_off_and_says_where_it_could_not() -> None:
    with bench() as b:
        b.arm.connect()
        b.arm.engage()
        b.arm.release()
        assert b.values(r.TORQUE_ENABLE) == [0] * 6
        b.arm.engage()
        b.bus.faults.silent = {"elbow_flex"}
        with pytest.raises(DeviceError, match=r"(?s)The torque of elbow_flex may still be on.*power off"):
            b.arm.release()
        b.bus.faults.silent = set()
        assert b.values(r.TORQUE_ENABLE) == [0, 0, 1, 0, 0, 0]


def test_a_reading_past_the_wrap_is_no_motion() -> None:
    """The roll may turn on at the end of its range: 4095 is followed by 0, which is a step and not a turn."""
    with bench() as b:
        b.arm.connect()
        seen = []
        for steps in (4060, 4090, 4100, 4110, 4095, 4080):
            b.place("wrist_roll", steps)
            seen.append(b.arm.read().position[4])
        assert b.position("wrist_roll") == 4080
        np.testing.assert_allclose(np.diff(seen), np.array([30, 10, 10, -15, -15]) * STEP)
        assert seen[3] == pytest.approx((4110 - 2047.5) * STEP)


def test_engaging_counts_anew_as_the_servo_does() -> None:
    """A joint turned on by hand stands, for its servo, where it tells: the goal is that, or it would turn back."""
    with bench() as b:
        b.arm.connect()
        for steps in (4000, 4200, 4400):
            b.place("wrist_roll", steps)
            told = b.arm.read().position[4]
        assert told > 180
        goals = b.arm.engage()
        assert b.value("wrist_roll", r.GOAL_POSITION) == 4400 - 4096
        assert goals[4] == pytest.approx((304 - 2047.5) * STEP)
        assert b.arm.read().position[4] == pytest.approx(goals[4])


def test_a_joint_on_the_other_side_of_the_wrap_is_refused() -> None:
    """One step past 4095 is a turn away for its servo, whichever way its goal lies."""
    high = CALIBRATION | {"gripper": type(CALIBRATION["gripper"])(6, 0, 0, 2600, 4095)}
    with bench(calibration=high) as b:
        b.arm.connect()
        b.place("gripper", 4096 + 5)
        assert b.arm.read().position[5] == 100.0
        with pytest.raises(DeviceError, match=r"'gripper' stands at 100\.4 normalized, beyond"):
            b.arm.engage()
        assert b.values(r.TORQUE_ENABLE) == [0] * 6
