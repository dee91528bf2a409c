"""Calibration files of arms, as LeRobot writes them: which servo a joint has, and between which steps it moves.

LeRobot keeps one for each arm under its id (robots/robot.py, motors/motors_bus.py: MotorCalibration). They are read as
they are, and written in the same form.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import ProfileError, UsageError, did_you_mean, explain
from smolpilot.common.json_input import read_json_object
from smolpilot.common.text import plain, shown
from smolpilot.robots import Joint, RobotProfile
from smolpilot.runtime.drivers.feetech.registers import STEPS

MOST_OFFSET = 2047
"""Steps that a servo can shift its zero by."""
LAST_ID = 253
FOLLOWERS = ("robots/so_follower", "robots/so101_follower", "robots/so100_follower")
"""Where LeRobot keeps the calibrations of follower arms, its newest name first."""
LEADERS = ("teleoperators/so_leader", "teleoperators/so101_leader", "teleoperators/so100_leader")

_SCALE_STEPS = (1024, 3072)  # of an emulated gripper
_RECORD = "this reads LeRobot's form: {joint: {id, drive_mode, homing_offset, range_min, range_max}}"


@dataclass(frozen=True)
class JointCalibration:
    """One joint: its servo's id, and its range in steps. Keys and order are those of LeRobot's file.

    drive_mode: 1 turns the joint's own scale round. homing_offset: what the servo subtracts from where it really is.
    range_min, range_max: lowest and highest step. ValueError for what no servo can be set to.
    """

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int

    def __post_init__(self) -> None:
        for name, low, high in (
            ("id", 0, LAST_ID),
            ("drive_mode", 0, 1),
            ("homing_offset", -MOST_OFFSET, MOST_OFFSET),
            ("range_min", 0, STEPS - 1),
            ("range_max", 0, STEPS - 1),
        ):
            value = getattr(self, name)
            if type(value) is not int:
                raise ValueError(f"{name} is {shown(value)}, a {type(value).__name__}, and must be a whole number")
            if not low <= value <= high:
                raise ValueError(f"{name} is {shown(value)}, and must be {low} to {high}")
        if self.range_min >= self.range_max:
            raise ValueError(f"range_min {self.range_min} is not below range_max {self.range_max}")


type Calibration = Mapping[str, JointCalibration]
"""Joint as the profile has it -> its calibration, in the order of the profile's actions."""

_KEYS = [field.name for field in fields(JointCalibration)]


def read_calibration(path: Path, profile: RobotProfile, where: str | None = None) -> dict[str, JointCalibration]:
    """The calibration of every joint of a profile's actions, in their order.

    The file may call a joint by an alias of the profile. where: what messages call the file. UsageError for a file that
    is missing or no such JSON, a joint too many or too few, a value that no servo has, an id that two joints share.
    """
    where = plain(where or f"the calibration {path}")
    try:
        found = read_json_object(path)
    except OSError as error:
        refusal = explain(error)
        raise UsageError(f"{where}: {refusal.found}.", fix=refusal.fix) from None
    except ValueError as error:
        raise UsageError(f"{where} is no calibration: {plain(error, 300)}.", expected=_RECORD) from None
    joints = profile.action_joints
    _refuse_other_joints(found, joints, where)
    calibration = {}
    for joint in joints:
        name = next(name for name in (joint.name, *joint.aliases) if name in found)
        calibration[joint.name] = _entry(found[name], f"{where}: joint '{plain(name, 80)}'")
    owners: dict[int, str] = {}
    for name, entry in calibration.items():
        if (other := owners.setdefault(entry.id, name)) != name:
            raise UsageError(
                f"{where}: joints '{other}' and '{name}' both have servo {entry.id}.", expected="a servo for each joint"
            )
    return calibration


def _refuse_other_joints(found: Mapping[str, Any], joints: Sequence[Joint], where: str) -> None:
    """UsageError unless the file has each joint once, and no other."""
    known = {own: joint.name for joint in joints for own in (joint.name, *joint.aliases)}
    if missing := [j.name for j in joints if not any(name in found for name in (j.name, *j.aliases))]:
        raise UsageError(
            f"{where} lacks joint '{missing[0]}'.",
            expected=f"the joints of the profile: {', '.join(joint.name for joint in joints)}",
            fix=f"It has {', '.join(plain(name, 80) for name in list(found)[:12]) or 'none'}. Is it this arm's file?",
        )
    seen: dict[str, str] = {}
    for name in found:
        if name not in known:
            raise UsageError(
                f"{where} has joint '{plain(name, 80)}', which the profile does not know.",
                expected="the joints of the profile alone",
                fix=did_you_mean(name, [joint.name for joint in joints]),
            )
        if (other := seen.setdefault(known[name], name)) != name:
            raise UsageError(f"{where} has joint '{known[name]}' twice, as '{other}' and '{name}'.")


