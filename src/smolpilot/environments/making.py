"""Environments by name, with settings that come as values (Python, YAML) or as text (the command line)."""

from __future__ import annotations

import functools
import inspect
import platform
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from smolpilot.common.errors import SmolpilotError, UsageError, did_you_mean
from smolpilot.common.hashing import content_name
from smolpilot.common.option_types import check_finite, check_truths
from smolpilot.common.text import LIMIT, plain, shown
from smolpilot.contracts import ENVIRONMENTS, Environment, EnvironmentSpec
from smolpilot.contracts.plugins import blamed
from smolpilot.version import __version__

from .described import factory_of, is_file_of_environment
from .shipped import SHIPPED
from .simulation import RemoteSimulation, SimulatedEnvironment
from .where import HERE, Where

_SETTABLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_UNKNOWN = inspect.Parameter.empty
WORDS = ("instruction", "wording")  # settings that say what a policy is told: no simulation is made with them
WHERE = "where"  # the parameter by which a factory of simulations is told where to run one; no setting of users


def make_environment(name: str, settings: Mapping[str, Any] | None = None) -> Environment:
    """The environment of that name, new. Raises what `environment_factory` raises, and what making it does."""
    return environment_factory(name, settings)()


def environment_factory(name: str, settings: Mapping[str, Any] | None = None) -> Callable[[], Environment]:
    """A function that makes one more environment of that name at each call.

    settings: as values or as text, which is read by the annotations of the environment's own factory: `colors=red,blue`
    is a tuple, `size=96` a number, `none` is None where that may be. A name that ends in .yaml is the path of a file
    that describes an environment of gymnasium. UsageError, before anything is made, for an
    unknown name or setting (with the nearest and all that are known), and for a value of another type.
    """
    return functools.partial(environment_maker(name, settings), HERE)


