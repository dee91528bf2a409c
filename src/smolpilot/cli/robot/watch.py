"""`smolpilot robot watch SETUP`: the joints and the cameras' ages, live."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.common.option_types import Flag, PositiveSize
from smolpilot.common.text import json_text

from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.runtime.governed_robot import GovernedRobot


@dataclass(kw_only=True)
class WatchOptions:
    """Show every joint between its limits, its servo's temperature and load, and how old the cameras' images are.

    Nothing is commanded, and torque stays as it is: an arm without torque can be moved by hand meanwhile. Ctrl-C ends
    it. Without a terminal the table is printed once.
    """

    setup: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SETUP")]
    """A setup: shipped (smolpilot robot list), or a YAML file."""
    seconds: PositiveSize | None = None
    """End by itself after this time."""
    json: Flag = False
    """Print one reading as one JSON document."""


def run(options: WatchOptions) -> None:
    """Show it until it is ended."""
    from smolpilot.common.errors import UsageError
    from smolpilot.runtime.inspection.watching import document, frames
    from smolpilot.runtime.opening import make_robot
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    if options.seconds is not None and options.seconds <= 0:
        raise UsageError(f"--seconds is {options.seconds:g}.", expected="a time above 0")
    robot = make_robot(RobotSetup.load(options.setup))
    robot.open()
    try:
        if options.json:
            print(json_text(document(robot)))
        elif sys.stdout.isatty():
            _live(robot, options.seconds)
        else:
            from smolpilot.common.terminal import Terminal

            Terminal(width=160).print(next(frames(robot, 0.0)))
    finally:
        robot.disconnect()


def _live(robot: GovernedRobot, seconds: float | None) -> None:
    from rich.live import Live

    from smolpilot.common.terminal import Terminal, start
    from smolpilot.runtime.inspection.watching import frames

    live = Live(console=Terminal(), auto_refresh=False, transient=False)
    start(live)
    try:
        for table in frames(robot, seconds):
            live.update(table, refresh=True)
    except KeyboardInterrupt:
        pass  # how a person ends it
    finally:
        live.stop()


VERB = Verb(WatchOptions, run)
