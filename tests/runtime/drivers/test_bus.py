"""The bus on an emulated one: what goes wrong on the way, and what it costs."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from smolpilot.common.errors import DeviceError, DeviceGoneError
from smolpilot.runtime.drivers.feetech import packets, ports
from smolpilot.runtime.drivers.feetech import registers as r
from smolpilot.runtime.drivers.feetech.bus import Bus, scan, scan_port
from smolpilot.runtime.drivers.feetech.packets import Packet
from smolpilot.runtime.emulator.bus import SO101, EmulatedBus
from smolpilot.runtime.emulator.plants import JointState

IDS = list(SO101.values())
SLOW = 0.5
HELD = r.Register(r.TORQUE_ENABLE.address, 10)


@pytest.fixture
def emulated() -> Iterator[EmulatedBus]:
    with EmulatedBus() as bus:
        yield bus


@pytest.fixture
def bus(emulated: EmulatedBus) -> Iterator[Bus]:
    bus = Bus(emulated.port, names={number: joint for joint, number in SO101.items()}, timeout=SLOW)
    bus.open()
    yield bus
    bus.close()


def test_registers_are_read_and_written(bus: Bus, emulated: EmulatedBus) -> None:
    assert r.MODEL_NUMBER.decode(bus.read(3, r.MODEL_NUMBER).data) == 777
    bus.write(3, r.ACCELERATION, 50)
    assert emulated.servo("elbow_flex").get(r.ACCELERATION) == 50
    bus.sync_write(r.GOAL_POSITION, {1: 2000, 6: 2100})
    replies, retries = bus.sync_read(IDS, r.GOAL_POSITION)
    assert [r.GOAL_POSITION.decode(replies[servo].data) for servo in IDS] == [2000, 2048, 2048, 2048, 2048, 2100]
    assert retries == 0


def test_who_is_there(bus: Bus, emulated: EmulatedBus) -> None:
    emulated.servos["gripper"].set(r.MODEL_NUMBER, 2825)
    emulated.faults.silent = {"wrist_flex"}
    assert bus.ping(1) == Packet(1, 0)
    assert scan(bus, range(1, 8), timeout=0.06) == {1: 777, 2: 777, 3: 777, 5: 777, 6: 2825}
    bus.close()
    assert scan_port(emulated.port, range(5, 7)) == {5: 777, 6: 2825}


def test_a_corrupted_reply_is_asked_for_again(bus: Bus, emulated: EmulatedBus) -> None:
    before = len(emulated.log)
    emulated.faults.corrupt_next = 1
    replies, retries = bus.sync_read(IDS, r.TELEMETRY)
    assert (sorted(replies), retries) == (IDS, 1)
    again = list(emulated.log)[-1].request
    assert len(emulated.log) == before + 2
    assert len(packets.first_packet(again)[0].data) == 3  # type: ignore[union-attr]  # one servo, not all of them


def test_a_lost_reply_is_asked_for_again(bus: Bus, emulated: EmulatedBus) -> None:
    emulated.faults.drop_next = 1
    assert bus.read(2, r.MODEL_NUMBER).data == (777).to_bytes(2, "little")
    emulated.faults.drop_next = 1
    bus.write(2, r.ACCELERATION, 7)
    assert emulated.servo("shoulder_lift").get(r.ACCELERATION) == 7


def test_two_lost_replies_are_an_error_that_names_the_servo(bus: Bus, emulated: EmulatedBus) -> None:
    bus.timeout = 0.02
    emulated.faults.silent = {"elbow_flex"}
    with pytest.raises(DeviceError, match=r"(?s)No reply on .* from servo 3 \(elbow_flex\)\..*power supply"):
        bus.read(3, r.MODEL_NUMBER)
    with pytest.raises(DeviceError, match=r"from servo 3 \(elbow_flex\)"):
        bus.write(3, r.ACCELERATION, 1)
    assert bus.ping(3) is None
    assert bus.is_open


def test_a_silent_servo_takes_no_other_with_it(bus: Bus, emulated: EmulatedBus) -> None:
    bus.timeout = 0.1
    emulated.faults.silent = {"shoulder_lift"}
    replies, retries = bus.sync_read(IDS, r.TELEMETRY)
    assert (sorted(replies), retries) == ([1, 3, 4, 5, 6], 1)


def test_those_behind_a_silent_servo_are_asked_the_other_way_round(
    bus: Bus, emulated: EmulatedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A servo answers when it has seen the one before it, so that behind a silent one nobody is heard."""
    bus.timeout = 0.1
    answer = emulated._replies

    def one_after_the_other(packet: Packet) -> list[Packet]:
        replies = answer(packet)
        asked = list(packet.data[2:])
        return replies[: asked.index(2)] if packet.code == packets.SYNC_READ and 2 in asked else replies

    monkeypatch.setattr(emulated, "_replies", one_after_the_other)
    assert sorted(bus.sync_read(IDS, r.TELEMETRY)[0]) == [1, 3, 4, 5, 6]


def test_noise_before_replies_is_passed_over(bus: Bus, emulated: EmulatedBus) -> None:
    emulated.faults.noise = 25
    for _ in range(20):
        replies, _ = bus.sync_read(IDS, r.TELEMETRY)
        assert sorted(replies) == IDS


def test_a_reply_that_comes_too_late_answers_no_other_request(bus: Bus, emulated: EmulatedBus) -> None:
    """Replies carry no number; their size tells them apart."""
    emulated.servos["shoulder_pan"].set(r.GOAL_POSITION, 1234)
    emulated.faults.delay = 0.15
    assert bus.sync_read([1, 2], r.TELEMETRY, timeout=0.02) == ({}, 1)
    replies, retries = bus.sync_read([1, 2], HELD, timeout=4.0)
    assert (sorted(replies), retries) == ([1, 2], 0)
    assert r.GOAL_POSITION.decode(replies[1].data[2:4]) == 1234


