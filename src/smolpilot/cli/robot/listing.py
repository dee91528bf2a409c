"""`smolpilot robot list`, `show NAME` and `profile check FILE`: robot profiles and setups as files say them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from smolpilot.common.option_types import Flag
from smolpilot.common.text import json_text

from ..parsing.tables import table
from ..parsing.verbs import Verb

if TYPE_CHECKING:
    from rich.table import Table

    from smolpilot.robots import RobotProfile
    from smolpilot.runtime.limits import Bound
    from smolpilot.runtime.setup.robot_setup import DeviceSetup, RobotSetup


@dataclass(kw_only=True)
class ListOptions:
    """List the shipped robot profiles (what a robot is) and setups (how one arm is reached)."""

    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class ShowOptions:
    """Show a robot profile (joints in order, units, limits, cameras) or a setup (driver, cameras, limits)."""

    name: tyro.conf.Positional[str]
    """A shipped profile or setup (smolpilot robot list), or a YAML file of either kind."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(kw_only=True)
class CheckOptions:
    """Validate a robot profile of your own, and show it."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """The YAML file."""
    json: Flag = False
    """Print one JSON document."""


def list_robots(options: ListOptions) -> None:
    """Print every shipped profile and setup."""
    from smolpilot import robots
    from smolpilot.runtime.setup.robot_setup import RobotSetup, list_setups

    profiles = [robots.RobotProfile.load(name) for name in robots.list_profiles()]
    setups = [RobotSetup.load(name) for name in list_setups()]
    if options.json:
        print(
            json_text(
                {
                    "profiles": [profile.model_dump(mode="json") for profile in profiles],
                    "setups": [{"name": setup.name, **setup.values()} for setup in setups],
                }
            )
        )
        return
    _list(profiles)
    rows = table("setup", "profile", "driver", "cameras", "description")
    for setup in setups:
        cameras = ", ".join(setup.cameras) or "none"
        rows.add_row(setup.name, setup.profile.name, setup.driver.type, cameras, setup.description)
    _print(rows)
    print("A setup for an arm of your own: smolpilot robot new FILE")


def show(options: ShowOptions) -> None:
    """Print one profile or setup."""
    from smolpilot.robots import RobotProfile
    from smolpilot.runtime.setup.robot_setup import RobotSetup, is_setup

    if is_setup(options.name):
        setup = RobotSetup.load(options.name)
        if options.json:
            print(json_text(setup.values()))
        else:
            _show_setup(setup)
        return
    profile = RobotProfile.load(options.name)
    if options.json:
        print(json_text(profile.model_dump(mode="json")))
    else:
        _show(profile)


def check(options: CheckOptions) -> None:
    """Read a file as a profile; ProfileError says what is wrong."""
    from smolpilot.robots import RobotProfile

    # `so101` means a file of that name here, never the shipped profile.
    profile = RobotProfile.load(options.file if "/" in options.file else f"./{options.file}")
    if options.json:
        print(json_text({"file": options.file, "valid": True, "profile": profile.model_dump(mode="json")}))
    else:
        _show(profile)
        print(f"\n{options.file} is valid. Use it with --robot {options.file}")


def _list(profiles: list[RobotProfile]) -> None:
    numbers = ("state", "action", "Hz", "cameras")
    rows = table("robot", "state", "action", "units", "Hz", "cameras", "robot_type", "description", numbers=numbers)
    for p in profiles:
        units = ", ".join(dict.fromkeys(joint.unit for joint in p.joints))
        types = ", ".join(p.robot_types) or "none, by --robot only"
        counts = (str(len(p.state_joints)), str(len(p.action_joints)))
        rows.add_row(p.name, *counts, units, f"{p.rate:g}", str(len(p.cameras)), types, p.description)
    _print(rows)


def _show(profile: RobotProfile) -> None:
    print(f"{profile.name}: {profile.description}")
    print(f"{profile.rate:g} Hz; instruction: {profile.default_instruction or 'none given'}")
    if profile.robot_types:
        print(f"Used for datasets of robot_type {', '.join(profile.robot_types)}")
    if profile.other_units is not None:
        print(f"The same robot in its other unit: {profile.other_units}")
    state, action = ([joint.name for joint in joints] for joints in (profile.state_joints, profile.action_joints))
    joints = table("#", "joint", "unit", "position limits", "max per s", "role")
    for i, joint in enumerate(profile.joints):
        limits = "unknown" if joint.position_limits is None else "{:g} .. {:g}".format(*joint.position_limits)
        speed = "unknown" if joint.velocity_limit is None else f"{joint.velocity_limit:g}"
        roles = [
            *(["gripper"] if joint.name in profile.gripper else []),
            *(["not read"] if joint.name not in state else []),
            *(["not commanded"] if joint.name not in action else []),
        ]
        joints.add_row(str(i), joint.name, joint.unit, limits, speed, ", ".join(roles))
    _print(joints)
    cameras = table("camera", "width", "height", "role", numbers=("width", "height"))
    for camera in profile.cameras:
        cameras.add_row(camera.name, str(camera.width), str(camera.height), camera.role)
    _print(cameras)
    aliases = [alias for joint in profile.joints for alias in joint.aliases]
    if aliases:
        print(f"Also accepted as joint names in a dataset: {', '.join(aliases)}; each also as NAME.pos")


def _show_setup(setup: RobotSetup) -> None:
    from smolpilot.runtime.setup.robot_setup import limits_without_servos

    print(f"{setup.name}: {setup.description or 'a robot setup'}")
    print(f"profile: {setup.profile_source} ({setup.profile.description})")
    devices = table("device", "type", "options")
    devices.add_row("driver", setup.driver.type, _options(setup.driver))
    for name, camera in setup.cameras.items():
        devices.add_row(f"camera {name}", camera.type, _options(camera))
    _print(devices)
    if setup.missing_cameras:
        print(f"Cameras of the profile that this setup leaves out: {', '.join(setup.missing_cameras)}")
    joints = table("joint", "unit", "position", "velocity", "acceleration", "tracking error", "torque", "start pose")
    for name, limits in limits_without_servos(setup.profile, setup.operating_limits).items():
        unit = setup.profile.joint(name).unit
        start = f"{setup.start_pose[name]:g}" if name in setup.start_pose else ""
        if limits is None:
            joints.add_row(name, unit, "unknown", "", "", "", "", start)
            continue
        cells = [_bound(one) for one in (limits.velocity, limits.acceleration, limits.tracking, limits.torque)]
        joints.add_row(name, unit, f"{_bound(limits.low)} .. {_bound(limits.high)}", *cells, start)
    _print(joints)
    print("Calibration and demonstrations narrow these; smolpilot robot check shows what is in force at the arm.")
    if changed := setup.values().get("governor"):
        print(f"governor: {', '.join(f'{name} {value:g}' for name, value in changed.items())}")


def _bound(bound: Bound | None) -> str:
    return "" if bound is None else f"{bound.value:.4g} {bound.origin.split()[0]}"


def _options(device: DeviceSetup) -> str:
    values = device.options.model_dump(mode="json", exclude_unset=True)
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _print(rows: Table) -> None:
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    # A pipe or file has no width of its own.
    (console if console.is_terminal else Terminal(width=160)).print(rows)


LIST = Verb(ListOptions, list_robots)
SHOW = Verb(ShowOptions, show)
CHECK = Verb(CheckOptions, check)
