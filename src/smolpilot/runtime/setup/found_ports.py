"""Which serial ports there are, what answers on them, and which calibrations LeRobot has kept on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smolpilot.common.errors import DeviceError

from ..calibration import FOLLOWERS, LEADERS, calibration_folder
from ..drivers.feetech import registers
from ..drivers.feetech.bus import PATIENT, Bus, scan
from ..drivers.feetech.ports import SerialPort, serial_ports
from ..drivers.feetech.servos import MODELS

_ARM = (1, 2, 3, 4, 5, 6)
"""Servos of an SO-100 or SO-101, follower or leader."""


@dataclass(frozen=True)
class FoundServo:
    """A servo that answers: its id, model, firmware as `3.10`, and the voltage that it measures."""

    id: int
    model: int
    name: str
    firmware: str
    voltage: float


@dataclass(frozen=True)
class FoundPort:
    """A serial port, and the servos that answer on it; `problem` and `fix` where none can be asked, or none answers."""

    device: str
    description: str
    servos: tuple[FoundServo, ...] = ()
    problem: str = ""
    fix: str = ""

    @property
    def looks_like(self) -> str:
        """What these servos are, where they are an arm that there is a profile for."""
        whole = tuple(servo.id for servo in self.servos) == _ARM
        return "SO-100 or SO-101" if whole and all(servo.model == registers.MODEL for servo in self.servos) else ""


def find_ports(more: Sequence[str] = ()) -> Iterator[FoundPort]:
    """Ask on the port of every USB adapter, and on `more`, which servos are there. Each is only asked who it is.

    A port that is named in `more` is asked once, whether it is a USB adapter's or not.
    """
    listed = [port for port in serial_ports() if port.device not in more]
    for port in (*(SerialPort(device, "named by --port") for device in more), *listed):
        yield _asked(port)


def known_calibrations() -> dict[str, list[str]]:
    """Ids of the arms that LeRobot has calibrated on this machine: `follower` and `leader` -> ids, sorted."""
    base = calibration_folder()
    found = {}
    for kind, folders in (("follower", FOLLOWERS), ("leader", LEADERS)):
        found[kind] = sorted({path.stem for folder in folders for path in (base / folder).glob("*.json")})
    return found


def _asked(port: SerialPort) -> FoundPort:
    bus = Bus(port.device)
    try:
        bus.open()
        servos = tuple(_servo(bus, servo, model) for servo, model in scan(bus).items())
    except DeviceError as error:
        return FoundPort(port.device, port.description, problem=error.found, fix=error.fix)
    finally:
        bus.close()
    if not servos:
        fix = "switch the arm's power on; on other baud rates than 1,000,000 servos are not found"
        return FoundPort(port.device, port.description, problem="No servo answers.", fix=fix)
    return FoundPort(port.device, port.description, servos)


def _servo(bus: Bus, servo: int, model: int) -> FoundServo:
    firmware = bus.read(servo, registers.FIRMWARE, timeout=PATIENT).data
    voltage = registers.PRESENT_VOLTAGE.decode(bus.read(servo, registers.PRESENT_VOLTAGE, timeout=PATIENT).data)
    name = MODELS.get(model, f"model {model}")
    return FoundServo(servo, model, name, f"{firmware[0]}.{firmware[1]}", round(voltage * registers.VOLTS, 1))
