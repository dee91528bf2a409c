"""Packets of Feetech's STS bus: `FF FF id length instruction parameters ~sum`, as Dynamixel's protocol 1.0 has them.

Driver and emulator share this form; that it is the right one, LeRobot's driver tells (tests/oracle).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HEADER = b"\xff\xff"
BROADCAST = 254
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83
OVERHEAD = 6
"""Bytes of a reply beside its data."""


@dataclass(frozen=True)
class Packet:
    """One packet. `code`: the instruction of a request, the error byte of a reply."""

    servo: int
    code: int
    data: bytes = b""

    def encode(self) -> bytes:
        """The bytes on the bus."""
        body = bytes([self.servo, len(self.data) + 2, self.code]) + self.data
        return HEADER + body + bytes([~sum(body) & 0xFF])


def ping(servo: int) -> bytes:
    return Packet(servo, PING).encode()


def read(servo: int, address: int, size: int) -> bytes:
    return Packet(servo, READ, bytes([address, size])).encode()


def write(servo: int, address: int, data: bytes) -> bytes:
    return Packet(servo, WRITE, bytes([address]) + data).encode()


def sync_read(servos: Sequence[int], address: int, size: int) -> bytes:
    return Packet(BROADCAST, SYNC_READ, bytes([address, size, *servos])).encode()


def sync_write(address: int, values: Mapping[int, bytes]) -> bytes:
    """The same register of several servos; no servo answers."""
    size = len(next(iter(values.values())))
    each = b"".join(bytes([servo]) + value for servo, value in values.items())
    return Packet(BROADCAST, SYNC_WRITE, bytes([address, size]) + each).encode()


def first_packet(buffer: bytes, most: int = 255) -> tuple[Packet | None, int]:
    """The first whole packet in a stream of bytes, and how many bytes are done with; None while there is none.

    Noise in front of a header, packets with a wrong sum and those of more than `most` bytes of data are passed over: a
    header in noise must not wait for bytes that never come.
    """
    at = 0
    while True:
        start = buffer.find(HEADER, at)
        if start < 0:  # the last byte may be the first half of a header
            return None, len(buffer) - buffer.endswith(HEADER[:1])
        if len(buffer) < start + 4:
            return None, start
        length = buffer[start + 3]
        end = start + 4 + length
        if buffer[start + 2] == 0xFF or not 2 <= length <= most + 2:
            at = start + 1
            continue
        if len(buffer) < end:
            return None, start
        body = buffer[start + 2 : end - 1]
        if ~sum(body) & 0xFF == buffer[end - 1]:
            return Packet(body[0], body[2], body[3:]), end
        at = start + 1
