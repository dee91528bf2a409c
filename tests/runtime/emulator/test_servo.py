"""The quirks of the firmware, each on its own."""

from __future__ import annotations

import pytest

from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.emulator.options import ServoOptions
from smolpilot.runtime.emulator.plants import JointState, ServoPlant
from smolpilot.runtime.emulator.servo import Servo

from .helpers_bus import Clock, read, write


class Bench:
    """One servo with its motor on the bus, and its time."""

    def __init__(self, position: float = 2048.0, gravity: float = 0.0, options: ServoOptions | None = None) -> None:
        self.clock = Clock()
        self.plant = ServoPlant({"joint": position}, gravity={"joint": gravity})
        self.bus = EmulatedBus({"joint": 1}, self.plant, clock=self.clock, options=options)

    @property
    def servo(self) -> Servo:
        return self.bus.servo("joint")

    def write(self, register: reg.Register, value: int) -> int:
        """The error byte of the reply."""
        return write(self.bus, "joint", register, value).code

    def read(self, register: reg.Register) -> int:
        return read(self.bus, "joint", register)

    def after(self, seconds: float, register: reg.Register = reg.PRESENT_POSITION) -> int:
        self.clock.pass_(seconds)
        return self.read(register)


def test_it_comes_from_the_factory_as_feetech_says() -> None:
    bench = Bench()
    factory = {
        reg.FIRMWARE: 3 | 10 << 8, reg.MODEL_NUMBER: 777, reg.ID: 1, reg.BAUD_RATE: 0, reg.MIN_POSITION: 0,
        reg.MAX_POSITION: 4095, reg.MAX_TEMPERATURE: 70, reg.MAX_VOLTAGE: 140, reg.MIN_VOLTAGE: 40,
        reg.MAX_TORQUE: 1000, reg.PHASE: 12, reg.P_GAIN: 32, reg.D_GAIN: 32, reg.I_GAIN: 0,
        reg.PROTECTION_CURRENT: 500, reg.HOMING_OFFSET: 0, reg.MODE: 0, reg.PROTECTIVE_TORQUE: 20,
        reg.PROTECTION_TIME: 200, reg.OVERLOAD_TORQUE: 80, reg.TORQUE_ENABLE: 0, reg.GOAL_POSITION: 2048,
        reg.TORQUE_LIMIT: 1000, reg.LOCK: 0, reg.PRESENT_POSITION: 2048, reg.PRESENT_SPEED: 0, reg.PRESENT_LOAD: 0,
        reg.PRESENT_VOLTAGE: 121, reg.PRESENT_TEMPERATURE: 30, reg.STATUS: 0, reg.MOVING: 0,
    }  # fmt: skip
    assert {register: bench.read(register) for register in factory} == factory


def test_writing_a_goal_switches_torque_on() -> None:
    bench = Bench()
    bench.write(reg.GOAL_POSITION, 2500)
    assert bench.read(reg.TORQUE_ENABLE) == 1
    assert bench.after(1.0) == 2500

    tame = Bench(options=ServoOptions(goal_enables_torque=False))
    tame.write(reg.GOAL_POSITION, 2500)
    assert tame.read(reg.TORQUE_ENABLE) == 0
    assert tame.after(1.0) == 2048


def test_torque_switched_on_drives_to_the_goal_that_is_still_there() -> None:
    """What jumps at the start where a driver does not set the goal first."""
    bench = Bench()
    bench.write(reg.GOAL_POSITION, 2500)
    bench.clock.pass_(1.0)
    bench.write(reg.TORQUE_ENABLE, 0)
    bench.plant.place("joint", 1500)
    assert bench.after(1.0) == 1500
    bench.write(reg.TORQUE_ENABLE, 1)
    assert bench.after(1.0) == 2500


def test_the_goal_that_counts_is_clamped_and_the_register_is_not() -> None:
    bench = Bench()
    bench.write(reg.MIN_POSITION, 1000)
    bench.write(reg.MAX_POSITION, 3000)
    bench.write(reg.GOAL_POSITION, 4000)
    assert bench.after(2.0) == 3000
    assert bench.read(reg.GOAL_POSITION) == 4000
    bench.write(reg.GOAL_POSITION, -500)
    assert bench.after(2.0) == 1000
    assert bench.read(reg.GOAL_POSITION) == -500


