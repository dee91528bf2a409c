"""`smolpilot robot check SETUP`: everything of an arm that can be seen without moving it."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.common.option_types import Flag, Pairs
from smolpilot.common.text import json_text

from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smolpilot.contracts import Driver
    from smolpilot.runtime.inspection.check_report import CheckLine, CheckReport
    from smolpilot.runtime.inspection.contact_sheet import SheetTile
    from smolpilot.runtime.robot_run.protocol import PolicyAbout
    from smolpilot.runtime.setup.robot_setup import RobotSetup

_OPENING_S = 900.0


@dataclass(kw_only=True)
class CheckOptions:
    """Check an arm without moving it: servos, calibration, read rate, cameras, and every limit in force.

    A line each, with a verdict and what to do. Torque stays as it is. With --policy also whether that policy goes with
    the arm, as `smolpilot run` asks before it begins; a dry run measures what a chunk takes.
    """

    setup: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SETUP")]
    """A setup: shipped (smolpilot robot list), or a YAML file."""
    policy: str | None = None
    """What `smolpilot run` can run: its joints, units, cameras, rate, instruction and start poses against this arm's,
    and its demonstrations' limits among those in force."""
    instruction: str | None = None
    """What the policy will be told to do; without it the one that it was trained with."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the robot fills which slot of the policy: NAME=SLOT; NAME=none leaves it out."""
    out: Path | None = None
    """PNG with an image of every camera. Without it: SETUP-cameras.png in this folder."""
    write_calibration: Flag = False
    """Write the setup's calibration to the servos first, where they differ; torque must be off."""
    json: Flag = False
    """Print one JSON document."""


def run(options: CheckOptions) -> int:
    """Print the report; 1 when something failed."""
    from smolpilot.common.atomic import write_bytes_atomic
    from smolpilot.common.errors import UsageError
    from smolpilot.common.progress import working
    from smolpilot.runtime.inspection.check_report import Verdict
    from smolpilot.runtime.inspection.contact_sheet import contact_sheet
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    setup = RobotSetup.load(options.setup)
    if options.policy is None and (options.instruction is not None or options.camera_map):
        raise UsageError("--instruction and --camera-map are about a policy.", fix="say --policy, or leave them out")
    if options.write_calibration:
        _write_calibration(setup)
    about = None
    if options.policy is not None:
        with working(f"opening {options.policy}"):
            about = _opened(setup, options)
    with working(f"looking at {setup.name}"):
        report, tiles = _look(setup, about, options.instruction)
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


def _opened(setup: RobotSetup, options: CheckOptions) -> PolicyAbout | CheckLine:
    """What the policy says of itself; a failed line where it cannot run here."""
    import tempfile

    from smolpilot.common.errors import SmolpilotError
    from smolpilot.runtime.inspection.look import failed_line
    from smolpilot.runtime.robot_run.policy_link import PolicyLink, open_request
    from smolpilot.runtime.robot_run.run_record import private_folder
    from smolpilot.smolvla.transforms.camera_slots import typed_camera_map

    assert options.policy is not None
    more = {"camera_map": dict(typed_camera_map(options.camera_map))}
    with private_folder() as folder, tempfile.TemporaryDirectory() as logs:
        link = PolicyLink(Path(logs) / "policy.log")
        try:
            return link.open(
                open_request(setup, options.policy, folder, options.instruction, more), patience=_OPENING_S
            )
        except SmolpilotError as error:
            return failed_line("policy", error)
        finally:
            link.close()


def _look(
    setup: RobotSetup, about: PolicyAbout | CheckLine | None, instruction: str | None
) -> tuple[CheckReport, list[SheetTile]]:
    from smolpilot.runtime.inspection.check_report import CheckLine, CheckReport
    from smolpilot.runtime.inspection.look import look

    if about is None:
        return look(setup)
    if isinstance(about, CheckLine):
        report, tiles = look(setup)
        return CheckReport.of(setup.name, [*report.lines, about]), tiles
    return look(
        setup, demonstrated=about.demonstrated, more=lambda driver: _policy_lines(setup, about, driver, instruction)
    )


def _policy_lines(setup: RobotSetup, about: PolicyAbout, driver: Driver, given: str | None) -> Iterator[CheckLine]:
    """The policy against the connected arm."""
    import numpy as np

    from smolpilot.common.errors import UsageError
    from smolpilot.runtime.inspection.check_report import CheckLine, Verdict
    from smolpilot.runtime.robot_run.preflight import choose_instruction, policy_lines, start_line

    kind = f" ({about.policy_kind})" if about.policy_kind else ""
    yield CheckLine("policy", Verdict.OK, f"{about.name}{kind}, chunks of {about.chunk_size} actions")
    for text in about.warnings:
        yield CheckLine("policy", Verdict.WARN, text)
    cameras = {name: device.options.spec(name) for name, device in setup.cameras.items()}  # type: ignore[attr-defined]
    instruction, unsaid = given, None
    try:
        instruction = choose_instruction(about, given)
    except UsageError as error:
        unsaid = CheckLine("instruction", Verdict.WARN, error.found.rstrip("."), error.fix)
    for line in policy_lines(about, setup.profile, cameras, instruction):
        yield _about_policy(unsaid if unsaid is not None and line.subject == "instruction" else line)
    measured = dict(zip(driver.joints, driver.read().position, strict=True))
    state = np.array([measured[joint.name] for joint in setup.profile.state_joints])
    yield _about_policy(start_line(about.demonstrated, setup.profile, state, refuse=False))


def _about_policy(line: CheckLine) -> CheckLine:
    """Told from the arm's own line on the same subject."""
    return dataclasses.replace(line, subject=f"policy {line.subject}")


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
