"""EmulatedBus: servos that answer on a pseudo-terminal, as on a serial port; every packet is logged."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from smolpilot.common.errors import DeviceError, UsageError, did_you_mean
from smolpilot.runtime.drivers.feetech import packets
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.drivers.feetech.packets import Packet

from .faults import Faults
from .options import FaultOptions, ServoOptions
from .plants import JointCommand, Plant, ServoPlant
from .port import Port
from .servo import Servo

SO101 = {"shoulder_pan": 1, "shoulder_lift": 2, "elbow_flex": 3, "wrist_flex": 4, "wrist_roll": 5, "gripper": 6}
"""Joints of an SO-101 and the ids of their servos."""
MIDDLE = 2048.0
_STEP = 0.01  # seconds: servos and plant are advanced in steps of at most this
_MOST_STEPS = 20_000
_LIMP = JointCommand(None, 0.0, 0.0)


class LoggedPacket(NamedTuple):
    """A request and the bytes that went back, empty where none did; time: on the bus's clock."""

    time: float
    request: bytes
    reply: bytes


class EmulatedBus:
    """Servos on a pty: `with EmulatedBus() as bus:` and any program for such arms can open `bus.port`.

    Attributes are for tests: `servos` (joint -> Servo), `plant`, `faults`, `log` (all packets, in order). Servos live
    by `clock` (seconds): with a clock of the test's own nothing moves but when it says so. One thread serves the port;
    `exchange` does the same without one. `lock` is held while a packet is answered and time is advanced.
    """

    def __init__(
        self,
        joints: Mapping[str, int] | None = None,
        plant: Plant | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        options: ServoOptions | None = None,
        faults: FaultOptions | None = None,
        log_size: int | None = None,
        link: Path | None = None,
    ) -> None:
        """joints: name -> id of its servo, in the plant's order (None: an SO-101's). plant: None is a ServoPlant with
        all joints in the middle. log_size: how many packets are kept (None: all). link: a path that is to
        lead to the port, wherever it is."""
        ids = dict(joints or SO101)
        self.plant: Plant = plant or ServoPlant(dict.fromkeys(ids, MIDDLE))
        self.faults, self.log = Faults(faults), deque[LoggedPacket](maxlen=log_size)
        self.lock = threading.RLock()
        self._clock, self._now = clock, clock()
        states = self.plant.advance(0.0, [_LIMP] * len(ids))
        self.servos = {
            name: Servo(number, position=state.position, options=options)
            for (name, number), state in zip(ids.items(), states, strict=True)
        }
        self.failure: Exception | None = None
        """What went wrong in the plant: from then on the port is gone."""
        self._link = link
        self._port: Port | None = None

    # The port

    @property
    def port(self) -> str:
        """Path of the serial port, for as long as it is there."""
        if self._port is None:
            raise DeviceError("The emulated bus has no port.", fix="start it, or plug it in again")
        return self._port.path

    def start(self) -> Self:
        """Plug the bus in: from now on there is a port, and somebody who listens."""
        if self._port is None:
            self._port = Port(self._answered, self.advance, self._failed, lambda: self.faults.delay, link=self._link)
        return self

    plug = start

    def stop(self) -> None:
        """Close the port; without effect where it is closed. Servos and log stay as they are."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def unplug(self) -> None:
        """Pull the cable out: the host's next read or write fails. The servos go on with the goals they have."""
        self.stop()

    def close(self) -> None:
        """Stop, and free what the plant holds."""
        self.stop()
        self.plant.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Time and power

    def advance(self) -> None:
        """Let the servos live until now."""
        with self.lock:
            now = self._clock()
            passed, self._now = now - self._now, now
            if passed <= 0:
                return
            steps = min(_MOST_STEPS, math.ceil(passed / _STEP - 1e-6))
            for _ in range(steps):
                self._step(passed / steps)

    def power_cycle(self, joint: str | None = None) -> None:
        """Take the power from a servo, or from all of them, for a moment. Joints stay where they are."""
        with self.lock:
            self.advance()
            for name, servo in self.servos.items():
                if joint in (None, name):
                    servo.power_up()

    def servo(self, joint: str) -> Servo:
        """The servo of a joint, living until now."""
        if joint not in self.servos:
            raise UsageError(f"The emulated bus has no joint '{joint}'.", fix=did_you_mean(joint, self.servos))
        self.advance()
        return self.servos[joint]

    def _step(self, dt: float) -> None:
        servos = list(self.servos.values())
        states = self.plant.advance(dt, [servo.command(dt) for servo in servos])
        for servo, state in zip(servos, states, strict=True):
            servo.update(dt, state)

    # Packets

    def exchange(self, request: bytes) -> bytes:
        """What comes back for these bytes, with all faults but the delay; incomplete packets are lost."""
        replies = b""
        while True:
            packet, used = packets.first_packet(request)
            if packet is None:
                return replies
            request = request[used:]
            replies += self._answered(packet)

    def _answered(self, packet: Packet) -> bytes:
        """Do what a packet asks, log it, and give what the host gets."""
        with self.lock:
            self.advance()
            reply = self.faults.passed(b"".join(each.encode() for each in self._replies(packet)))
            self.log.append(LoggedPacket(self._now, packet.encode(), reply))
            return reply

    def _replies(self, packet: Packet) -> list[Packet]:
        """What the servos say to a packet. What they cannot read, and other instructions, none of them answers."""
        awake = [servo for name, servo in self.servos.items() if name not in self.faults.silent]
        data, code = packet.data, packet.code
        if code == packets.SYNC_READ and len(data) > 2:
            known = {servo.id: servo for servo in awake}
            return [_reply(known[one], known[one].read(data[0], data[1])) for one in data[2:] if one in known]
        if code == packets.SYNC_WRITE and len(data) > 2:
            _sync_write(awake, data)
            return []
        broadcast = packet.servo == packets.BROADCAST
        meant = [servo for servo in awake if broadcast or servo.id == packet.servo]
        if code == packets.PING:
            return [_reply(servo) for servo in meant]
        if code == packets.READ and len(data) == 2 and not broadcast:
            return [_reply(servo, servo.read(data[0], data[1])) for servo in meant]
        if code == packets.WRITE and len(data) > 1:
            for servo in meant:
                servo.write(data[0], data[1:])
            # As before the write a servo is called: it may just have got another id.
            told = [servo for servo in meant if servo.get(reg.RESPONSE_LEVEL) and not broadcast]
            return [Packet(packet.servo, servo.status) for servo in told]
        return []

    def _failed(self, error: Exception) -> None:
        """From the port's thread, which ends with this."""
        self.failure = error


def _reply(servo: Servo, data: bytes = b"") -> Packet:
    return Packet(servo.id, servo.status, data)


def _sync_write(servos: list[Servo], data: bytes) -> None:
    address, size = data[:2]
    known = {servo.id: servo for servo in servos}
    for at in range(2, len(data) - size, size + 1):
        if data[at] in known:
            known[data[at]].write(address, data[at + 1 : at + 1 + size])