def named_task(name: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The environment's name and settings, where a name as `aloha/insertion` stands for `aloha` with its setting
    `task=insertion`. UsageError where `task` is said twice."""
    environment, slash, task = name.partition("/")
    if not slash or name in ENVIRONMENTS.names() or is_file_of_environment(name):
        return name, dict(settings)
    if "task" not in _parameters(named_factory(environment)):
        raise UsageError(
            f"The environment '{plain(environment, LIMIT)}' has no tasks by name: '{plain(name, LIMIT)}'.",
            fix=f"say '{plain(environment, LIMIT)}' alone",
        )
    if "task" in settings:
        raise UsageError(f"The task of '{plain(name, LIMIT)}' is said again by the setting 'task'.", fix="say it once")
    return environment, {"task": task, **settings}


def checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as values that the environment's own factory takes; UsageError for others."""
    return _checked(name, named_factory(name), settings)


def identity(name: str, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whatever decides about an episode beside seed and actions; None where that is not known: another's environment
    may change without a version.

    facts: of a simulation made with these settings, which name the versions of its packages.
    """
    if name not in SHIPPED or name == "gymnasium":
        return None
    code = Path(__file__).parent
    files = sorted(code.rglob("*.py"))
    return {
        "smolpilot": __version__,
        "code": content_name(*(path.read_bytes() for path in files)),
        "machine": platform.machine(),
        "environment": name,
        "settings": checked_settings(name, settings),
        "simulation": {part: facts[part] for part in ("physics", "packages") if part in facts},
    }


@dataclass(frozen=True)
class EnvironmentMaker:
    """Makes environments of one name and settings, here or in workers."""

    name: str
    settings: Mapping[str, Any]
    hosted: bool  # it needs smolpilot around it: a worker of it runs in this interpreter

    def __call__(self, where: Where) -> Environment:
        """One more environment, there."""
        factory = named_factory(self.name)
        if not self.hosted:
            return _made(self.name, factory, {**self.settings, WHERE: where})
        if where.worker is None:
            return _made(self.name, factory, self.settings)
        return SimulatedEnvironment(RemoteSimulation(where.worker, where.slot, self.name, self.settings), self._spec)

    @functools.cached_property
    def _spec(self) -> EnvironmentSpec:
        """By one made here, once: a worker's answers hold none."""
        with closing(self(HERE)) as environment:
            return environment.spec


def environment_maker(name: str, settings: Mapping[str, Any] | None = None) -> EnvironmentMaker:
    """As `environment_factory`, for environments that may run elsewhere."""
    factory = named_factory(name)
    hosted = WHERE not in _parameters(factory)
    return EnvironmentMaker(name, _checked(name, factory, settings or {}), hosted)


def named_factory(name: str) -> Callable[..., Any]:
    """What makes environments of that name: a registered one, or the path of a YAML file that describes one."""
    return factory_of(name) if is_file_of_environment(name) else ENVIRONMENTS.get(name)


def _made(name: str, factory: Callable[..., Any], settings: Mapping[str, Any]) -> Environment:
    whose = f"The environment '{plain(name, LIMIT)}'"
    with nullcontext() if name in SHIPPED or is_file_of_environment(name) else blamed(f"{whose} cannot be made"):
        made: Environment = factory(**settings)
    lacking = [part for part in ("spec", "reset", "step", "render", "close") if not hasattr(made, part)]
    if lacking:
        raise SmolpilotError(
            f"{whose} is a {type(made).__name__} without {', '.join(lacking)}.",
            expected="an Environment (smolpilot.contracts)",
        )
    return made


def _checked(name: str, factory: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as values that the factory takes."""
    parameters = _parameters(factory)
    known = {key: one for key, one in parameters.items() if one.kind in _SETTABLE and key != WHERE}
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    whose = f"the environment '{plain(name, LIMIT)}'"
    for key in settings:
        if key not in known and not takes_any:
            near = did_you_mean(str(key), known)
            raise UsageError(
                f"Unknown setting '{plain(key, LIMIT)}' of {whose}.",
                expected=f"one of {', '.join(known)}" if known else "none: it has no settings",
                fix=near if near.startswith("Did") else "",
            )
    needed = [key for key, one in known.items() if one.default is _UNKNOWN and key not in settings]
    if needed:
        raise UsageError(f"{whose[0].upper()}{whose[1:]} needs more settings: {', '.join(needed)}.")
    return {
        key: _value(value, _kind(known[key]), key, whose) if key in known else value for key, value in settings.items()
    }


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    made_by = getattr(factory, "__init__", None) if isinstance(factory, type) else None
    if made_by is object.__init__ or getattr(made_by, "__module__", "") == "typing":
        return {}  # a class without __init__ of its own, for which a Protocol's says *args, **kwargs
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except Exception:  # annotations of names that only a type checker sees: what is left is read by the defaults
        return inspect.signature(factory).parameters


def _kind(parameter: inspect.Parameter) -> Any:
    """The type of a setting: its annotation, else that of its default."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is _UNKNOWN or isinstance(annotation, str):
        return Any if default is _UNKNOWN or default is None else type(default)
    return annotation


def _value(value: Any, kind: Any, key: str, whose: str) -> Any:
    """A setting as its type wants it, from text or from a value."""
    where = f"Setting '{key}' of {whose}"
    if isinstance(value, str):
        value = _parts(value, kind, where)
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)
    except pydantic.PydanticUserError:  # a class that pydantic knows nothing of
        return value
    try:
        made = adapter.validate_python(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{where}: {first['msg']} (found {shown(value)}).") from None
    check_truths(value, made, where=f"{whose[0].upper()}{whose[1:]}: ", place=key)
    check_finite(made, where)
    return made


def _parts(text: str, kind: Any, where: str) -> Any:
    """Text as the parts of what it stands for: `a,b` for lists, `a:b,c:d` for mappings, `none`; else as it is."""
    kinds = [*_kinds(kind)]
    if types.NoneType in kinds and text.lower() == "none":
        return None
    origins = [typing.get_origin(one) or one for one in kinds]
    if str in origins or kind is Any:
        return text
    classes = [origin for origin in origins if isinstance(origin, type)]
    if any(issubclass(origin, Mapping) for origin in classes):
        pairs = [part.partition(":") for part in text.split(",") if part]
        for left, sign, right in pairs:
            if not (left and sign and right):
                raise UsageError(f"{where} is {shown(text)}.", expected="NAME:VALUE,NAME:VALUE")
        return {left: right for left, _, right in pairs}
    if any(issubclass(origin, Collection) for origin in classes):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _kinds(kind: Any) -> Iterator[Any]:
    """The types of a union, without annotations."""
    if typing.get_origin(kind) is typing.Annotated:
        yield from _kinds(kind.__origin__)
    elif isinstance(kind, typing.TypeAliasType):
        yield from _kinds(kind.__value__)
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        for one in typing.get_args(kind):
            yield from _kinds(one)
    elif typing.get_origin(kind) is Literal:
        yield from {type(value) for value in typing.get_args(kind)}
    else:
        yield kind
