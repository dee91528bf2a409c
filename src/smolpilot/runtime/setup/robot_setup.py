"""RobotSetup: one YAML file beside a robot profile that says how this arm is reached, and how far it may go."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pydantic
import yaml

from smolpilot.common.errors import ProfileError, SmolpilotError, UsageError, did_you_mean
from smolpilot.common.yaml_lines import Location, line_of, read_yaml
from smolpilot.contracts.camera import Camera
from smolpilot.contracts.driver import Driver
from smolpilot.contracts.registry import CAMERAS, ROBOTS, Registry
from smolpilot.robots import Joint, RobotProfile, list_profiles
from smolpilot.robots.profile_errors import find_problem
from smolpilot.robots.yaml_kinds import WORDS, kind_of, refuse_other_kind, setups_folder, shipped_setups

from ..governor.options import GovernorOptions
from ..limits import JointLimits, OperatingLimit, effective_limits
from .setup_file import EXPECTED, Device, SetupFile, device_class

type Clock = Callable[[], float]

_PATHS = {"device": "any", "model": "any", "port": "/", "calibration": "/"}
"""Options of devices that are paths relative to the setup's folder: all; or those with a slash in them, and a port that
lies there. Others are names, as COM3 and `my_arm`."""


@dataclass(frozen=True)
class DeviceSetup:
    """A driver or camera: its type, that type's checked options, and the class that makes it of them."""

    type: str
    options: pydantic.BaseModel
    kind: Any = field(repr=False)


@dataclass(frozen=True)
class RobotSetup:
    """A profile, and how one arm of it is reached: all values checked, paths absolute, joints in the profile's units.

    `name`: of the shipped setup, or the file's without its ending. `cameras`: those of the profile that this arm has.
    """

    name: str
    description: str
    profile: RobotProfile
    profile_source: str
    driver: DeviceSetup
    cameras: Mapping[str, DeviceSetup]
    operating_limits: Mapping[str, OperatingLimit]
    start_pose: Mapping[str, float]
    governor: GovernorOptions

    @property
    def missing_cameras(self) -> list[str]:
        """Cameras of the profile that this setup leaves out."""
        return [name for name in self.profile.camera_names if name not in self.cameras]

    def make_driver(self, *, clock: Clock = time.monotonic) -> Driver:
        """The driver, not yet connected."""
        return cast(Driver, self.driver.kind.from_options(self.profile, self.driver.options, clock=clock))

    def make_cameras(self, driver: Driver | None = None, *, clock: Clock = time.monotonic) -> dict[str, Camera]:
        """The cameras by name, not yet connected.

        driver: what they are used with; cameras of an environment whose device is open show what it moves.
        """
        found = {}
        for name, camera in self.cameras.items():
            found[name] = made = camera.kind.from_options(name, camera.options, clock=clock)
            frames = getattr(driver, "frames", None)
            if frames is not None and getattr(made, "frames", frames) is None:
                made.frames = frames
        return found

    def values(self) -> dict[str, Any]:
        """What the YAML of `to_yaml` holds: what was given, with absolute paths; defaults are left out."""
        values: dict[str, Any] = {"description": self.description} if self.description else {}
        values |= {"profile": self.profile_source, "driver": _given(self.driver)}
        parts: dict[str, Any] = {
            "cameras": {name: _given(camera) for name, camera in self.cameras.items()},
            "operating_limits": {
                name: limit.model_dump(mode="json", exclude_unset=True) for name, limit in self.operating_limits.items()
            },
            "start_pose": dict(self.start_pose),
            "governor": self.governor.model_dump(mode="json", exclude_unset=True),
        }
        return values | {name: part for name, part in parts.items() if part}

    def to_yaml(self) -> str:
        """The setup as YAML that reads back as an equal one, from any folder."""
        return yaml.safe_dump(self.values(), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)

    @classmethod
    def load(cls, name_or_path: str | Path) -> RobotSetup:
        """A shipped setup by name (`so101-emulated`) or one's own by path (`my_arm.yaml`)."""
        text = str(name_or_path)
        if isinstance(name_or_path, str) and text in list_setups():
            source = setups_folder().joinpath(f"{text}.yaml").read_text(encoding="utf-8")
            return cls.from_yaml(source, where=f"{text}.yaml", name=text)
        path = Path(text).expanduser()
        if not (path.suffix in (".yaml", ".yml") or "/" in text or path.is_file()):
            raise _unknown_setup(text)
        if not path.is_file():
            raise ProfileError(f"The robot setup {path} does not exist or is not a file.", fix="Check the path.")
        return cls.from_yaml(path, where=str(path))

    @classmethod
    def from_yaml(
        cls, source: str | Path, *, where: str = "the robot setup", name: str = "", folder: Path | None = None
    ) -> RobotSetup:
        """Read a setup, a text or a file; every defect is a ProfileError with `where`, line, key, found and expected.

        folder: that relative paths start from; that of a file is its own, a text without one keeps them.
        """
        if isinstance(source, Path):
            folder, name = folder or source.parent, name or source.stem
        form = "keys such as `profile:`, `driver:` and `cameras:`"
        values, lines = read_yaml(source, where, empty="robot setup", expected=form, error=ProfileError)
        refuse_other_kind(values, "setup", where)
        try:
            file = SetupFile.model_validate(values)
        except pydantic.ValidationError as error:
            raise find_problem(SetupFile, error, where, lines, expected=EXPECTED) from None
        return _Reader(where, lines, folder).read(file, name or "setup")


