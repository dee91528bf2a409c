"""`smolpilot robot check SETUP`: everything of an arm that can be seen without moving it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.common.option_types import Flag
from smolpilot.common.text import json_text

from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.robots.demonstrated import Demonstrated
    from smolpilot.runtime.inspection.check_report import CheckReport
    from smolpilot.runtime.setup.robot_setup import RobotSetup


@dataclass(kw_only=True)
class CheckOptions:
    """Check an arm without moving it: servos, calibration, read rate, cameras, and every limit in force.

    A line each, with a verdict and what to do. Torque stays as it is.
    """

    setup: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SETUP")]
    """A setup: shipped (smolpilot robot list), or a YAML file."""
    policy: str | None = None
    """A bundle, or a run folder with one: its demonstrations' limits are taken into account, as when it runs."""
    out: Path | None = None
    """PNG with an image of every camera. Without it: SETUP-cameras.png in this folder."""
    write_calibration: Flag = False
    """Write the setup's calibration to the servos first, where they differ; torque must be off."""
    json: Flag = False
    """Print one JSON document."""


def run(options: CheckOptions) -> int:
    """Print the report; 1 when something failed."""
    from smolpilot.common.atomic import write_bytes_atomic
    from smolpilot.common.progress import working
    from smolpilot.runtime.inspection.check_report import Verdict
    from smolpilot.runtime.inspection.contact_sheet import contact_sheet
    from smolpilot.runtime.inspection.look import look
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    setup = RobotSetup.load(options.setup)
    demonstrated = None if options.policy is None else _demonstrated(options.policy)
    if options.write_calibration:
        _write_calibration(setup)
    with working(f"looking at {setup.name}"):
        report, tiles = look(setup, demonstrated=demonstrated)
    sheet = options.out or Path(f"{setup.name}-cameras.png") if tiles else None
    if not options.json:  # also where the images cannot be written
        _print(report)
    if sheet is not None:
        write_bytes_atomic(sheet, contact_sheet(tiles, setup.name))
    if options.json:
        print(json_text({**report.document(), "contact_sheet": None if sheet is None else str(sheet)}))
    elif sheet is not None:
        print(f"Images of all cameras: {sheet}")
    return int(report.verdict is Verdict.FAIL)


def _demonstrated(policy: str) -> Demonstrated | None:
    """The limits that a policy keeps; says so on standard error where it keeps none."""
    from smolpilot.common.text import plain
    from smolpilot.robots.demonstrated import read_demonstrated
    from smolpilot.smolvla.checkpoint.locate import EXPORT, locate

    folder = Path(policy) if (Path(policy) / EXPORT).is_file() else locate(policy).folder
    found = read_demonstrated(folder)
    if found is None:
        print(f"{plain(policy, 200)} keeps no limits of its demonstrations: the setup's hold alone.", file=sys.stderr)
    return found


def _write_calibration(setup: RobotSetup) -> None:
    from smolpilot.common.errors import UsageError

    driver = setup.make_driver()
    write = getattr(driver, "write_calibration", None)
    if write is None:
        raise UsageError(f"The driver '{setup.driver.type}' keeps no calibration in its servos.")
    written = write()
    told = [f"{one.joint} (servo {one.servo}): {one.name} {one.found} -> {one.wanted}" for one in written]
    print(f"calibration written: {'; '.join(told) or 'nothing, the servos had it already'}", file=sys.stderr)


def _print(report: CheckReport) -> None:
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    styles = {"ok": "", "warn": "yellow", "fail": "red"}
    width = console.width if console.is_terminal else 120
    for verdict, line in report.text(width):
        console.print(line, style="bold" if verdict is None else styles[verdict], soft_wrap=True)


VERB = Verb(CheckOptions, run)
