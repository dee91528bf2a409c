"""The bus of STS servos behind a serial port: a request, its replies, a deadline; noise is passed over."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import serial

from smolpilot.common.errors import DeviceError, DeviceGoneError
from smolpilot.common.text import plain

from . import packets
from .packets import OVERHEAD, Packet, first_packet
from .ports import busy_port, held_here, missing_port, owners_of, refused_port
from .registers import MODEL_NUMBER, Register

BAUD = 1_000_000
TIMEOUT = 0.02
"""Seconds that an exchange may take, its repetition included: six servos answer within 1.4 ms and what USB adds."""
PATIENT = 0.2
"""Seconds for what is asked once, at connecting; a servo takes some milliseconds to keep a register without power."""
ATTEMPTS = 2

_ERRORS: tuple[type[Exception], ...] = (OSError,)  # pyserial's own are such
with contextlib.suppress(ImportError):  # Windows has none
    import termios

    _ERRORS = (OSError, termios.error)  # pyserial lets it through

_WRITE_TIMEOUT = 0.1
_GAP = 0.003  # seconds after which nothing more follows what has come: replies follow one another within microseconds
_MARKS, _MARKING = 8, 2.0  # sizes that take turns; seconds after a late reply
_SETTLING = 0.04  # how long a line that is never silent is listened to


class Bus:
    """One bus. Not for several threads at once: who shares one, locks it.

    Every call raises DeviceGoneError when the port is gone; it is closed then, until `open`. names: of servos, for
    messages. timeout: seconds that an exchange may take at most.
    """

    def __init__(
        self, port: str, *, names: Mapping[int, str] | None = None, baud: int = BAUD, timeout: float = TIMEOUT
    ) -> None:
        self.port = port
        self.timeout = timeout
        self._names, self._baud = dict(names or {}), baud
        self._serial: serial.Serial | None = None
        self._gone = ""
        self._late = False  # a reply may still come that nobody waits for any more
        self._mark, self._mark_until = 0, 0.0

    @property
    def is_open(self) -> bool:
        return self._serial is not None

    def open(self) -> None:
        """Open the port for this process alone; DeviceError when it is missing, forbidden or in use."""
        if self._serial is not None:
            return
        if owners := owners_of(self.port):
            raise busy_port(self.port, owners)
        try:
            self._serial = serial.Serial(
                self.port, self._baud, timeout=_GAP, write_timeout=_WRITE_TIMEOUT, exclusive=True
            )
        except (serial.SerialException, OSError, ValueError) as error:
            raise self._not_opened(error) from None
        self._gone, self._late = "", True  # a program before this one may have asked and gone

    def close(self) -> None:
        """Close the port; without effect where it is closed. Never raises."""
        if self._serial is not None:
            with contextlib.suppress(Exception):  # termios.error of a port that is gone is no OSError
                self._serial.close()
            self._serial = None

    def ping(self, servo: int, *, timeout: float | None = None) -> Packet | None:
        """The reply of a servo, its error byte in `code`; None when there is none."""
        found, _ = self._ask(lambda _: packets.ping(servo), [servo], 0, timeout)
        return found.get(servo)

    def read(self, servo: int, register: Register, *, timeout: float | None = None) -> Packet:
        """The bytes of one register, or of several as one; DeviceError when the servo does not answer."""
        request = packets.read(servo, register.address, register.size)
        found, _ = self._ask(lambda _: request, [servo], register.size, timeout)
        if servo not in found:
            raise self.silent([servo])
        return found[servo]

    def write(self, servo: int, register: Register, value: int, *, timeout: float | None = None) -> None:
        """Set one register; DeviceError when the servo does not acknowledge it."""
        request = packets.write(servo, register.address, register.encode(value))
        found, _ = self._ask(lambda _: request, [servo], 0, timeout)
        if servo not in found:
            raise self.silent([servo])

    def sync_read(
        self, servos: Sequence[int], register: Register, *, timeout: float | None = None
    ) -> tuple[dict[int, Packet], int]:
        """The same register of several servos, those that answered; and how often it had to be asked again."""
        address, size = register.address, register.size + self._marked()
        found, retries = self._ask(lambda who: packets.sync_read(who, address, size), servos, size, timeout)
        if size == register.size:
            return found, retries
        return {servo: replace(reply, data=reply.data[: register.size]) for servo, reply in found.items()}, retries

    def _marked(self) -> int:
        """How many bytes to ask for beyond what is wanted, by which a reply that comes one request later is told.

        Replies carry no number. While some may be late, each request has a size that those before it had not.
        """
        if time.monotonic() > self._mark_until:
            return 0
        self._mark = self._mark % _MARKS + 1
        return self._mark

    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """Set a register of several servos in one packet, which none acknowledges."""
        self._send(packets.sync_write(register.address, {servo: register.encode(v) for servo, v in values.items()}))

    def silent(self, servos: Iterable[int]) -> DeviceError:
        """The error that says who did not answer."""
        who = ", ".join(f"{servo} ({self._names[servo]})" if servo in self._names else str(servo) for servo in servos)
        return DeviceError(
            f"No reply on {self.port} from servo {who}.",
            fix="Is the arm's power supply on, and are the cables from servo to servo plugged in?",
        )

    def _ask(
        self, request: Callable[[Sequence[int]], bytes], servos: Sequence[int], size: int, timeout: float | None
    ) -> tuple[dict[int, Packet], int]:
        """The replies with `size` bytes of data; who does not answer is asked once more."""
        found: dict[int, Packet] = {}
        seconds = (self.timeout if timeout is None else timeout) / ATTEMPTS
        for attempt in range(ATTEMPTS):
            missing = [servo for servo in servos if servo not in found]
            # Servos answer one after the other, each when it has seen the one before it. Asked the other way round,
            # those behind a dead one are heard, too.
            self._send(request(missing[::-1] if attempt else missing), again=attempt > 0)
            self._receive(missing, size, seconds, found)
            if all(servo in found for servo in servos):
                return found, attempt
            self._late, self._mark_until = True, time.monotonic() + _MARKING
        return found, ATTEMPTS - 1

    def _send(self, request: bytes, *, again: bool = False) -> None:
        with self._using() as port:
            if self._late and not again:
                self._settle(port)
            if stale := port.in_waiting:
                port.read(stale)
            try:
                port.write(request)
            except serial.SerialTimeoutException:
                # pyserial also says so when all is sent, and this process did not run for so long.
                if port.out_waiting:
                    raise DeviceError(
                        f"{self.port} takes no more bytes.", fix="Pull the USB cable out and plug it in again."
                    ) from None

    def _settle(self, port: serial.Serial) -> None:
        """Wait until the line is silent: replies carry no number, and a late one must not answer another request.

        What is later still is told by its size: see `_marked`.
        """
        until = time.monotonic() + _SETTLING
        while port.read(256) and time.monotonic() < until:
            pass
        self._late = False

    def _receive(self, servos: Sequence[int], size: int, seconds: float, found: dict[int, Packet]) -> None:
        """Add the replies that come within `seconds`; once one has come, until nothing more follows it."""
        missing, buffer, until = set(servos), b"", time.monotonic() + seconds
        with self._using() as port:
            while missing and time.monotonic() < until:
                came = port.read(max(1, len(missing) * (OVERHEAD + size) - len(buffer)))
                if not came and len(missing) < len(servos):
                    return
                buffer += came
                while True:
                    packet, used = first_packet(buffer, most=size)
                    buffer = buffer[used:]
                    if packet is None:
                        break
                    if packet.servo in missing and len(packet.data) == size:
                        found[packet.servo] = packet
                        missing.discard(packet.servo)

    @contextmanager
    def _using(self) -> Iterator[serial.Serial]:
        """The open port; what breaks it is a DeviceGoneError."""
        if self._serial is None:
            raise self._lost() if self._gone else DeviceError(f"The arm on {self.port} is not connected.")
        try:
            yield self._serial
        except _ERRORS as error:
            self._gone = plain(error, 120)
            self.close()
            raise self._lost() from None

    def _lost(self) -> DeviceGoneError:
        return DeviceGoneError(
            f"The bus on {self.port} is gone ({self._gone}).",
            expected="a USB cable that stays where it is; servos with power hold their last goal meanwhile",
            fix="Plug the cable in again, then start anew.",
        )

    def _not_opened(self, error: Exception) -> DeviceError:
        code = getattr(error, "errno", None)
        if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return missing_port(self.port)
        if code in (errno.EACCES, errno.EPERM):
            return refused_port(self.port)
        if code in (errno.EAGAIN, errno.EBUSY):
            owners = owners_of(self.port) or owners_of(self.port, serving=True)
            return busy_port(self.port, owners or ["this process"] * held_here(self.port))
        own = os.strerror(code) if code else plain(error, 120)
        return DeviceError(f"The port {plain(self.port, 200)} cannot be opened ({own}).", fix="Is it a serial port?")


def scan(bus: Bus, servos: Iterable[int] = range(1, 21), *, timeout: float = 0.02) -> dict[int, int]:
    """Which servos answer on an open bus, and their model numbers: id -> model."""
    there = [servo for servo in servos if bus.ping(servo, timeout=timeout) is not None]
    return {servo: MODEL_NUMBER.decode(bus.read(servo, MODEL_NUMBER, timeout=PATIENT).data) for servo in there}


def scan_port(port: str | Path, servos: Iterable[int] = range(1, 21)) -> dict[int, int]:
    """`scan` of a port that nobody has open; DeviceError when it cannot be opened."""
    bus = Bus(str(port))
    bus.open()
    try:
        return scan(bus, servos)
    finally:
        bus.close()
