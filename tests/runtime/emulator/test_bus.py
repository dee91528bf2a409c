"""The emulated bus: what each instruction does, on the bytes of a real pseudo-terminal."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from smolpilot.common.errors import DeviceError, UsageError
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.bus import SO101, EmulatedBus, LoggedPacket
from smolpilot.runtime.emulator.plants import JointCommand, JointState, ServoPlant

from .helpers_bus import Client, Clock, read, replies, write

IDS = list(SO101.values())


def test_it_answers_on_a_serial_port() -> None:
    with EmulatedBus() as bus, Client(bus.port) as client:
        assert [reply.servo for reply in client.replies(packets.ping(3), 1)] == [3]
        assert [reply.servo for reply in client.replies(packets.ping(packets.BROADCAST), 6)] == IDS
        (model,) = client.replies(packets.read(1, reg.MODEL_NUMBER.address, 2), 1)
        assert reg.MODEL_NUMBER.decode(model.data) == reg.MODEL
        telemetry = client.replies(packets.sync_read(IDS, reg.TELEMETRY.address, reg.TELEMETRY.size), 6)
        assert [(reply.servo, len(reply.data)) for reply in telemetry] == [(one, 15) for one in IDS]
        (done,) = client.replies(packets.write(2, reg.ACCELERATION.address, b"\x14"), 1)
        assert (done.servo, done.code, done.data) == (2, 0, b"")
        assert bus.servo("shoulder_lift").get(reg.ACCELERATION) == 20


def test_a_goal_sent_to_all_moves_the_joints() -> None:
    clock = Clock()
    with EmulatedBus(clock=clock) as bus, Client(bus.port) as client:
        goals = {one: reg.GOAL_POSITION.encode(2048 + 100 * one) for one in IDS}
        client.send(packets.sync_write(reg.GOAL_POSITION.address, goals))
        client.replies(packets.ping(1), 1)  # what was sent before it, has been done
        clock.pass_(1.0)
        found = client.replies(packets.sync_read(IDS, reg.PRESENT_POSITION.address, 2), 6)
    assert [reg.PRESENT_POSITION.decode(reply.data) for reply in found] == [2048 + 100 * one for one in IDS]


def test_the_log_holds_every_packet_in_order_with_its_time() -> None:
    clock = Clock()
    bus = EmulatedBus(clock=clock)
    requests = [packets.ping(1), packets.write(1, 41, b"\x05"), packets.sync_write(41, {1: b"\x06"}), packets.ping(9)]
    for request in requests:
        clock.pass_(0.25)
        bus.exchange(request)
    assert [packet.request for packet in bus.log] == requests
    assert [packet.time for packet in bus.log] == [100.25, 100.5, 100.75, 101.0]
    assert [packet.reply for packet in bus.log] == [packets.Packet(1, 0).encode()] * 2 + [b"", b""]
    assert EmulatedBus(clock=clock, log_size=1).log.maxlen == 1
    assert isinstance(bus.log[0], LoggedPacket)


def test_nothing_answers_what_no_servo_is_meant_by_or_can_read() -> None:
    bus = EmulatedBus()
    good = packets.read(1, 56, 2)
    for request in (
        packets.ping(9),
        good[:-1] + bytes([good[-1] ^ 1]),
        packets.Packet(1, 0x55).encode(),
        packets.Packet(1, packets.READ, b"\x38").encode(),
        packets.read(packets.BROADCAST, 56, 2),
        packets.write(packets.BROADCAST, reg.ACCELERATION.address, b"\x07"),
    ):
        assert bus.exchange(request) == b""
    assert [servo.get(reg.ACCELERATION) for servo in bus.servos.values()] == [7] * 6
    assert [reply.servo for reply in replies(bus.exchange(packets.sync_read([1, 9, 2], 56, 2)))] == [1, 2]


def test_several_packets_in_one_go_and_one_in_pieces() -> None:
    with EmulatedBus() as bus, Client(bus.port) as client:
        assert [reply.servo for reply in client.replies(packets.ping(1) + b"\x00\xff" + packets.ping(2), 2)] == [1, 2]
        client.send(packets.ping(4)[:3])
        assert [reply.servo for reply in client.replies(packets.ping(4)[3:], 1)] == [4]


def test_half_a_packet_is_forgotten_after_a_while() -> None:
    """Its length says 250 bytes: what follows would else be taken for its end."""
    with EmulatedBus() as bus, Client(bus.port) as client:
        client.send(b"\xff\xff\x01\xfa")
        assert client.receive(0.1) == b""
        assert [reply.servo for reply in client.replies(packets.ping(1), 1)] == [1]


def test_a_servo_may_get_another_id() -> None:
    bus = EmulatedBus({"gripper": 1})
    write(bus, "gripper", reg.LOCK, 0)
    reply = write(bus, "gripper", reg.ID, 6)
    assert reply.servo == 1  # the answer still comes from the old one
    assert (bus.exchange(packets.ping(1)), replies(bus.exchange(packets.ping(6)))[0].servo) == (b"", 6)


def test_a_response_level_of_0_silences_writes() -> None:
    bus = EmulatedBus()
    write(bus, "gripper", reg.LOCK, 0)
    assert bus.exchange(packets.write(6, reg.RESPONSE_LEVEL.address, b"\x00")) == b""
    assert bus.exchange(packets.write(6, reg.ACCELERATION.address, b"\x07")) == b""
    assert read(bus, "gripper", reg.ACCELERATION) == 7


def open_files() -> int:
    """How many this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_stopping_leaves_no_thread_and_no_file_open() -> None:
    before, files = threading.active_count(), open_files()
    bus = EmulatedBus().start()
    assert threading.active_count() == before + 1
    bus.stop()
    bus.stop()
    assert threading.active_count() == before
    assert open_files() == files
    with pytest.raises(DeviceError, match="has no port"):
        _ = bus.port


