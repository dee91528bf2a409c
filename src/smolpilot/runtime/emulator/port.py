"""Port: a pseudo-terminal with a thread behind it that answers packets."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

from smolpilot.common.errors import UsageError
from smolpilot.runtime.drivers.feetech.packets import Packet, first_packet

_TICK = 5  # ms after which time goes on though nobody has asked for anything
_SILENCE = 0.02  # seconds after which the rest of a packet is not waited for


class Port:
    """Open from the moment it is made until `close`. `path` is what a program opens as its serial port.

    answer: packet -> bytes. idle: called when nothing is heard, a few hundred times per second. failed: told of what
    either of them raises; the port is then gone for the host. delay: seconds to wait before the next answer is sent.
    """

    def __init__(
        self,
        answer: Callable[[Packet], bytes],
        idle: Callable[[], None],
        failed: Callable[[Exception], None],
        delay: Callable[[], float],
        *,
        link: Path | None = None,
    ) -> None:
        self._answer, self._idle, self._failed, self._delay, self._link = answer, idle, failed, delay, link
        # The slave stays open here too, or the master would report the end whenever a program closes the port.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._closed = threading.Event()
        self._closing = threading.Lock()
        try:
            self._make_link()
        except BaseException:
            self._close_files()
            raise
        self._thread = threading.Thread(target=self._run, name=f"emulated bus {self.path}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the port away: what the host has open fails from now on."""
        self._closed.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._close_files()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._failed(error)
            self._close_files()

    def _serve(self) -> None:
        buffer, heard = b"", 0.0
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        while not self._closed.is_set():
            if not poll.poll(_TICK):
                self._idle()
                if time.monotonic() - heard > _SILENCE:
                    buffer = b""
                continue
            buffer, heard = buffer + os.read(self._master, 4096), time.monotonic()
            packet: Packet | None
            while buffer:
                packet, used = first_packet(buffer)
                buffer = buffer[used:]
                if packet is None:
                    break
                self._send(self._answer(packet))

    def _send(self, reply: bytes) -> None:
        if reply and (delay := self._delay()) > 0 and self._closed.wait(delay):
            return
        # As on a wire: what nobody reads is lost, and nobody waits for it.
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, reply)

    def _make_link(self) -> None:
        if self._link is None:
            return
        if self._link.exists() and not self._link.is_symlink():
            raise UsageError(f"{self._link} is there already.", expected="the path of a link to be made")
        with contextlib.suppress(FileNotFoundError):
            self._link.unlink()
        self._link.symlink_to(self.path)

    def _close_files(self) -> None:
        with self._closing:
            if self._master < 0:
                return
            if self._link is not None and self._link.is_symlink() and str(self._link.readlink()) == self.path:
                self._link.unlink(missing_ok=True)
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
