"""`smolpilot robot find`: serial ports with the servos that answer on them, and LeRobot's calibrations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from smolpilot.common.option_types import Flag
from smolpilot.common.text import json_text

from ..parsing.tables import table
from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.runtime.setup.found_ports import FoundPort


@dataclass(kw_only=True)
class FindOptions:
    """List the serial ports of this machine with the servos that answer on them, and the arms that LeRobot calibrated.

    Each servo is only asked who it is; nothing moves and nothing is changed.
    """

    port: tuple[str, ...] = ()
    """Ask on these ports, too, such as an emulator's."""
    json: Flag = False
    """Print one JSON document."""


def run(options: FindOptions) -> int:
    """Print them; 1 where no servo answers on any port."""
    from smolpilot.common.progress import working
    from smolpilot.runtime.setup.found_ports import find_ports, known_calibrations

    with working("asking on each port"):
        found = list(find_ports(options.port))
    calibrations = known_calibrations()
    if options.json:
        ports = [{**asdict(port), "looks_like": port.looks_like} for port in found]
        print(json_text({"ports": ports, "calibrations": calibrations}))
    else:
        _print(found, calibrations)
    return 0 if any(port.servos for port in found) else 1


def _print(found: list[FoundPort], calibrations: dict[str, list[str]]) -> None:
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    if not found:
        console.print(
            "This machine has no serial port of a USB adapter. Is the arm's USB cable plugged in?", soft_wrap=True
        )
        console.print(
            "Without an arm: smolpilot robot emulate so101 --link arm; then ask with --port arm", soft_wrap=True
        )
    for port in found:
        looks_like = f", {port.looks_like}" if port.looks_like else ""
        console.print(f"{port.device}  {port.description}{looks_like}", soft_wrap=True)
        if port.problem:
            console.print(f"  {port.problem}", style="yellow", soft_wrap=True)
            console.print(f"  Fix: {port.fix}", soft_wrap=True)
        if port.servos:
            rows = table("id", "model", "firmware", "V", numbers=("id", "V"))
            for servo in port.servos:
                rows.add_row(str(servo.id), servo.name, servo.firmware, f"{servo.voltage:.1f}")
            console.print(rows)
    for kind, ids in calibrations.items():
        console.print(f"{kind} arms that LeRobot has calibrated here: {', '.join(ids) or 'none'}", soft_wrap=True)
    if good := next((port for port in found if port.looks_like), None):
        known = f" --calibration {calibrations['follower'][0]}" if calibrations["follower"] else ""
        console.print(
            "Next: smolpilot robot new my_arm.yaml --profile so101 --driver feetech "
            f"--port {good.device}{known}",
            soft_wrap=True,
        )  # fmt: skip


VERB = Verb(FindOptions, run)
