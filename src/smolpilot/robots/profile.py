"""RobotProfile: joints in order with units and limits, gripper, cameras, rate; read from YAML and checked strictly."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import pydantic
import yaml

from smolpilot.common.errors import ProfileError, did_you_mean
from smolpilot.common.yaml_lines import Location, read_yaml

from .profile_errors import find_problem
from .units import FACTORS, SCALES, SPELLINGS, Unit
from .yaml_kinds import refuse_other_kind, refuse_setup_name

CameraRole = Literal["front", "top", "side", "wrist", "left_wrist", "right_wrist", "head", "other"]


def _known(value: Any) -> Any:
    """YAML's `unknown` is None here, and a YAML list of limits a tuple."""
    if value == "unknown":
        return None
    return tuple(value) if isinstance(value, list) else value


def _spelled(value: Any) -> Any:
    """A unit as it is spelled now: older profiles and bundles say `normalised`."""
    return SPELLINGS.get(value, value) if isinstance(value, str) else value


_Unit = Annotated[Unit, pydantic.BeforeValidator(_spelled)]
_Unknown = Literal["unknown"]
_PositionLimits = Annotated[
    tuple[float, float] | None, pydantic.BeforeValidator(_known, json_schema_input_type=tuple[float, float] | _Unknown)
]
_VelocityLimit = Annotated[float | None, pydantic.BeforeValidator(_known, json_schema_input_type=float | _Unknown)]
_Name = Annotated[str, pydantic.Field(min_length=1, max_length=1_000)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


_SLOWEST = 1e-9  # units per second


class Joint(_Strict):
    """One entry of the state or action vector.

    `position_limits` in `unit`, `velocity_limit` in `unit` per second; None (YAML: `unknown`) where nobody knows.
    `normalized` (in older files `normalised`) is a device's own scale (a gripper of 0..1, 0..100, ...): the limits say
    which.
    `unknown` is for profiles derived from a dataset, which carries no units. `aliases` are other names of the joint in
    datasets; LeRobot's `NAME.pos` needs none.
    """

    name: _Name
    unit: _Unit
    position_limits: _PositionLimits
    velocity_limit: _VelocityLimit
    aliases: list[_Name] = []

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Joint:
        if self.position_limits is not None and self.position_limits[0] >= self.position_limits[1]:
            low, high = self.position_limits
            raise ValueError(f"position_limits of joint '{self.name}': minimum {low} is not below maximum {high}")
        # What is not above the rounding of a position stands for no motion at all.
        if self.velocity_limit is not None and self.velocity_limit < _SLOWEST:
            raise ValueError(f"velocity_limit of joint '{self.name}' must be above 0, found {self.velocity_limit}")
        return self

    @property
    def full_scale(self) -> float | None:
        """The end of the joint's own scale: 1, 100 or 255; None where neither its unit nor its limits say one."""
        if self.unit in SCALES:
            return SCALES[self.unit]
        if self.unit != "normalized" or self.position_limits is None:
            return None
        low, high = self.position_limits
        return high if high in SCALES.values() and low in (0.0, -high) else None

    def factor_from(self, unit: str) -> float | None:
        """What turns a value in `unit` into the joint's own unit; None where no factor does.

        Degrees into the normalized -100..100 of a servo bus have none: that scale depends on each arm's calibration.
        """
        if unit == self.unit or "unknown" in (unit, self.unit):
            return 1.0
        if unit in SCALES:
            end = self.full_scale
            return None if end is None else end / SCALES[unit]
        if unit == "normalized" and self.unit in SCALES:
            return 1.0  # the device's own scale, whatever it is called
        return FACTORS.get((unit, self.unit))


class CameraProfile(_Strict):
    """One camera: its name in the dataset (`observation.images.<name>`), its image in pixels, where it looks from."""

    name: _Name
    width: Annotated[int, pydantic.Field(gt=0, le=65_536)]
    height: Annotated[int, pydantic.Field(gt=0, le=65_536)]
    role: CameraRole = "other"


_DERIVED = "derived from a dataset: units and limits unknown"


class _Sized(Protocol):
    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...


class RobotProfile(_Strict):
    """What a robot is: `joints` in order, `gripper` (names of joints), `cameras`, `rate` in Hz.

    `state` and `action` name the joints that are read and commanded, in the order of the vectors; None means all.
    `robot_types` are the names under which datasets mean this robot (`robot_type` in LeRobot's meta/info.json).
    `other_units` names the profile of the same robot in the other unit that its datasets may hold.
    """

    name: _Name
    description: str
    robot_types: list[_Name] = []
    other_units: _Name | None = None
    rate: Annotated[float, pydantic.Field(gt=0, lt=1e6)]
    joints: Annotated[list[Joint], pydantic.Field(min_length=1)]
    gripper: list[str] = []
    cameras: list[CameraProfile] = []
    default_instruction: str | None = None
    state: list[str] | None = None
    action: list[str] | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RobotProfile:
        names: set[str] = set()
        for joint in self.joints:
            for name in (joint.name, *joint.aliases):
                if name in names:
                    raise ValueError(f"joint name or alias '{name}' is used twice (see joint '{joint.name}')")
                names.add(name)
        _refuse_duplicates("camera", [camera.name for camera in self.cameras])
        for key in ("gripper", "state", "action"):
            listed = getattr(self, key) or []
            _refuse_duplicates(f"{key} joint", listed)
            for name in listed:
                if name not in (known := [joint.name for joint in self.joints]):
                    raise ValueError(f"'{key}' names joint '{name}', which is not among the joints. "
                                     f"{did_you_mean(name, known)}")  # fmt: skip
        if self.state == [] or self.action == []:
            raise ValueError("'state' and 'action' must name at least one joint (leave the key out for all joints)")
        return self

    @property
    def state_joints(self) -> list[Joint]:
        """The joints of `observation.state`, in order [S]."""
        return self.joints if self.state is None else [self.joint(name) for name in self.state]

    @property
    def action_joints(self) -> list[Joint]:
        """The joints of `action`, in order [A]."""
        return self.joints if self.action is None else [self.joint(name) for name in self.action]

    @property
    def is_derived(self) -> bool:
        """Whether it was made from a dataset (`from_features`): nobody wrote or chose it."""
        return self.description == _DERIVED

    @property
    def camera_names(self) -> list[str]:
        return [camera.name for camera in self.cameras]

    def find(self, name: str) -> Joint | None:
        """The joint of that name or alias, with or without LeRobot's `.pos`; None when there is none."""
        known = {own: joint for joint in self.joints for own in (joint.name, *joint.aliases)}
        return next((known[spelling] for spelling in spellings(name) if spelling in known), None)

    def joint(self, name: str) -> Joint:
        """The joint of that name or alias; an unknown one is a ProfileError that proposes the nearest."""
        if (joint := self.find(name)) is not None:
            return joint
        names = [joint.name for joint in self.joints]
        raise ProfileError(f"Robot '{self.name}' has no joint '{name}'.", fix=did_you_mean(name, names))

    def to_yaml(self) -> str:
        """The profile as YAML that `load` reads back as an equal one; unknown limits are written `unknown`."""
        values = self.model_dump(mode="json", exclude_none=False)
        for joint in values["joints"]:
            joint["position_limits"] = joint["position_limits"] or "unknown"
            joint["velocity_limit"] = "unknown" if joint["velocity_limit"] is None else joint["velocity_limit"]
        values = {key: value for key, value in values.items() if value is not None or key == "default_instruction"}
        if not self.robot_types:
            del values["robot_types"]
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)

    @classmethod
    def from_yaml(cls, source: str | Path, *, where: str = "the robot profile") -> RobotProfile:
        """Read a profile, a text or a file; every defect is a ProfileError naming `where`, line, key, what was found
        and expected."""
        form = "keys such as `name:`, `rate:` and `joints:`"
        values, lines = read_yaml(source, where, empty="robot profile", expected=form, error=ProfileError)
        refuse_other_kind(values, "profile", where)
        return cls.from_values(values, where=where, lines=lines)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, where: str, lines: Mapping[Location, int]) -> RobotProfile:
        """Check the values of a YAML file that has them among others; lines: where each stands."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise find_problem(cls, error, where, lines) from None

    @classmethod
    def load(cls, name_or_path: str | Path) -> RobotProfile:
        """A shipped profile by name (`so101`) or one's own by path (`my_arm.yaml`)."""
        text = str(name_or_path)
        if isinstance(name_or_path, str) and name_or_path in list_profiles():
            shipped = _folder().joinpath(f"{name_or_path}.yaml")
            return cls.from_yaml(shipped.read_text(encoding="utf-8"), where=f"{name_or_path}.yaml")
        path = Path(text).expanduser()
        looks_like_path = path.suffix in (".yaml", ".yml") or "/" in text or path.is_file()
        if not looks_like_path:
            refuse_setup_name(text)
            raise ProfileError(
                f"There is no robot profile '{text}'.",
                expected="the name of a shipped profile or the path of a .yaml file",
                fix=f"{_nearest_profile(text)} `smolpilot robot list` shows them.",
            )
        if not path.is_file():
            raise ProfileError(f"The robot profile {path} does not exist or is not a file.", fix="Check the path.")
        return cls.from_yaml(path, where=str(path))

    @classmethod
    def from_features(
        cls,
        names: Sequence[str],
        cameras: Mapping[str, _Sized],
        fps: float,
        *,
        action_names: Sequence[str] | None = None,
        name: str = "derived",
    ) -> RobotProfile:
        """A profile for a dataset whose robot has none: its names and cameras; units and limits unknown.

        `names` of the state [S], `action_names` of the action [A] (None: the same). Unit `unknown` means that numbers
        pass unconverted and metrics are in "the dataset's units".
        """
        actions = list(names if action_names is None else action_names)
        try:
            _refuse_duplicates("observation.state", names)
            _refuse_duplicates("action", actions)
        except ValueError as error:
            raise ProfileError(
                f"The joint names of the dataset are not unique: {error}.",
                fix="`smolpilot dataset repair SRC DST` numbers equal names in a copy",
            ) from None
        every = list(dict.fromkeys([*names, *actions]))
        unknown: dict[str, Any] = {"unit": "unknown", "position_limits": None, "velocity_limit": None}
        values = {
            "name": name,
            "description": _DERIVED,
            "rate": fps,
            "joints": [{"name": n, **unknown} for n in every],
            "gripper": [n for n in every if "gripper" in n.lower() or "claw" in n.lower()],
            "cameras": [
                {"name": n, "width": c.width, "height": c.height, "role": guess_role(n)} for n, c in cameras.items()
            ],
            "state": None if list(names) == every else list(names),
            "action": None if actions == every else actions,
        }
        return cls.from_values(values, where="the robot profile made of the dataset", lines={})


