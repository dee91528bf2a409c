"""An emulated bus whose time is the test's, and a client as small as can be."""

from __future__ import annotations

import errno
import os
import select
import tty
from pathlib import Path
from types import TracebackType
from typing import Self

from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.drivers.feetech.packets import Packet
from smolpilot.runtime.emulator.bus import EmulatedBus


class Clock:
    """A clock that stands until `pass_` is called."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """Opens a port as a plain file, without any serial library."""

    def __init__(self, port: str | Path) -> None:
        self._file = os.open(port, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        os.close(self._file)

    def send(self, request: bytes) -> None:
        os.write(self._file, request)

    def receive(self, seconds: float = 2.0) -> bytes:
        """What is there, or comes first within `seconds`; nothing after that time."""
        ready, _, _ = select.select([self._file], [], [], seconds)
        return os.read(self._file, 4096) if ready else b""

    def gone(self, request: bytes, tries: int = 100) -> bool:
        """Whether the system says, within `tries` requests, that there is no port any more."""
        for _ in range(tries):
            try:
                self.send(request)
                self.receive(0.05)
            except OSError as error:
                return error.errno in (errno.EIO, errno.ENXIO)
        return False

    def replies(self, request: bytes, count: int) -> list[Packet]:
        """Send, and wait for so many good replies."""
        self.send(request)
        found, buffer = list[Packet](), b""
        while len(found) < count and (more := self.receive()):
            buffer += more
            while (step := packets.first_packet(buffer))[0] is not None:
                found.append(step[0])
                buffer = buffer[step[1] :]
        return found


def replies(data: bytes) -> list[Packet]:
    """All good packets in these bytes."""
    found = []
    while (step := packets.first_packet(data))[0] is not None:
        found.append(step[0])
        data = data[step[1] :]
    return found


def write(bus: EmulatedBus, joint: str, register: reg.Register, value: int) -> Packet:
    """Write one register over the bus; the servo's reply."""
    servo = bus.servos[joint].id
    (reply,) = replies(bus.exchange(packets.write(servo, register.address, register.encode(value))))
    return reply


def read(bus: EmulatedBus, joint: str, register: reg.Register) -> int:
    """Read one register over the bus."""
    servo = bus.servos[joint].id
    (reply,) = replies(bus.exchange(packets.read(servo, register.address, register.size)))
    return register.decode(reply.data)
