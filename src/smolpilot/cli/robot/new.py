"""`smolpilot robot new FILE`: writes a robot setup, from options or from answers on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.common.option_types import Pairs

from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


@dataclass(kw_only=True)
class NewOptions:
    """Write a robot setup: which robot it is, and how this one is reached. Asks on a terminal for what is missing.

    The file explains each of its keys, and has the limits that hold by default as comments.
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The new YAML file; it must not exist."""
    profile: str | None = None
    """Robot profile: a shipped name (smolpilot robot list) or a YAML file."""
    driver: str | None = None
    """What reaches the arm: `feetech` for an SO-100 or SO-101, `emulated` for servos that are not there (smolpilot
    plugins lists them)."""
    port: str | None = None
    """Serial port of the arm; smolpilot robot find shows them."""
    calibration: str | None = None
    """The arm's calibration: the id under which LeRobot calibrated it, or the path of its .json file."""
    driver_options: Pairs = field(default_factory=dict)
    """Further options of the driver, as `plant=environment:tabletop`."""
    camera: Pairs = field(default_factory=dict)
    """Cameras of the profile, as `front=file:front.mp4` or `top=environment`; sizes and rate are the profile's."""
    start_pose: Pairs = field(default_factory=dict)
    """Where `smolpilot robot park` brings the joints, as `shoulder_lift=-90 elbow_flex=90`, in the profile's units."""


def run(options: NewOptions) -> None:
    """Ask for what is missing, write the file and say what comes next."""
    from smolpilot.common.atomic import refuse_existing
    from smolpilot.runtime.moves import parse_targets
    from smolpilot.runtime.setup.new_setup import SetupDraft, camera_entry, write_setup

    refuse_existing(options.out, "files")
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    profile = _profile(options.profile, asks)
    driver = {"type": _driver(options.driver, asks), **_values(options.driver_options)}
    driver |= {name: value for name in ("port", "calibration") if (value := getattr(options, name)) is not None}
    asked = _complete(driver, profile, asks)
    cameras = {name: camera_entry(profile, name, text) for name, text in options.camera.items()}
    if asked or (asks and options.driver is None):
        cameras |= _ask_cameras(profile, [name for name in profile.camera_names if name not in cameras])
    source = options.profile or profile.name
    start_pose = parse_targets([f"{name}={value}" for name, value in options.start_pose.items()], profile)
    setup, notes = write_setup(options.out, SetupDraft(source, driver, cameras, start_pose))
    print(f"{options.out}: {setup.profile.name} by driver {setup.driver.type}, {_cameras(list(setup.cameras))}")
    for note in notes:
        print(f"note: {note}")
    print(f"Next: smolpilot robot check {options.out}   (tries all of it, and moves nothing)")


def _profile(given: str | None, asks: bool) -> RobotProfile:
    from smolpilot.robots import RobotProfile, list_profiles

    if given is not None:
        return RobotProfile.load(given)
    if not asks:
        raise UsageError("--profile is not given.", expected=f"a YAML file, or one of {', '.join(list_profiles())}")
    print(f"Shipped profiles: {', '.join(list_profiles())}")
    return _ask("Robot profile (a name, or a YAML file)", RobotProfile.load)


def _driver(given: str | None, asks: bool) -> str:
    from smolpilot.contracts.registry import ROBOTS
    from smolpilot.runtime.setup.new_setup import needed_options

    def known(name: str) -> str:
        needed_options(name)
        return name

    if given is not None:
        return known(given)
    if not asks:
        raise UsageError("--driver is not given.", expected=f"one of {', '.join(ROBOTS.names())}")
    return _ask(f"Driver ({', '.join(ROBOTS.names())})", known)


def _complete(driver: dict[str, Any], profile: RobotProfile, asks: bool) -> bool:
    """Ask for the options that the driver needs; whether there was any to ask for. UsageError where nobody can be."""
    from smolpilot.runtime.calibration import find_calibration, read_calibration
    from smolpilot.runtime.setup.found_ports import find_ports, known_calibrations
    from smolpilot.runtime.setup.new_setup import needed_options, refuse_port

    missing = [name for name in needed_options(driver["type"]) if name not in driver]
    if missing and not asks:
        option = f"--{missing[0]}" if missing[0] in _WHAT else f"--driver-options {missing[0]}=VALUE"
        raise UsageError(
            f"The driver '{driver['type']}' needs {option}.",
            expected=_WHAT.get(missing[0], ""),
            fix="smolpilot robot new --help explains every option",
        )
    for name in missing:
        if name == "port":
            ports = list(find_ports())
            print(f"Ports of USB adapters: {'' if ports else 'none'}")
            for port in ports:
                print(f"  {port.device}  {port.description}: {port.looks_like or port.problem or 'servos answer'}")
        if name == "calibration":
            print(f"Arms that LeRobot has calibrated here: {', '.join(known_calibrations()['follower']) or 'none'}")

        def checked(text: str, name: str = name) -> str:
            if name == "calibration":
                read_calibration(find_calibration(text), profile)
            if name == "port":
                refuse_port(text)
            return text

        driver[name] = _ask(name.capitalize(), checked)
    return bool(missing)


def _ask_cameras(profile: RobotProfile, names: Sequence[str]) -> dict[str, Any]:
    from smolpilot.runtime.setup.new_setup import camera_entry, refuse_device

    found = {}
    for name in names:

        def entry(text: str, name: str = name) -> dict[str, Any]:
            camera = camera_entry(profile, name, text) if text else {}
            refuse_device(name, camera)
            return camera

        if answer := _ask(f"Camera '{name}' (as file:PATH; nothing leaves it out)", entry, empty=True):
            found[name] = answer
    return found


def _ask[T](question: str, read: Callable[[str], T], *, empty: bool = False) -> T:
    """Ask until there is an answer that can be read."""
    while True:
        try:
            text = input(f"{question}: ").strip()
        except EOFError:
            print()
            raise UsageError(f"No answer to: {question}.", fix="give it as an option") from None
        if not text and not empty:
            continue
        try:
            return read(text)
        except SmolpilotError as error:
            expected = f"Expected: {error.expected}." if error.expected else ""
            print("  " + " ".join(filter(None, (error.found, expected, error.fix))))


def _values(pairs: dict[str, str]) -> dict[str, Any]:
    """Values as YAML reads them: numbers, true and false, lists."""
    from smolpilot.common.yaml_lines import read_yaml

    found: dict[str, Any] = {}
    for name, text in pairs.items():
        if name == "type":
            raise UsageError("The driver's type is given twice.", fix="name it by --driver alone")
        where = f"--driver-options {name}"
        found |= read_yaml(f"{name}: {text}", where, empty="value", expected="a value as in YAML")[0]
    return found


def _cameras(names: list[str]) -> str:
    return f"cameras {', '.join(names)}" if names else "no cameras"


_WHAT = {
    "port": "a serial port; smolpilot robot find shows them",
    "calibration": "the id under which LeRobot calibrated the arm, or the path of its .json file",
}
"""What an option of its own is, for who did not give it."""

VERB = Verb(NewOptions, run)