def _entry(values: Any, where: str) -> JointCalibration:
    if not isinstance(values, dict):
        raise UsageError(f"{where} is {shown(values)}.", expected=f"an object with {', '.join(_KEYS)}")
    if extra := [key for key in values if key not in _KEYS]:
        raise UsageError(f"{where} has the key '{plain(extra[0], 80)}'.", fix=did_you_mean(extra[0], _KEYS))
    if missing := [key for key in _KEYS if key not in values]:
        raise UsageError(f"{where} lacks '{missing[0]}'.", expected=", ".join(_KEYS))
    try:
        return JointCalibration(**values)
    except ValueError as error:
        raise UsageError(f"{where}: {error}.") from None


def calibration_text(calibration: Calibration) -> str:
    """The file, byte for byte as LeRobot writes it."""
    return json.dumps({name: asdict(entry) for name, entry in calibration.items()}, indent=4)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file, whole or not at all."""
    write_text_atomic(path, calibration_text(calibration))


def calibration_folder() -> Path:
    """Where LeRobot keeps its calibrations (utils/constants.py), by the same variables of the environment."""
    if own := os.environ.get("HF_LEROBOT_CALIBRATION"):
        return Path(own).expanduser()
    if home := os.environ.get("HF_LEROBOT_HOME"):
        return Path(home).expanduser() / "calibration"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = os.environ.get("HF_HOME") or str(Path(cache) / "huggingface")
    return Path(os.path.expandvars(hub)).expanduser() / "lerobot" / "calibration"


def find_calibration(name: str, folders: Sequence[str] = FOLLOWERS) -> Path:
    """The calibration file that a setup means: the path of a .json file, or the id of an arm in LeRobot's folder.

    folders: below `calibration_folder()`, FOLLOWERS or LEADERS; the first that has the id counts. UsageError for an id
    that is not there, which lists those that are.
    """
    if name.endswith(".json") or "/" in name or os.sep in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise UsageError(f"The calibration {plain(path)} does not exist or is no file.", fix="Check the path.")
        return path
    base = calibration_folder()
    for folder in folders:
        if (path := base / folder / f"{name}.json").is_file():
            return path
    there = sorted({path.stem for folder in folders for path in (base / folder).glob("*.json")})
    raise UsageError(
        f"There is no calibration of an arm '{plain(name, 80)}' in {base / folders[0]}.",
        expected="the id under which LeRobot calibrated the arm, or the path of its .json file",
        fix=did_you_mean(name, there) if there else "Calibrate the arm with LeRobot, or name the file.",
    )


def default_calibration(profile: RobotProfile) -> dict[str, JointCalibration]:
    """A calibration for an arm that nobody has built: servos 1, 2, ... in the order of the profile's actions.

    Angles have their zero at step 2048 and reach as far as the profile's limits, to the same step on both sides; the
    whole turn where it has none. Own scales go from step 1024 to 3072. ProfileError for a unit that no servo turns in.
    """
    made = {}
    for number, joint in enumerate(profile.action_joints, 1):
        low, high = _SCALE_STEPS if turn_of(joint) is None else _symmetric(joint)
        made[joint.name] = JointCalibration(number, 0, 0, low, high)
    return made


def turn_of(joint: Joint) -> float | None:
    """A whole turn in the joint's unit; None for a joint with its own scale. ProfileError for other units."""
    if joint.unit in ("deg", "rad"):
        return 360.0 if joint.unit == "deg" else 2 * math.pi
    if joint.full_scale is None:
        raise ProfileError(
            f"Joint '{joint.name}' is in '{joint.unit}' with limits {joint.position_limits}: a servo turns in no such "
            "unit.",
            expected="deg, rad, or a scale of the device such as normalized with the limits [0, 100] or [-100, 100]",
        )
    return None


def _symmetric(joint: Joint) -> tuple[int, int]:
    """The steps of an angle's limits round the middle of the turn."""
    if joint.position_limits is None:
        return 0, STEPS - 1
    reach = max(map(abs, joint.position_limits)) / (turn_of(joint) or 1.0)
    steps = min(math.ceil(reach * (STEPS - 1)), STEPS // 2 - 1)
    return STEPS // 2 - steps, STEPS // 2 + steps