def test_a_reading_that_comes_one_request_later_is_no_new_one(
    bus: Bus, emulated: EmulatedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All readings are asked for alike: for an arm that moves, an old one that seems new is where it is no more."""
    now = [1000.0]
    plant = emulated.plant
    monkeypatch.setattr(plant, "advance", lambda dt, commands: [JointState(now[0], 0.0, 0.0, 0.0)] * len(commands))
    emulated.faults.delay = 0.03
    bus.sync_read([1], r.TELEMETRY, timeout=0.02)
    for steps in range(1000, 1020):
        now[0] = steps
        time.sleep(0.02)
        replies, _ = bus.sync_read([1], r.TELEMETRY, timeout=0.02)
        assert not replies or r.PRESENT_POSITION.decode(replies[1].data[:2]) == steps
    emulated.faults.delay = 0.0
    time.sleep(0.1)
    replies, retries = bus.sync_read([1], r.TELEMETRY)
    assert len(replies[1].data) == r.TELEMETRY.size
    assert retries == 0


def test_a_process_that_did_not_run_for_a_while_has_sent_its_request(
    bus: Bus, emulated: EmulatedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine pyserial's time for writing may be over when all is written."""
    now = select.select

    def late(*waiting: Any) -> Any:
        if waiting[1]:  # for writing
            time.sleep(waiting[3] + 0.01)
            return [], [], []
        return now(*waiting)

    monkeypatch.setattr(select, "select", late)
    assert bus.ping(3) is not None


def test_stale_bytes_are_thrown_away() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    bus = Bus(os.ttyname(slave), timeout=0.05)
    try:
        bus.open()
        os.write(master, Packet(1, 0, b"\x11\x22").encode())
        with pytest.raises(DeviceError, match="No reply"):
            bus.read(1, r.GOAL_POSITION)
    finally:
        bus.close()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("what", ["read", "write", "sync_read", "sync_write", "ping"])
def test_a_pulled_cable_is_told_at_once_and_again(bus: Bus, emulated: EmulatedBus, what: str) -> None:
    calls = {
        "read": lambda: bus.read(1, r.PHASE),
        "write": lambda: bus.write(1, r.ACCELERATION, 1),
        "sync_read": lambda: bus.sync_read(IDS, r.TELEMETRY),
        "sync_write": lambda: bus.sync_write(r.GOAL_POSITION, {1: 2048}),
        "ping": lambda: bus.ping(1),
    }
    port = emulated.port
    emulated.unplug()
    for _ in range(2):
        with pytest.raises(DeviceGoneError, match=f"(?s)The bus on {port} is gone.*hold their last goal"):
            calls[what]()
    assert not bus.is_open
    bus.close()


def test_a_port_that_was_gone_can_be_opened_again(bus: Bus, emulated: EmulatedBus) -> None:
    emulated.unplug()
    with pytest.raises(DeviceGoneError, match="is gone"):
        bus.ping(1)
    emulated.plug()
    bus.port = emulated.port
    bus.open()
    assert bus.ping(1) is not None


def test_before_it_is_open_it_says_so(emulated: EmulatedBus) -> None:
    with pytest.raises(DeviceError, match="is not connected") as caught:
        Bus(emulated.port).ping(1)
    assert not isinstance(caught.value, DeviceGoneError)


def test_one_program_for_each_bus(bus: Bus) -> None:
    """Two would take each other's replies. In another process, as it is in life; and in this one."""
    code = f"from smolpilot.runtime.drivers.feetech.bus import Bus; Bus({bus.port!r}).open()"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"{bus.port} is in use by " in other.stderr
    assert f"(process {os.getpid()})" in other.stderr
    with pytest.raises(DeviceError, match=r"(?s)is in use by this process\..*End the other program"):
        Bus(bus.port).open()


def test_a_program_that_locks_no_port_is_in_the_way_too(emulated: EmulatedBus, tmp_path: Path) -> None:
    """As LeRobot, which moves the arm itself. That the arm is served by this process is in nobody's way."""
    (tmp_path / "arm").symlink_to(emulated.port)
    code = f"import serial; port = serial.Serial({emulated.port!r}, 1_000_000); print(port.name, flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline()
    with pytest.raises(DeviceError, match=rf"is in use by \w+ \(process {other.pid}\)\."):
        Bus(str(tmp_path / "arm")).open()
    other.communicate(b"\n", timeout=20)
    Bus(emulated.port).open()


def test_a_port_that_is_not_there_lists_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [ports.SerialPort("/dev/ttyACM7", "USB Single Serial")]
    monkeypatch.setattr(ports, "serial_ports", lambda: there)
    with pytest.raises(DeviceError, match=r"(?s)There is no port /dev/ttyACM0.*one of /dev/ttyACM7"):
        Bus("/dev/ttyACM0").open()
    there.clear()
    with pytest.raises(DeviceError, match="this machine has none of a USB adapter"):
        Bus("/dev/ttyACM0").open()


def test_a_port_that_may_not_be_opened_names_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = tmp_path / "port"
    port.touch()

    def refused(*_: object, **__: object) -> serial.Serial:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "Serial", refused)
    with pytest.raises(DeviceError, match=rf"(?s)No permission to open .*usermod -aG {port.group()} "):
        Bus(str(port)).open()


def test_a_file_is_no_port(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(DeviceError, match=r"cannot be opened.*\n.*Is it a serial port"):
        Bus(str(path)).open()


def test_ports_of_usb_adapters_are_listed() -> None:
    assert all(port.device for port in ports.serial_ports())
    assert "/dev/null" not in [port.device for port in ports.serial_ports()]