@pytest.mark.parametrize(("volatile", "locked", "after_power"), [(False, 0, 0), (True, 100, 0)])
def test_the_eeprom_keeps_only_what_is_written_unlocked(volatile: bool, locked: int, after_power: int) -> None:
    bench = Bench(options=ServoOptions(locked_eeprom_is_ram=volatile))
    bench.write(reg.LOCK, 1)
    assert bench.write(reg.MIN_POSITION, 100) == 0  # without a word
    assert bench.read(reg.MIN_POSITION) == locked
    bench.bus.power_cycle()
    assert bench.read(reg.MIN_POSITION) == after_power
    bench.write(reg.MIN_POSITION, 200)
    bench.bus.power_cycle("joint")
    assert bench.read(reg.MIN_POSITION) == 200


def test_what_is_measured_cannot_be_written() -> None:
    bench = Bench()
    bench.write(reg.PRESENT_POSITION, 7)
    bench.write(reg.MODEL_NUMBER, 7)
    assert (bench.read(reg.PRESENT_POSITION), bench.read(reg.MODEL_NUMBER)) == (2048, 777)
    assert bench.servo.read(120, 20) == bytes(20)  # and beyond the memory there is nothing
    bench.servo.write(126, b"\1\2\3\4")
    assert bench.servo.read(126, 4) == b"\1\2\0\0"


def test_power_sets_the_ram_anew_and_leaves_the_joint_where_it_is() -> None:
    bench = Bench()
    bench.write(reg.GOAL_POSITION, 2500)
    bench.write(reg.TORQUE_LIMIT, 300)
    bench.write(reg.MAX_TORQUE, 500)
    bench.clock.pass_(2.0)
    bench.bus.power_cycle()
    found = [bench.read(one) for one in (reg.TORQUE_ENABLE, reg.GOAL_POSITION, reg.TORQUE_LIMIT, reg.PRESENT_POSITION)]
    assert found == [0, 2500, 500, 2500]

    held = Bench(gravity=-0.1, options=ServoOptions(torque_at_power_up=True))
    assert held.read(reg.TORQUE_ENABLE) == 1
    assert held.after(1.0) == pytest.approx(2048 - 15, abs=1)  # sags, and holds


def test_overload_leaves_a_fifth_of_the_force_until_the_goal_is_on_the_other_side() -> None:
    bench = Bench()
    bench.plant.block("joint", 2100)
    bench.write(reg.GOAL_POSITION, 3000)
    assert (bench.after(1.9, reg.PRESENT_LOAD), bench.read(reg.STATUS)) == (1000, 0)
    assert bench.after(0.2, reg.STATUS) == 0x20
    assert bench.after(0.1, reg.PRESENT_LOAD) == 200
    assert bench.write(reg.GOAL_POSITION, 3500) == 0x20  # every reply says it
    assert bench.after(0.1, reg.PRESENT_LOAD) == 200
    assert bench.write(reg.GOAL_POSITION, 1500) == 0
    assert bench.after(1.0) == 1500


def test_overload_ends_when_torque_is_switched_off() -> None:
    bench = Bench()
    bench.plant.block("joint", 2100)
    bench.write(reg.GOAL_POSITION, 3000)
    assert bench.after(3.0, reg.STATUS) == 0x20
    assert bench.write(reg.TORQUE_ENABLE, 0) == 0
    bench.write(reg.TORQUE_ENABLE, 1)
    assert bench.after(0.1, reg.PRESENT_LOAD) == 1000


def test_overload_by_its_own_registers() -> None:
    bench = Bench()
    bench.write(reg.OVERLOAD_TORQUE, 25)
    bench.write(reg.PROTECTION_TIME, 50)
    bench.write(reg.PROTECTIVE_TORQUE, 10)
    bench.write(reg.TORQUE_LIMIT, 300)
    bench.plant.block("joint", 2100)
    bench.write(reg.GOAL_POSITION, 3000)
    assert bench.after(0.4, reg.PRESENT_LOAD) == 300
    assert bench.after(0.2, reg.STATUS) == 0x20
    assert bench.after(0.1, reg.PRESENT_LOAD) == 100


