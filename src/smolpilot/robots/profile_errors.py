"""The first problem of a YAML file that a pydantic model reads, robot profiles and setups, in words."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import pydantic

from smolpilot.common.errors import ProfileError, did_you_mean
from smolpilot.common.text import shown
from smolpilot.common.yaml_lines import Location, line_of, spell

_PAIR = "[min, max], or the word `unknown`"
OF_PROFILES = {"position_limits": _PAIR, "velocity_limit": "a number, or `unknown`"}
"""Key -> what a person is told to write there, where pydantic's words say less."""


def find_problem(
    model: type[pydantic.BaseModel],
    error: pydantic.ValidationError,
    where: str,
    lines: Mapping[Location, int],
    *,
    within: Location = (),
    expected: Mapping[str, str] = OF_PROFILES,
) -> ProfileError:
    """The first of pydantic's errors as a person reads it: file:line, key, found, expected, nearest known key.

    within: where in the file the model's values stand. expected: key -> what should stand there, in words.
    """
    # A misspelled key is both unknown and missing: the unknown one tells more.
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    own: Location = tuple(problem["loc"])
    path = (*within, *own)
    place = f"{where}{line_of(path, lines)}"
    if isinstance(path[-1] if path else None, int) and (pair := expected.get(str(path[-2]), "")).startswith("[min"):
        return ProfileError(f"{place}: key '{spell(path[:-1])}' does not hold two numbers.", expected=pair)
    kind, context = problem["type"], problem.get("ctx", {})
    others = f" ({error.error_count() - 1} more after this one)" if error.error_count() > 1 else ""
    if kind == "extra_forbidden":
        known = _keys_at(model, own[:-1])
        return ProfileError(f"{place}: unknown key '{spell(path)}'.{others}", fix=did_you_mean(str(path[-1]), known))
    words = expected.get(str(path[-1]), "") if path else ""
    if kind == "model_type":  # pydantic names the class
        outer = expected.get(str(path[-2]), "") if len(path) > 1 else ""
        words = words or outer or f"a mapping of {', '.join(_keys_at(model, own))}"
    if kind == "missing":
        return ProfileError(
            f"{place}: key '{spell(path)}' is missing.{others}", expected=words, fix=f"add '{path[-1]}'"
        )
    if kind == "value_error":
        key = f"'{spell(path)}': " if isinstance(path[-1] if path else None, str) else ""
        return ProfileError(f"{place}: {key}{str(context['error']).rstrip('.')}.{others}")
    choices = str(context.get("expected", "")) if kind == "literal_error" else ""
    fix = ""
    if choices and isinstance(problem["input"], str):
        fix = did_you_mean(problem["input"], [choice.strip(" '") for choice in choices.replace(" or ", ",").split(",")])
    return ProfileError(
        f"{place}: key '{spell(path)}' is {shown(problem['input'])}.{others}",
        expected=words or choices or problem["msg"].removeprefix("Input should be "),
        fix=fix,
    )


def _keys_at(model: type[pydantic.BaseModel], path: Location) -> list[str]:
    """The known keys of the mapping at `path`."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> typing.Iterator[type[pydantic.BaseModel]]:
    """The models that a field holds, also in lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)