def limits_without_servos(
    profile: RobotProfile, operating_limits: Mapping[str, OperatingLimit]
) -> dict[str, JointLimits | None]:
    """The limits that would hold if calibration and demonstrations said nothing, by joint of the action.

    None for a joint whose position nothing bounds then.
    """
    found: dict[str, JointLimits | None] = {}
    for joint in profile.action_joints:
        alone = profile.model_copy(update={"joints": [joint], "state": None, "action": None})
        try:
            (found[joint.name],) = effective_limits(alone, {}, operating_limits).joints
        except UsageError:
            found[joint.name] = None
    return found


def list_setups() -> list[str]:
    """Names of the shipped setups, sorted."""
    return shipped_setups()


def is_setup(name_or_path: str) -> bool:
    """Whether it names a shipped setup, or a file that is one by its keys; false for what cannot be read."""
    if name_or_path in list_setups():
        return True
    path = Path(name_or_path).expanduser()
    if name_or_path in list_profiles() or not path.is_file():
        return False
    try:
        values, _ = read_yaml(path, str(path), empty="robot setup")
    except (UsageError, OSError):
        return False
    return kind_of(values) == "setup"


@dataclass(frozen=True)
class _Reader:
    """Checks what a file's values mean together; `where` and `lines` for the messages."""

    where: str
    lines: Mapping[Location, int]
    folder: Path | None

    def read(self, file: SetupFile, name: str) -> RobotSetup:
        source, profile = self._profile(file.profile)
        setup = RobotSetup(
            name=name,
            description=file.description,
            profile=profile,
            profile_source=source,
            driver=self._device(ROBOTS, "driver", file.driver, ("driver",)),
            cameras={
                camera: self._device(CAMERAS, "camera", device, ("cameras", camera))
                for camera, device in file.cameras.items()
                if self._known_camera(camera, profile)
            },
            operating_limits=file.operating_limits,
            start_pose=file.start_pose,
            governor=file.governor,
        )
        self._check_limits(setup)
        self._check_start_pose(setup)
        return setup

    def _problem(self, place: Location, found: str, *, expected: str = "", fix: str = "") -> ProfileError:
        return ProfileError(f"{self.where}{line_of(place, self.lines)}: {found}", expected=expected, fix=fix)

    def _profile(self, text: str) -> tuple[str, RobotProfile]:
        """The profile, and its name or absolute path."""
        looks_like_path = Path(text).suffix in (".yaml", ".yml") or "/" in text
        source = self._absolute(text) if looks_like_path and text not in list_profiles() else text
        try:
            return source, RobotProfile.load(source)
        except ProfileError as error:
            found = f"the profile cannot be used. {error.found}"
            raise self._problem(("profile",), found, expected=error.expected, fix=error.fix) from None

    def _known_camera(self, name: str, profile: RobotProfile) -> bool:
        if name in profile.camera_names:
            return True
        if not profile.cameras:
            fix = "leave `cameras` out, or name a profile that has them"
        else:
            fix = f"{did_you_mean(name, profile.camera_names)} In a profile of your own, cameras are your choice"
        raise self._problem(("cameras", name), f"the profile '{profile.name}' has no camera '{name}'.", fix=fix)

    def _device(self, registry: Registry, what: str, device: Device, place: Location) -> DeviceSetup:
        """Its options, checked by the model of its type."""
        try:
            kind, model = device_class(registry, device.type)
        except UsageError as error:
            if device.type not in (names := registry.names()):
                fix = did_you_mean(device.type, names)
                raise self._problem((*place, "type"), f"unknown {what} type '{device.type}'.", fix=fix) from None
            raise self._problem((*place, "type"), error.found, expected=error.expected, fix=error.fix) from None
        values = {key: self._resolved(key, value) for key, value in (device.model_extra or {}).items()}
        try:
            # As JSON, where a list may stand for a tuple and a text for a path: YAML has neither.
            options = model.model_validate_json(json.dumps(values, default=str))
        except TypeError:
            found = f"the options of {what} type '{device.type}' hold a key that is no text."
            raise self._problem(place, found, expected="keys and values as JSON has them") from None
        except pydantic.ValidationError as error:
            raise find_problem(model, error, self.where, self.lines, within=place, expected={}) from None
        return DeviceSetup(device.type, options, kind)

    def _resolved(self, key: str, value: Any) -> Any:
        rule = _PATHS.get(key)
        if not isinstance(value, str) or rule is None or "://" in value:
            return value
        is_path = rule == "any" or "/" in value or value.endswith(".json")
        lies_there = key == "port" and self.folder is not None and Path(self.folder, value).exists()
        return self._absolute(value) if is_path or lies_there else value

    def _absolute(self, text: str) -> str:
        path = Path(text).expanduser()
        return str(path if self.folder is None else Path(self.folder, path).absolute())

    def _joints(self, key: str, names: Sequence[str], profile: RobotProfile) -> Iterator[Joint]:
        """The joints of a mapping's keys; each must be one that is commanded, by the profile's own name."""
        commanded = [joint.name for joint in profile.action_joints]
        for name in names:
            joint, place = profile.find(name), (key, name)
            if joint is None:
                found = f"'{key}' names joint '{name}', which robot '{profile.name}' does not have."
                raise self._problem(place, found, fix=did_you_mean(name, commanded))
            if joint.name != name:
                found = f"'{key}' names joint '{name}', another name of '{joint.name}'."
                raise self._problem(place, found, fix=f"write '{joint.name}'")
            if name not in commanded:
                found = f"'{key}' names joint '{name}', which is only read: no command moves it."
                raise self._problem(place, found, expected=f"one of {', '.join(commanded)}")
            yield joint

    def _check_limits(self, setup: RobotSetup) -> None:
        for joint in self._joints("operating_limits", list(setup.operating_limits), setup.profile):
            own, known = setup.operating_limits[joint.name].position, joint.position_limits
            if own is not None and known is not None and max(own[0], known[0]) >= min(own[1], known[1]):
                raise self._problem(
                    ("operating_limits", joint.name, "position"),
                    f"position limits of joint '{joint.name}', {_span(own)}, have nothing in common with the "
                    f"profile's, {_span(known)} {joint.unit}.",
                    expected="limits within the profile's, in its unit",
                )

    def _check_start_pose(self, setup: RobotSetup) -> None:
        for joint in self._joints("start_pose", list(setup.start_pose), setup.profile):
            value = setup.start_pose[joint.name]
            own = setup.operating_limits.get(joint.name, OperatingLimit()).position
            for limits, whose in ((own, "the operating limits"), (joint.position_limits, "the profile's limits")):
                if limits is not None and not limits[0] <= value <= limits[1]:
                    raise self._problem(
                        ("start_pose", joint.name),
                        f"the start pose of joint '{joint.name}', {value:g}, lies outside {whose}.",
                        expected=f"{_span(limits)} {joint.unit}",
                    )


def _given(device: DeviceSetup) -> dict[str, Any]:
    return {"type": device.type, **device.options.model_dump(mode="json", exclude_unset=True)}


def _span(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} .. {limits[1]:g}"


def _unknown_setup(text: str) -> SmolpilotError:
    if text in list_profiles():
        return ProfileError(
            f"'{text}' is {WORDS['profile']}, not {WORDS['setup']}.",
            fix=f"make a setup for your arm: `smolpilot robot new FILE --profile {text}`. {_emulated(text)}".strip(),
        )
    return ProfileError(
        f"There is no robot setup '{text}'.",
        expected="the name of a shipped setup or the path of a .yaml file",
        fix=f"{did_you_mean(text, list_setups())} `smolpilot robot list` shows them.",
    )


def _emulated(profile: str) -> str:
    """What says which shipped setup is an emulated arm of the profile, where there is one."""
    name = "-".join((profile, "emulated"))
    return f"Without an arm: {name}" if name in list_setups() else ""
