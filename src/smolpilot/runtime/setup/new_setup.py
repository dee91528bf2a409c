"""A new robot setup: checked against what is on this machine, and written with the reason for each key."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from smolpilot.common.atomic import refuse_existing, write_text_atomic
from smolpilot.common.errors import UsageError, did_you_mean, may
from smolpilot.common.text import plain
from smolpilot.contracts.registry import CAMERAS, ROBOTS
from smolpilot.robots import RobotProfile, list_profiles

from ..calibration import find_calibration, read_calibration
from ..drivers.feetech.ports import missing_port, refused_port, serial_ports
from ..governor.options import GovernorOptions
from ..limits import OperatingLimit
from .robot_setup import RobotSetup, limits_without_servos, list_setups
from .setup_file import device_class


@dataclass(frozen=True)
class SetupDraft:
    """What a person said of a new setup. `driver` and each of `cameras`: `type`, and that type's options; paths as they
    are from here."""

    profile: str
    driver: Mapping[str, Any]
    cameras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start_pose: Mapping[str, float] = field(default_factory=dict)


def camera_entry(profile: RobotProfile, name: str, text: str) -> dict[str, Any]:
    """A camera in its short form, `file:front.mp4` or `environment`, with the profile's size and rate; a video that is
    there has its own size, and no more images a second than it holds. DeviceError for a file that is no video."""
    type_, _, device = text.partition(":")
    known = next((camera for camera in profile.cameras if camera.name == name), None)
    if known is None:
        fix = did_you_mean(name, profile.camera_names) if profile.cameras else "the profile has none: leave it out"
        raise UsageError(f"The profile '{profile.name}' has no camera '{name}'.", fix=fix)
    if type_ not in (names := CAMERAS.names()):
        found = f"'{text}' begins with no camera type."
        raise UsageError(found, expected="TYPE:DEVICE, as file:front.mp4", fix=did_you_mean(type_, names))
    width, height, fps = known.width, known.height, profile.rate
    if type_ == "file" and (path := Path(device).expanduser()).is_file():
        from ..cameras.video_frames import video_format

        width, height, most = video_format(path)
        fps = min(fps, most)
    return {"type": type_, **({"device": device} if device else {}), "width": width, "height": height, "fps": fps}


def needed_options(driver: str) -> list[str]:
    """Options that a driver cannot do without; UsageError for an unknown driver."""
    if driver not in (names := ROBOTS.names()):
        raise UsageError(f"There is no driver '{plain(driver, 80)}'.", fix=did_you_mean(driver, names))
    return [name for name, info in device_class(ROBOTS, driver)[1].model_fields.items() if info.is_required()]


def write_setup(path: Path, draft: SetupDraft) -> tuple[RobotSetup, list[str]]:
    """Check the draft and write it to a new file: the setup as it reads back, and notes on what does not work yet.

    UsageError where the file exists, where the draft is no setup, and where a port, calibration or file that it names
    is not there.
    """
    refuse_existing(path, "files")
    profile = RobotProfile.load(draft.profile)
    notes = _look(draft, profile)
    text = setup_text(_placed(draft, path.absolute().parent), profile, path)
    setup = RobotSetup.from_yaml(text, where=str(path), name=path.stem, folder=path.absolute().parent)
    write_text_atomic(path, text)
    return setup, notes


def setup_text(draft: SetupDraft, profile: RobotProfile, path: Path) -> str:
    """The YAML of a draft, with comments; what has a default stands in it as a comment."""
    return "\n".join([*_head(draft, profile, path), *_cameras(draft, profile), *_motion(profile, draft.start_pose), ""])


def _look(draft: SetupDraft, profile: RobotProfile) -> list[str]:
    """Refuse what is not there; what is there but cannot be used yet is a note."""
    notes = []
    if isinstance(port := draft.driver.get("port"), str):
        refuse_port(port)
        if Path(port).exists() and not may(port, os.R_OK | os.W_OK):
            refused = refused_port(port)
            notes.append(f"{refused.found} Fix: {refused.fix}")
    if isinstance(calibration := draft.driver.get("calibration"), str):
        read_calibration(find_calibration(calibration), profile)
    for name, camera in draft.cameras.items():
        refuse_device(name, camera)
    return notes


def refuse_port(port: str) -> None:
    """UsageError for a port that is not there, and for a file or folder."""
    path = Path(port).expanduser()
    if not path.exists():
        if port in [known.device for known in serial_ports()]:
            return
        missing = missing_port(port)
        raise UsageError(missing.found, expected=missing.expected, fix=missing.fix)
    if not path.is_char_device():
        fix = "`smolpilot robot find` lists the ports and what answers on them"
        raise UsageError(f"{plain(port, 200)} is no serial port.", expected="a device, as /dev/ttyACM0", fix=fix)


def refuse_device(name: str, camera: Mapping[str, Any]) -> None:
    """UsageError for a camera whose device is not there."""
    device = camera.get("device")
    if isinstance(device, str) and "://" not in device and not Path(device).expanduser().exists():
        raise UsageError(f"The device of camera '{name}', {plain(device, 200)}, does not exist.", fix="check the path")


def _placed(draft: SetupDraft, folder: Path) -> SetupDraft:
    """The draft with paths as they are from the setup's folder."""

    def placed(text: str) -> str:
        full = Path(text).expanduser().absolute()
        return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)

    def moved(values: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(values)
        for key in ("device", "calibration", "port"):
            value = found.get(key)
            if isinstance(value, str) and _is_path(key, value):
                place = placed(value)
                # A port without a slash in it is a name, as COM3.
                found[key] = f"./{place}" if key == "port" and not place.startswith("/") else place
        return found

    profile = draft.profile if draft.profile in list_profiles() else placed(draft.profile)
    cameras = {name: moved(one) for name, one in draft.cameras.items()}
    return dataclasses.replace(draft, profile=profile, driver=moved(draft.driver), cameras=cameras)


def _is_path(key: str, value: str) -> bool:
    if "://" in value:
        return False
    return key == "device" or "/" in value or value.endswith(".json") or (key == "port" and Path(value).exists())


_WHY = {
    "type": "smolpilot plugins lists the drivers",
    "port": "smolpilot robot find shows the ports, and what answers on them",
    "calibration": "LeRobot's: the id that the arm was calibrated under, or the path of its .json file",
    "plant": "servo: motors alone; environment:NAME: a simulation moves with the joints",
}


def _head(draft: SetupDraft, profile: RobotProfile, path: Path) -> Iterator[str]:
    yield f"# Robot setup: how this {profile.name} is reached, and how far it may go."
    yield f"# smolpilot robot check {path} tries all of it, and moves nothing."
    yield "# Relative paths start from this file's folder."
    yield ""
    yield from _columns(
        [(f"profile: {_flow(draft.profile)}", f"joints, units, limits: smolpilot robot show {draft.profile}")]
    )
    yield ""
    yield "driver:"
    yield from _columns([(f"  {key}: {_flow(value)}", _WHY.get(key, "")) for key, value in draft.driver.items()])
    yield ""


def _cameras(draft: SetupDraft, profile: RobotProfile) -> Iterator[str]:
    missing = [name for name in profile.camera_names if name not in draft.cameras]
    if not profile.cameras:
        return
    yield from _comment("Camera of the profile -> the device that it is here; width and height in pixels.")
    yield "cameras:" if draft.cameras else "# cameras:"
    for name, camera in draft.cameras.items():
        yield f"  {_flow(name)}: {_flow(dict(camera))}"
    for name in missing:
        entry = camera_entry(profile, name, "file:PATH")
        yield f"  # {_flow(name)}: {_flow(entry)}" if draft.cameras else f"#   {_flow(name)}: {_flow(entry)}"
    yield ""


def _motion(profile: RobotProfile, start_pose: Mapping[str, float]) -> Iterator[str]:
    """The keys that say how far, how fast and where to, each as a comment with what holds without it."""
    units = ", ".join(dict.fromkeys(joint.unit for joint in profile.action_joints))
    yield from _comment(
        f"How far and how fast each joint may go, in the profile's units ({units}): position [lowest, highest], "
        "velocity per second, acceleration per second squared, tracking_error between command and measurement, "
        "torque as a share of what the motor can give. These hold without an entry here; slower demonstrations and "
        "a narrower calibration tighten them."
    )
    yield "# operating_limits:"
    for name, limit in _default_limits(profile).items():
        yield f"#   {_flow(name)}: {limit}"
    yield ""
    yield from _comment(
        "Where parking brings the joints; those that are not named stay where they are. Try it with care."
    )
    yield f"start_pose: {_flow(dict(start_pose))}" if start_pose else f"# start_pose: {_flow(_start_pose(profile))}"
    yield ""
    yield from _comment(
        "How old a reading of the joints and a camera's image may be, in seconds, before the arm stops."
    )
    options = GovernorOptions()
    yield f"# governor: {_flow({name: getattr(options, name) for name in ('max_state_age', 'max_image_age')})}"


def _default_limits(profile: RobotProfile) -> dict[str, str]:
    """Joint -> what holds for it without an entry, as YAML."""
    found = {}
    for name, one in limits_without_servos(profile, {}).items():
        if one is None:
            found[name] = "{position: [LOWEST, HIGHEST]}  # the profile knows none: the calibration's holds"
            continue
        limit = OperatingLimit(
            position=(one.low.value, one.high.value),
            velocity=_short(one.velocity.value),
            acceleration=_short(one.acceleration.value),
            tracking_error=_short(one.tracking.value),
            torque=None if one.torque is None else one.torque.value,
        )
        found[name] = _flow(limit.model_dump(mode="json", exclude_none=True))
    return found


def _start_pose(profile: RobotProfile) -> dict[str, float]:
    """That of the shipped setup with this profile; else zero, or what is nearest to it."""
    for name in list_setups():
        shipped = RobotSetup.load(name)
        if shipped.profile == profile and shipped.start_pose:
            return dict(shipped.start_pose)
    return {
        joint.name: 0.0
        if joint.position_limits is None
        else min(max(0.0, joint.position_limits[0]), joint.position_limits[1])
        for joint in profile.action_joints
    }


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
        .removesuffix("\n...\n")
        .strip()
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 110, break_on_hyphens=False)]


def _columns(rows: list[tuple[str, str]]) -> Iterator[str]:
    """Lines whose comments stand below each other."""
    width = max(len(line) for line, _ in rows)
    for line, why in rows:
        yield f"{line:<{width}}  # {why}" if why else line
