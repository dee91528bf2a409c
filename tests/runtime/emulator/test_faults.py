"""What goes wrong on the bus when it is asked to."""

from __future__ import annotations

import time

import pydantic
import pytest

from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.emulator.options import FaultOptions, ServoOptions

from .helpers_bus import Client, replies

SIX = packets.sync_read([1, 2, 3, 4, 5, 6], reg.TELEMETRY.address, reg.TELEMETRY.size)


def test_the_next_replies_are_corrupted_and_then_no_more() -> None:
    bus = EmulatedBus()
    bus.faults.corrupt_next = 2
    good = [len(replies(bus.exchange(SIX))) for _ in range(4)]
    assert all(count < 6 for count in good[:2])
    assert good[2:] == [6, 6]
    assert bus.exchange(packets.sync_write(41, {1: b"\1"})) == b""  # what has no reply uses none up


def test_the_next_replies_are_lost_though_what_was_asked_is_done() -> None:
    bus = EmulatedBus()
    bus.faults.drop_next = 1
    assert bus.exchange(packets.write(1, reg.ACCELERATION.address, b"\x07")) == b""
    assert bus.servo("shoulder_pan").get(reg.ACCELERATION) == 7
    assert len(replies(bus.exchange(SIX))) == 6
    assert [packet.reply == b"" for packet in bus.log] == [True, False]


def test_shares_are_drawn_from_the_seed() -> None:
    def lost(seed: int) -> list[int]:
        bus = EmulatedBus(faults=FaultOptions(drop=0.25, corrupt=0.25, seed=seed))
        return [len(replies(bus.exchange(SIX))) for _ in range(200)]

    found = lost(3)
    assert found == lost(3)
    assert found != lost(4)
    assert 30 < found.count(0) < 70  # the lost ones
    assert 25 < sum(0 < count < 6 for count in found) < 65  # the corrupted ones of the others


def test_noise_comes_before_replies() -> None:
    bus = EmulatedBus(faults=FaultOptions(noise=20))
    reply = bus.exchange(packets.ping(1))
    assert (len(reply), reply[20:]) == (26, packets.Packet(1, 0).encode())
    assert [one.servo for one in replies(bus.exchange(SIX))] == [1, 2, 3, 4, 5, 6]


def test_a_silent_servo_neither_hears_nor_answers() -> None:
    bus = EmulatedBus(faults=FaultOptions(silent=("elbow_flex",)))
    assert [one.servo for one in replies(bus.exchange(SIX))] == [1, 2, 4, 5, 6]
    assert bus.exchange(packets.write(3, reg.ACCELERATION.address, b"\x07")) == b""
    bus.faults.silent.clear()
    assert [one.servo for one in replies(bus.exchange(packets.ping(3)))] == [3]
    assert bus.servo("elbow_flex").get(reg.ACCELERATION) == 0


def test_a_reply_may_be_late() -> None:
    with EmulatedBus(faults=FaultOptions(delay=0.15)) as bus, Client(bus.port) as client:
        start = time.monotonic()
        client.send(packets.ping(1))
        assert client.receive(0.05) == b""
        assert client.receive() == packets.Packet(1, 0).encode()
        assert time.monotonic() - start >= 0.15


def test_a_late_reply_does_not_keep_the_bus_from_closing() -> None:
    with EmulatedBus(faults=FaultOptions(delay=60)) as bus, Client(bus.port) as client:
        client.send(packets.ping(1))
        while not bus.log:
            time.sleep(0.001)
        start = time.monotonic()
        bus.unplug()
        assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (FaultOptions, {"drop": 1.5}),
        (FaultOptions, {"delay": -1}),
        (FaultOptions, {"drops": 0.5}),
        (FaultOptions, {"corrupt": float("nan")}),
        (FaultOptions, {"seed": "3"}),
        (ServoOptions, {"phase": 300}),
    ],
)
def test_options_are_strict(model: type[pydantic.BaseModel], values: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(values))):
        model(**values)
