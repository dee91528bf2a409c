"""`smolpilot robot move SETUP JOINT=VALUE ...` and `robot park SETUP`: motions through the governor."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.common.option_types import Flag, Part
from smolpilot.common.text import json_text

from ..parsing.outcome import exit_code_of
from ..parsing.tables import table
from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.runtime.drive import MoveReport
    from smolpilot.runtime.setup.robot_setup import RobotSetup


@dataclass(kw_only=True)
class MoveOptions:
    """Move joints to positions, slowly, through the governor; the others stay where they are.

    The arm is held where it stands before it moves, and holds its pose afterwards: torque stays on. Ctrl-C stops and
    holds; the emergency stop is the power switch.
    """

    setup: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SETUP")]
    """A setup: shipped (smolpilot robot list), or a YAML file."""
    targets: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="JOINT=VALUE ...")]
    """Where to, in the profile's unit of the joint."""
    speed: Part = 0.5
    """Share of the limits in force, above 0 and at most 1."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class ParkOptions:
    """Move the arm to the setup's start pose, through the governor; with --release, torque goes off there."""

    setup: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SETUP")]
    """A setup: shipped (smolpilot robot list), or a YAML file."""
    speed: Part = 0.5
    """Share of the limits in force, above 0 and at most 1."""
    release: Flag = False
    """Switch torque off where the arm has arrived: only in a pose that it keeps by itself, else it falls."""
    json: Flag = False
    """Print one JSON document."""


def run_move(options: MoveOptions) -> int:
    """Move; 1 when it was stopped on the way."""
    from smolpilot.runtime.moves import parse_targets
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    setup = RobotSetup.load(options.setup)
    targets = parse_targets(list(options.targets), setup.profile)
    return _drive(setup, targets, options.speed, release=False, as_json=bool(options.json))


def run_park(options: ParkOptions) -> int:
    """Move to the start pose; 1 when it was stopped on the way."""
    from smolpilot.common.errors import UsageError
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    setup = RobotSetup.load(options.setup)
    if not setup.start_pose:
        raise UsageError(
            f"The setup '{setup.name}' has no start pose.",
            expected="`start_pose: {JOINT: VALUE, ...}`",
            fix="move the arm by hand, read the joints with `smolpilot robot watch SETUP`, and write them there",
        )
    return _drive(setup, dict(setup.start_pose), options.speed, bool(options.release), as_json=bool(options.json))


def _drive(setup: RobotSetup, targets: dict[str, float], speed: float, release: bool, *, as_json: bool) -> int:
    """In a process of its own, so that somebody is left to say why it was killed."""
    from smolpilot.runtime.supervisor import supervised

    return supervised(lambda: exit_code_of(lambda: _moved(setup, targets, speed, release, as_json)))


def _moved(setup: RobotSetup, targets: dict[str, float], speed: float, release: bool, as_json: bool) -> int:
    from smolpilot.runtime.drive import move
    from smolpilot.runtime.opening import make_robot

    def begin(seconds: float) -> None:
        told = ", ".join(f"{name} to {value:g} {setup.profile.joint(name).unit}" for name, value in targets.items())
        print(f"{setup.name}: {told}; about {_time(seconds)}. Ctrl-C stops and holds.", file=sys.stderr)

    report = move(make_robot(setup, cameras=False), targets, share=speed, release=release, begin=begin)
    if as_json:
        print(json_text(report.document()))
    else:
        _print(report)
    return int(report.stop is not None)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.3g} minutes"


def _print(report: MoveReport) -> None:
    from smolpilot.common.terminal import Terminal

    numbers = ("from", "to", "commanded", "measured", "error", "clamped ticks")
    rows = table("joint", "unit", *numbers, numbers=numbers)
    for column in rows.columns:
        column.no_wrap = True
    for joint in report.joints:
        digits = 3 if joint.unit in ("rad", "m", "fraction") else 1
        measured = joint.measured
        rows.add_row(
            joint.joint,
            joint.unit,
            *(f"{value:.{digits}f}" for value in (joint.start, joint.target, joint.commanded)),
            "no answer" if measured is None else f"{measured:.{digits}f}",
            "" if measured is None else f"{measured - joint.commanded:+.{digits}f}",
            str(report.clamped.get(joint.joint, 0)),
        )
    console = Terminal()
    (console if console.is_terminal else Terminal(width=160)).print(rows)
    if report.stop is not None:
        console.print(f"Stopped: {report.stop}", style="red", soft_wrap=True)
    console.print(_state(report), soft_wrap=True)


def _state(report: MoveReport) -> str:
    if report.released:
        return "Arrived; torque is off."
    if report.stop is None and report.missed:
        names = ", ".join(report.missed)
        return f"The commands have arrived, {names} not quite (see error); torque is on, the servos hold this pose."
    if report.stop is None:
        return "Arrived; torque is on, the servos hold this pose."
    return "The servos hold their last goal. When you have looked at the arm, run the command again."


MOVE = Verb(MoveOptions, run_move)
PARK = Verb(ParkOptions, run_park)
