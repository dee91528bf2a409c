"""`smolpilot robots`: list, show and check robot profiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from smolpilot.common.errors import UsageError

from .options import parse

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


@dataclass
class RobotsOptions:
    """List the shipped robot profiles, show one, or check your own."""

    name: tyro.conf.Positional[str | None] = None
    """A shipped profile or the path of a YAML file to show; `check FILE` validates one."""
    file: tyro.conf.Positional[str | None] = None
    """The file for `check`."""
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON document instead of tables."""


def main(args: Sequence[str]) -> int:
    """Run the verb: `robots`, `robots NAME`, `robots check FILE`, each with `--json`."""
    from smolpilot.robots import RobotProfile, list_profiles

    options = parse(RobotsOptions, args, verb="robots")
    if options.name == "check":
        if options.file is None:
            raise UsageError("`smolpilot robots check` needs a file.", fix="smolpilot robots check my_robot.yaml")
        profile = RobotProfile.load(_as_path(options.file))
        if options.as_json:
            print(json.dumps({"file": options.file, "valid": True, "profile": profile.model_dump(mode="json")}))
        else:
            _show(profile)
            print(f"\n{options.file} is valid. Use it with --robot {options.file}")
        return 0
    if options.file is not None:
        raise UsageError(f"Unexpected argument '{options.file}'.", fix="smolpilot robots [NAME] or robots check FILE")
    if options.name is not None:
        profile = RobotProfile.load(options.name)
        if options.as_json:
            print(json.dumps(profile.model_dump(mode="json")))
        else:
            _show(profile)
        return 0
    profiles = [RobotProfile.load(name) for name in list_profiles()]
    if options.as_json:
        print(json.dumps([profile.model_dump(mode="json") for profile in profiles]))
    else:
        _list(profiles)
    return 0


def _as_path(file: str) -> str:
    """`check so101` means a file of that name, never the shipped profile."""
    return file if "/" in file else f"./{file}"


def _list(profiles: list[RobotProfile]) -> None:
    table = _table("robot", "state", "action", "units", "Hz", "cameras", "robot_type of recordings", "description")
    for p in profiles:
        units = ", ".join(dict.fromkeys(joint.unit for joint in p.joints))
        types = ", ".join(p.robot_types) or "none, by --robot only"
        numbers = (str(len(p.state_joints)), str(len(p.action_joints)))
        table.add_row(p.name, *numbers, units, f"{p.rate:g}", str(len(p.cameras)), types, p.description)
    _print(table)


def _show(profile: RobotProfile) -> None:
    print(f"{profile.name}: {profile.description}")
    print(f"{profile.rate:g} Hz; instruction: {profile.default_instruction or 'none given'}")
    if profile.robot_types:
        print(f"Taken for recordings of robot_type {', '.join(profile.robot_types)}")
    if profile.other_units is not None:
        print(f"The same robot in its other unit: {profile.other_units}")
    state, action = ([joint.name for joint in joints] for joints in (profile.state_joints, profile.action_joints))
    table = _table("#", "joint", "unit", "position limits", "max per s", "role")
    for i, joint in enumerate(profile.joints):
        limits = "unknown" if joint.position_limits is None else "{:g} .. {:g}".format(*joint.position_limits)
        speed = "unknown" if joint.velocity_limit is None else f"{joint.velocity_limit:g}"
        roles = [
            *(["gripper"] if joint.name in profile.gripper else []),
            *(["not read"] if joint.name not in state else []),
            *(["not commanded"] if joint.name not in action else []),
        ]
        table.add_row(str(i), joint.name, joint.unit, limits, speed, ", ".join(roles))
    _print(table)
    cameras = _table("camera", "width", "height", "role")
    for camera in profile.cameras:
        cameras.add_row(camera.name, str(camera.width), str(camera.height), camera.role)
    _print(cameras)
    aliases = [alias for joint in profile.joints for alias in joint.aliases]
    if aliases:
        print(f"Also accepted as joint names in a dataset: {', '.join(aliases)}; each also as NAME.pos")


def _table(*columns: str) -> Any:
    import rich.box
    from rich.table import Table

    table = Table(box=rich.box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, no_wrap=column not in ("description", "units", "robot_type of recordings"))
    return table


def _print(table: Any) -> None:
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    if not console.is_terminal:
        console = Terminal(width=160)  # a pipe or file has no width of its own
    console.print(table)
