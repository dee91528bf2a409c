"""An environment that a YAML file describes: a gymnasium id, and where its state, images and success are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.hashing import content_digest
from smolpilot.common.yaml_lines import Location, line_of, read_yaml
from smolpilot.contracts import Environment
from smolpilot.robots import RobotProfile
from smolpilot.robots.profile_errors import find_problem

from .simulation import SimulatedEnvironment, spec_of
from .simulators.gymnasium_env import RENDER
from .where import HERE, Where


def _list(value: Any) -> Any:
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _state(value: Any) -> Any:
    if isinstance(value, str):
        return {"keys": [value]}
    return {"keys": value} if isinstance(value, list) else value


def _success(value: Any) -> Any:
    if value == "terminated":
        return {"terminated": True}
    return {"info": value} if isinstance(value, str) else value


def _profile(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise ValueError("`profile` is a name, the path of a YAML file, or the keys of a profile")
    return value


_Numbers = Annotated[list[float], pydantic.BeforeValidator(_list, json_schema_input_type=float | list[float])]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class _Scaling(_Strict):
    """value * scale + offset, each one number for all joints or one for each."""

    scale: _Numbers = []
    offset: _Numbers = []


class _State(_Scaling):
    """Keys of the observation whose arrays are the state, one behind the other; none: the observation itself."""

    keys: list[str] = []


class _Success(_Strict):
    """One of: a key of the info, that the environment terminates, a step's reward, the sum of an episode's."""

    info: str | None = None
    terminated: bool | None = None
    reward: float | None = None
    sum: float | None = pydantic.Field(None, alias="return")

    @pydantic.model_validator(mode="after")
    def _one(self) -> _Success:
        if self.terminated is False or len(self.model_fields_set) != 1:
            raise ValueError("`success` is one of: a key of the info, `terminated`, {reward: NUMBER}, {return: NUMBER}")
        return self


class EnvironmentFile(_Strict):
    """The keys of the file. `profile` has the joints, in order and with units, and the cameras; a path in it is taken
    from the file's own folder. What is not given is the profile's (`rate`, `instruction`) or the registered one
    (`max_steps`). `imports`: modules that register the id. `images`: camera -> key of the observation, or `render`."""

    id: str
    profile: Annotated[Any, pydantic.BeforeValidator(_profile, json_schema_input_type=str | dict[str, Any])]
    success: Annotated[_Success, pydantic.BeforeValidator(_success)]
    state: Annotated[_State, pydantic.BeforeValidator(_state)] = _State()
    images: dict[str, str] = {}
    action: _Scaling = _Scaling()
    kwargs: dict[str, Any] = {}
    imports: list[str] = []
    rate: Annotated[float, pydantic.Field(gt=0, le=1000)] | None = None
    max_steps: Annotated[int, pydantic.Field(ge=1, le=1_000_000)] | None = None
    instruction: Annotated[str, pydantic.Field(min_length=1)] | None = None
    goal: Annotated[str, pydantic.Field(min_length=1)] | None = None


def is_file_of_environment(name: str) -> bool:
    """Whether the name of an environment is the path of a YAML file."""
    return name.endswith((".yaml", ".yml"))


def identity(name: str) -> str:
    """The name, with a digest of what it says where it is a file: who resumes has to mean the same environment."""
    path = Path(name).expanduser()
    if not is_file_of_environment(name) or not path.is_file():
        return name
    return f"{name} {content_digest(path.read_bytes())}"


def read_environment_file(path: Path) -> tuple[EnvironmentFile, RobotProfile]:
    """The description and its profile; every defect is a UsageError that names the file, the line and the key."""
    where = str(path)
    if not path.is_file():
        raise UsageError(
            f"The environment file {where} does not exist or is not a file.", fix="check the path of --env"
        )
    form = "keys such as `id:`, `profile:` and `success:`"
    values, lines = read_yaml(path, where, empty="environment", expected=form)
    try:
        made = EnvironmentFile.model_validate(values)
    except pydantic.ValidationError as error:
        found = find_problem(EnvironmentFile, error, where, lines)
        raise UsageError(found.found, expected=found.expected, fix=found.fix) from None
    profile = _profile_of(made.profile, path, lines)
    _check_cameras(made, profile, where, lines)
    return made, profile


def factory_of(name: str) -> Callable[..., Environment]:
    """The factory of a file's environment; its settings replace the file's."""
    path = Path(name).expanduser()

    def make_described(
        instruction: str | None = None, max_steps: int | None = None, where: Where = HERE
    ) -> Environment:
        made, profile = read_environment_file(path)
        success = made.success.model_dump(by_alias=True, exclude_none=True)
        if max_steps is not None and max_steps < 1:
            raise UsageError(f"Setting 'max_steps' is {max_steps}.", expected="1 or more")
        simulation = where.simulate(
            "gymnasium_env",
            {
                "id": made.id,
                "state_size": len(profile.state_joints),
                "action_size": len(profile.action_joints),
                "cameras": {camera.name: [camera.height, camera.width] for camera in profile.cameras},
                "state": made.state.model_dump(),
                "images": made.images,
                "action": made.action.model_dump(),
                "success": success,
                "rate": made.rate or profile.rate,
                "goal": made.goal or _goal(success),
                "kwargs": made.kwargs,
                "imports": made.imports,
                "max_steps": max_steps or made.max_steps,
            },
        )
        said = instruction or made.instruction
        return SimulatedEnvironment(simulation, spec_of(made.id, profile, simulation.facts, said))

    return make_described


def _profile_of(given: Any, path: Path, lines: Mapping[Location, int]) -> RobotProfile:
    if isinstance(given, str):
        beside = path.parent / given
        return RobotProfile.load(str(beside) if beside.is_file() else given)
    own = {place[1:]: line for place, line in lines.items() if place[:1] == ("profile",) and len(place) > 1}
    return RobotProfile.from_values(given, where=str(path), lines=own)


def _check_cameras(made: EnvironmentFile, profile: RobotProfile, where: str, lines: Mapping[Location, int]) -> None:
    names = [camera.name for camera in profile.cameras]
    for camera in made.images:
        if camera not in names:
            raise UsageError(
                f"{where}{line_of(('images', camera), lines)}: the profile '{profile.name}' has no camera '{camera}'.",
                fix=did_you_mean(camera, names) if names else "leave it out, or add it to the profile's cameras",
            )
    for name in names:
        if name not in made.images:
            raise UsageError(
                f"{where}{line_of(('images',), lines)}: camera '{name}' of the profile '{profile.name}' has no image.",
                fix=f"add it under `images`: {name}: KEY of the observation, or {name}: {RENDER}",
            )


def _goal(success: Mapping[str, Any]) -> str:
    (how, value), *_ = success.items()
    return {
        "info": f"the environment's own '{value}'",
        "terminated": "the environment terminates",
        "reward": f"a reward of at least {value}",
        "return": f"rewards that sum to at least {value}",
    }[how]
