"""The first problem of a robot profile's YAML, in words."""

from __future__ import annotations

import typing
from collections.abc import Mapping

import pydantic

from smolpilot.common.errors import ProfileError, did_you_mean
from smolpilot.common.text import shown
from smolpilot.common.yaml_lines import Location, line_of, spell


def find_problem(
    model: type[pydantic.BaseModel], error: pydantic.ValidationError, where: str, lines: Mapping[Location, int]
) -> ProfileError:
    """The first of pydantic's errors as a person reads it: file:line, key, found, expected, nearest known key."""
    # A misspelled key is both unknown and missing: the unknown one tells more.
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    path: Location = tuple(problem["loc"])
    limits = {"position_limits": "[min, max], or the word `unknown`", "velocity_limit": "a number, or `unknown`"}
    if path[-1:] and isinstance(path[-1], int) and "position_limits" in path:
        return ProfileError(
            f"{where}{line_of(path, lines)}: key '{spell(path[:-1])}' does not hold two numbers.",
            expected=limits["position_limits"],
        )
    place = f"{where}{line_of(path, lines)}"
    kind, context = problem["type"], problem.get("ctx", {})
    others = f" ({error.error_count() - 1} more after this one)" if error.error_count() > 1 else ""
    if kind == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return ProfileError(f"{place}: unknown key '{spell(path)}'.{others}", fix=did_you_mean(str(path[-1]), known))
    if kind == "missing":
        return ProfileError(
            f"{place}: key '{spell(path)}' is missing.{others}",
            expected=limits.get(str(path[-1]), ""),
            fix=f"add '{path[-1]}'",
        )
    if kind == "value_error":
        return ProfileError(f"{place}: {str(context['error']).rstrip('.')}.{others}")
    expected = {"literal_error": str(context.get("expected", ""))}.get(kind, problem["msg"])
    expected = limits.get(str(path[-1]), expected)
    fix = ""
    if kind == "literal_error" and isinstance(problem["input"], str):
        fix = did_you_mean(
            problem["input"], [choice.strip(" '") for choice in expected.replace(" or ", ",").split(",")]
        )
    return ProfileError(
        f"{place}: key '{spell(path)}' is {shown(problem['input'])}.{others}", expected=expected, fix=fix
    )


def _keys_at(model: type[pydantic.BaseModel], path: Location) -> list[str]:
    """The known keys of the mapping at `path`."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [
                a
                for a in (annotation, *typing.get_args(annotation))
                if isinstance(a, type) and issubclass(a, pydantic.BaseModel)
            ]
            model = inner[0] if inner else model
    return list(model.model_fields)