def test_too_much_current_trips_like_too_much_load() -> None:
    bench = Bench()
    bench.write(reg.PROTECTION_CURRENT, 250)
    bench.write(reg.OVER_CURRENT_TIME, 50)
    bench.plant.block("joint", 2100)
    bench.write(reg.GOAL_POSITION, 3000)
    assert bench.after(0.4, reg.PRESENT_CURRENT) * reg.AMPERES == pytest.approx(2.72, abs=0.01)
    assert bench.after(0.2, reg.STATUS) == 0x08
    assert bench.after(0.1, reg.PRESENT_LOAD) == 200


def test_heat_comes_with_load_and_takes_torque_away() -> None:
    bench = Bench()
    bench.write(reg.OVERLOAD_TORQUE, 254)  # out of the way
    bench.write(reg.MAX_TEMPERATURE, 50)
    bench.plant.block("joint", 2100)
    bench.write(reg.GOAL_POSITION, 3000)
    assert 32 < bench.after(30.0, reg.PRESENT_TEMPERATURE) < 50
    assert bench.after(100.0, reg.STATUS) == 0x04
    assert bench.read(reg.TORQUE_ENABLE) == 0
    assert bench.write(reg.GOAL_POSITION, 3100) == 0x04
    bench.write(reg.TORQUE_ENABLE, 1)
    assert bench.read(reg.TORQUE_ENABLE) == 0  # not while it is hot
    assert bench.after(10.0, reg.STATUS) == 0x04
    assert bench.after(200.0, reg.STATUS) == 0
    assert bench.read(reg.PRESENT_TEMPERATURE) <= 45
    bench.write(reg.TORQUE_ENABLE, 1)
    assert bench.after(0.1, reg.PRESENT_LOAD) == 1000


@pytest.mark.parametrize(("volts", "status"), [(12.1, 0), (14.0, 0), (14.1, 1), (4.0, 0), (3.9, 1)])
def test_voltage_outside_its_limits_is_said(volts: float, status: int) -> None:
    bench = Bench(options=ServoOptions(voltage=volts))
    assert (bench.read(reg.PRESENT_VOLTAGE), bench.read(reg.STATUS)) == (round(volts * 10), status)


def test_a_broken_encoder_is_said() -> None:
    bench = Bench()
    bench.servo.encoder_fault = True
    assert bench.write(reg.ACCELERATION, 0) == 0x02


