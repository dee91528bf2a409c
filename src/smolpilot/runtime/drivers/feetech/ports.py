"""Serial ports: which there are, and what keeps one from being opened."""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smolpilot.common.errors import DeviceError
from smolpilot.common.text import plain


@dataclass(frozen=True)
class SerialPort:
    """A serial port of this machine. description: what its adapter says of itself."""

    device: str
    description: str


def serial_ports() -> list[SerialPort]:
    """The serial ports of USB adapters, by name."""
    from serial.tools import list_ports

    found = [port for port in list_ports.comports() if port.vid is not None or "usb" in port.device.lower()]
    return sorted((SerialPort(p.device, plain(p.description, 80)) for p in found), key=lambda port: port.device)


def missing_port(port: str) -> DeviceError:
    there = ", ".join(known.device for known in serial_ports())
    return DeviceError(
        f"There is no port {plain(port, 200)}.",
        expected=f"one of {there}" if there else "a serial port; this machine has none of a USB adapter",
        fix="Plug the arm's USB cable in; `smolpilot robot find` lists the ports and what answers on them.",
    )


def refused_port(port: str) -> DeviceError:
    group = _group(port)
    return DeviceError(
        f"No permission to open {plain(port, 200)}.",
        expected=f"a member of the group {group}" if group else "",
        fix=f"sudo usermod -aG {group or 'dialout'} {getpass.getuser()}, then log in again.",
    )


def busy_port(port: str, owners: Sequence[str] = ()) -> DeviceError:
    """Two programs on one bus would take each other's replies, and each would move the arm."""
    return DeviceError(
        f"{plain(port, 200)} is in use{' by ' + ', '.join(owners) if owners else ''}.",
        expected="one program for each arm",
        fix="End the other program first.",
    )


def _group(port: str) -> str:
    try:
        import grp

        return grp.getgrgid(Path(port).stat().st_gid).gr_name
    except (ImportError, OSError, KeyError):
        return ""


def owners_of(port: str, *, serving: bool = False) -> list[str]:
    """Other programs that have the port open, as far as this user may know: `python (process 123)`.

    Programs that lock no port, as LeRobot, are among them. With `serving` also the one
    that serves a pseudo-terminal, which is the arm itself.
    """
    device, found = _identity(port), []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        opened = _opened(process)
        if any(_identity(entry) == device for entry in opened) and (serving or not _MASTERS & set(opened.values())):
            with contextlib.suppress(OSError):  # it has ended
                found.append(f"{plain((process / 'comm').read_text().strip(), 40)} (process {process.name})")
    return found if found and _is_terminal(port) else []  # everybody has /dev/null open


def held_here(port: str) -> bool:
    """Whether this process itself has the port open."""
    device = _identity(port)
    return device is not None and any(_identity(entry) == device for entry in _opened(Path("/proc/self")))


def _opened(process: Path) -> dict[Path, str]:
    """What a process has open of /dev: entry of /proc -> path, as that process sees it."""
    found = {}
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for entry in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found[entry] = str(entry.readlink())
    return {entry: path for entry, path in found.items() if path.startswith("/dev/")}


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Equal for two paths of one device. The path alone is not enough: each container has a /dev/pts/0 of its own,
    and may give a serial port another name.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return None
    pseudo_terminal = 136 <= os.major(status.st_rdev) <= 143
    return status.st_rdev, status.st_dev if pseudo_terminal else 0


def _is_terminal(device: str) -> bool:
    """Whether it is a serial port or pseudo-terminal."""
    try:
        file = os.open(device, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        return error.errno == errno.EBUSY  # what only terminals say, to keep others out
    try:
        return os.isatty(file)
    finally:
        os.close(file)


_MASTERS = {"/dev/ptmx", "/dev/pts/ptmx"}
