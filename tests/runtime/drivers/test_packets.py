"""Packets in a stream of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as r
from smolpilot.runtime.drivers.feetech.packets import Packet, first_packet


def all_packets(stream: bytes, most: int = 255) -> list[Packet]:
    found = []
    while (step := first_packet(stream, most))[0] is not None:
        found.append(step[0])
        stream = stream[step[1] :]
    return found


def test_requests_are_the_bytes_of_the_manual() -> None:
    assert packets.ping(1) == bytes.fromhex("ffff010201fb")
    assert packets.read(1, 0x38, 2) == bytes.fromhex("ffff0104023802be")
    assert packets.write(1, 0x2A, (2048).to_bytes(2, "little")) == bytes.fromhex("ffff0105032a0008c4")
    assert packets.sync_read([1, 2], 0x38, 8) == bytes.fromhex("fffffe06823808010236")
    assert packets.sync_write(0x2A, {1: b"\x00\x08", 2: b"\x01\x08"})[:7] == bytes.fromhex("fffffe0a832a02")


@settings(deadline=None)
@given(st.lists(st.builds(Packet, st.integers(0, 253), st.integers(0, 255), st.binary(max_size=20)), max_size=5))
def test_packets_are_found_in_whatever_pieces_they_come(sent: list[Packet]) -> None:
    stream, found, buffer = b"".join(packet.encode() for packet in sent), list[Packet](), b""
    for at in range(len(stream)):
        buffer += stream[at : at + 1]
        packet, used = first_packet(buffer)
        buffer = buffer[used:]
        if packet is not None:
            found.append(packet)
    assert found == sent


@settings(deadline=None)
@given(st.binary(max_size=30), st.integers(1, 6))
def test_noise_in_front_hides_no_more_than_what_it_touches(noise: bytes, servo: int) -> None:
    """It may end as a header does, and then replies are taken for the rest of it; those behind are found."""
    replies = [Packet(one, 0, bytes(15)) for one in range(servo, servo + 4)]
    found = all_packets(noise + b"".join(reply.encode() for reply in replies), most=15)
    assert [packet for packet in found if packet in replies][-2:] == replies[-2:]


def test_a_header_in_noise_does_not_wait_for_what_never_comes() -> None:
    reply = Packet(3, 0, b"\x01\x02")
    stream = b"\xff\xff\x05\xf0" + reply.encode()
    assert all_packets(stream) == []
    assert all_packets(stream, most=2) == [reply]


@settings(deadline=None)
@given(st.integers(-0x7FFF, 0x7FFF))
def test_signs_are_a_bit_of_their_own(value: int) -> None:
    assert r.GOAL_POSITION.decode(r.GOAL_POSITION.encode(value)) == value
    assert (r.GOAL_POSITION.encode(value)[1] & 0x80 != 0) == (value < 0)


@pytest.mark.parametrize(("register", "value"), [(r.HOMING_OFFSET, 2048), (r.P_GAIN, 256), (r.MIN_POSITION, -1)])
def test_what_does_not_fit_into_a_register_is_refused(register: r.Register, value: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        register.encode(value)