def test_a_link_leads_to_the_port_for_as_long_as_it_is_there(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    link.symlink_to(tmp_path / "left by one that was killed")
    bus = EmulatedBus(link=link).start()
    first = bus.port
    with Client(link) as client:
        assert [reply.servo for reply in client.replies(packets.ping(1), 1)] == [1]
    bus.unplug()
    assert not link.is_symlink()
    bus.plug()
    assert str(link.readlink()) == bus.port
    bus.stop()
    assert list(tmp_path.iterdir()) == []
    assert first.startswith("/dev/")

    link.write_text("a file of the user's")
    with pytest.raises(UsageError, match="is there already"):
        EmulatedBus(link=link).start()
    assert link.read_text() == "a file of the user's"


def test_an_unplugged_cable_is_an_error_for_the_host_and_the_servos_go_on() -> None:
    clock = Clock()
    bus = EmulatedBus(clock=clock).start()
    with Client(bus.port) as client:
        client.replies(packets.write(1, reg.GOAL_POSITION.address, reg.GOAL_POSITION.encode(2500)), 1)
        bus.unplug()
        assert client.gone(packets.ping(1))
    clock.pass_(2.0)
    assert bus.servo("shoulder_pan").get(reg.PRESENT_POSITION) == 2500  # no watchdog
    with bus.plug(), Client(bus.port) as client:
        assert [reply.servo for reply in client.replies(packets.ping(1), 1)] == [1]


class _Breaking(ServoPlant):
    broken = False

    def advance(self, dt: float, commands: object) -> list[JointState]:
        if self.broken:
            raise RuntimeError("the simulation exploded")
        return list(super().advance(dt, commands))  # type: ignore[arg-type]


def test_a_plant_that_breaks_takes_the_port_away() -> None:
    plant = _Breaking({"gripper": 2048.0})
    with EmulatedBus({"gripper": 6}, plant) as bus, Client(bus.port) as client:
        plant.broken = True
        assert client.gone(packets.ping(6))
        assert str(bus.failure) == "the simulation exploded"


def test_an_unknown_joint_is_told_with_the_nearest() -> None:
    bus = EmulatedBus()
    with pytest.raises(UsageError, match="Did you mean 'gripper'"):
        bus.servo("griper")


def test_a_plant_with_other_joints_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        EmulatedBus({"pan": 1}, ServoPlant({"pan": 0.0, "lift": 0.0}))
    assert ServoPlant({"pan": 0.0}).advance(0.0, [JointCommand(None, 0.0, 0.0)])[0].position == 0.0