@pytest.mark.parametrize(("phase", "unit"), [(0x0C, 1), (0x08, 50)])
def test_a_unit_of_speed_is_what_the_phase_says(phase: int, unit: int) -> None:
    bench = Bench(1000, options=ServoOptions(phase=phase))
    bench.write(reg.GOAL_SPEED, 500 // unit)
    bench.write(reg.GOAL_POSITION, 3000)
    bench.clock.pass_(1.0)
    start = bench.read(reg.PRESENT_POSITION)
    assert bench.read(reg.PRESENT_SPEED) == pytest.approx(500 / unit, abs=1)
    assert bench.after(2.0) - start == pytest.approx(1000, abs=10)
    bench.write(reg.GOAL_POSITION, 1000)
    assert bench.after(1.0, reg.PRESENT_SPEED) == pytest.approx(-500 / unit, abs=1)


def test_speed_0_is_the_fastest_or_a_stop() -> None:
    fast, standing = Bench(options=ServoOptions(phase=0x0C)), Bench(options=ServoOptions(phase=0x04))
    for bench in (fast, standing):
        bench.write(reg.GOAL_POSITION, 3000)
        bench.clock.pass_(2.0)
    assert (fast.read(reg.PRESENT_POSITION), standing.read(reg.PRESENT_POSITION)) == (3000, 2048)


def test_acceleration_and_time_slow_a_motion_down() -> None:
    times = {}
    for name, settings in {
        "as fast as it goes": {},
        "accelerated": {reg.ACCELERATION: 10},
        "in 1.5 s": {reg.GOAL_TIME: 1500},
        "bounded by its maximum": {reg.MAX_ACCELERATION: 10, reg.ACCELERATION: 200},
    }.items():
        bench = Bench(1000)
        for register, value in settings.items():
            bench.write(register, value)
        bench.write(reg.GOAL_POSITION, 2000)
        assert bench.read(reg.MOVING) == 1
        steps = 0
        while abs(bench.after(0.02) - 2000) > 2:
            steps += 1
        times[name] = steps * 0.02
    # 1000 steps, half of the way speeding up at 1000 steps/s²: 2 s.
    assert times == pytest.approx(
        {"as fast as it goes": 0.55, "accelerated": 2.05, "in 1.5 s": 1.65, "bounded by its maximum": 2.05}, abs=0.15
    )
    assert bench.after(0.5, reg.MOVING) == 0


def test_a_joint_on_its_way_gives_drive_and_takes_little_current() -> None:
    """So that a stall can be told from a motion."""
    bench = Bench(100)
    bench.write(reg.GOAL_POSITION, 4000)
    bench.clock.pass_(0.3)
    assert (bench.read(reg.PRESENT_LOAD), bench.read(reg.PRESENT_CURRENT)) == (1000, 3)


@pytest.mark.parametrize("register", [reg.TORQUE_LIMIT, reg.MAX_TORQUE])
def test_torque_limits_bound_the_force(register: reg.Register) -> None:
    bench = Bench()
    bench.write(register, 300)
    bench.plant.block("joint", 2100)
    bench.write(reg.GOAL_POSITION, 1000)
    assert bench.after(0.1, reg.PRESENT_LOAD) == -300
    bench.write(reg.GOAL_POSITION, 3000)
    assert bench.after(1.0, reg.PRESENT_LOAD) == 300


def test_a_homing_offset_is_subtracted_and_the_position_wraps_at_a_turn() -> None:
    bench = Bench(100)
    bench.write(reg.HOMING_OFFSET, 200)
    assert bench.read(reg.PRESENT_POSITION) == 3996
    bench.write(reg.GOAL_POSITION, 3500)  # backwards, as the numbers say
    assert bench.after(1.0) == 3500
    assert bench.servo.command(0.0).goal == pytest.approx(3500 + 200 - 4096)
    bench.write(reg.TORQUE_ENABLE, 0)
    bench.write(reg.HOMING_OFFSET, -200)
    bench.plant.place("joint", 4000)
    assert (bench.after(0.1), bench.read(reg.HOMING_OFFSET)) == (4200 - 4096, -200)


def test_a_servo_that_counts_turns_goes_beyond_them_until_power_goes() -> None:
    bench = Bench(options=ServoOptions(phase=0x1C))
    bench.write(reg.MAX_POSITION, 0)
    bench.write(reg.GOAL_POSITION, 9000)
    assert bench.after(5.0) == 9000
    bench.write(reg.GOAL_POSITION, -3000)
    assert bench.after(6.0) == -3000
    assert bench.servo.read(reg.PRESENT_POSITION.address, 2) == (3000 | 0x8000).to_bytes(2, "little")
    bench.bus.power_cycle()
    assert bench.read(reg.PRESENT_POSITION) == 4096 - 3000


def test_here_is_the_middle() -> None:
    bench = Bench(3000)
    bench.write(reg.TORQUE_ENABLE, 128)
    assert (bench.read(reg.PRESENT_POSITION), bench.read(reg.HOMING_OFFSET)) == (2048, 952)
    assert bench.read(reg.TORQUE_ENABLE) == 0


def test_other_modes_give_no_force() -> None:
    bench = Bench()
    bench.write(reg.MODE, 1)
    bench.write(reg.GOAL_POSITION, 3000)
    assert bench.after(1.0) == 2048


def test_without_torque_gravity_moves_the_joint_and_with_a_softer_gain_it_sags_more() -> None:
    bench = Bench(gravity=-0.1)
    assert bench.after(1.0) == pytest.approx(2048 - 307, abs=1)
    bench.write(reg.GOAL_POSITION, 2048)
    hard = bench.after(2.0)
    bench.write(reg.P_GAIN, 16)
    soft = bench.after(2.0)
    assert (hard, soft) == (2048 - 15, 2048 - 30)
    assert bench.read(reg.PRESENT_LOAD) == 100


def test_a_servo_needs_no_bus_and_no_clock() -> None:
    servo = Servo(3, position=500)
    servo.write(reg.GOAL_POSITION.address, reg.GOAL_POSITION.encode(900))
    assert servo.command(0.01).goal == 900
    servo.update(0.01, JointState(600.0, 100.0, 0.5, 0.25))
    assert [servo.get(one) for one in (reg.PRESENT_POSITION, reg.PRESENT_SPEED, reg.PRESENT_LOAD)] == [600, 100, 500]
    assert servo.get(reg.PRESENT_CURRENT) * reg.AMPERES == pytest.approx(0.02 + 2.7 / 4, abs=0.01)
