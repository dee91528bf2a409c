"""Serial ports: which there are, and what keeps one from being opened."""

from __future__ import annotations

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
    device, found = os.path.realpath(port), []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            opened = {str(entry.readlink()) for entry in (process / "fd").iterdir()}
            if device in opened and (serving or not opened & _MASTERS):
                found.append(f"{plain((process / 'comm').read_text().strip(), 40)} (process {process.name})")
        except OSError:  # it has ended, or is another user's
            continue
    return found if found and _is_terminal(device) else []


def _is_terminal(device: str) -> bool:
    """Whether it is a serial port or pseudo-terminal; everybody has /dev/null open."""
    try:
        file = os.open(device, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.isatty(file)
    finally:
        os.close(file)


_MASTERS = {"/dev/ptmx", "/dev/pts/ptmx"}