def list_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def is_shipped(profile: RobotProfile) -> bool:
    """Whether a profile is one of the shipped ones, unchanged."""
    return profile.name in list_profiles() and RobotProfile.load(profile.name) == profile


def plain_type(robot_type: str | None) -> str:
    """A robot's name or type as it is compared: without case and separators (`SO-101` is `so101`)."""
    return re.sub(r"[\s_-]+", "", (robot_type or "").lower())


def spellings(name: str) -> tuple[str, ...]:
    """A joint's name as recorded, and without the suffix that LeRobot gives positions."""
    return (name, name.removesuffix(".pos")) if name.endswith(".pos") else (name,)


def _nearest_profile(text: str) -> str:
    """What may have been meant: a name in other letters, LeRobot's name of the robot, or a misspelling."""
    plain = plain_type(text)
    names = list_profiles()
    if same := [name for name in names if plain_type(name) == plain]:
        return f"Did you mean '{same[0]}'?"
    typed = [name for name in names if plain in map(plain_type, RobotProfile.load(name).robot_types)]
    if typed:
        return f"Did you mean '{typed[0]}', the profile of LeRobot's {text}?"
    choices = {kind.lower(): name for name in names for kind in RobotProfile.load(name).robot_types} | {
        n: n for n in names
    }
    near = difflib.get_close_matches(text.lower(), choices, n=1, cutoff=0.5)
    return f"Did you mean '{choices[near[0]]}'?" if near else did_you_mean(text, names)


def guess_role(camera: str) -> CameraRole:
    """The role a camera's name suggests: `cam_left_wrist` -> left_wrist; `other` when it suggests none."""
    words = camera.lower()
    if "wrist" in words or "hand" in words:
        parts = words.replace("-", "_").split("_")
        if "left" in words or "l" in parts:
            return "left_wrist"
        return "right_wrist" if "right" in words or "r" in parts else "wrist"
    guesses: dict[str, CameraRole] = {
        "head": "head", "top": "top", "above": "top", "high": "top", "front": "front", "side": "side",
    }  # fmt: skip
    return next((role for word, role in guesses.items() if word in words), "other")


def _folder() -> Any:
    return resources.files("smolpilot.robots").joinpath("profiles")


def _refuse_duplicates(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} '{name}' is listed twice")
        seen.add(name)
