"""The form of settings: which type and range each has, whether a file of a checkpoint or an option says it.

Every file that others may have written is read through these models, so that no key's type, and no number out of its
range, comes any further than here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterable
from typing import Any, NoReturn, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, PlainValidator, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from smolpilot.common.errors import CheckpointError, UsageError, did_you_mean
from smolpilot.common.text import plain, shown

RESTORE = "copy or download it again, as it was written"


class Form(BaseModel):
    """A JSON object of a checkpoint: keys that it does not name may hold anything, the others what they are said to."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


def whole(low: int, high: int) -> PlainValidator:
    """A whole number from `low` to `high`; true and 5.0 are none."""
    expected = f"a whole number from {low:,} to {high:,}"

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(expected)
        return value

    return PlainValidator(check)


def real(low: float, high: float) -> PlainValidator:
    """A number from `low` to `high`, so a finite one."""
    expected = f"a number from {low:g} to {high:g}"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            refuse(expected)
        return float(value)

    return PlainValidator(check)


def refuse(expected: str) -> NoReturn:
    """Called by a validator: the value is not what is expected, which the error then says."""
    # Braces would be read as fields of a template.
    raise PydanticCustomError("form", "{expected}", {"expected": expected})


def formed[M](model: type[M], values: object, where: object) -> M:
    """The values of a file as `model` (a form, or a dataclass) has them; CheckpointError names the file, the key, its
    value and what fits.
    """
    try:
        read: M = _adapter(cast(Hashable, model)).validate_python(values)
    except ValidationError as error:
        found, expected = _problem(error, values, where=f" in {where}")
        raise CheckpointError(found, expected=expected, fix=RESTORE) from None
    return read


@functools.cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def check_fields(settings: Any) -> None:
    """UsageError for a field of a dataclass that is not of the type, or not in the range, that it is declared with."""
    kind: Any = type(settings)
    for name, adapter in _adapters(kind).items():
        value = getattr(settings, name)
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            found, expected = _problem(error, value, name)
            raise UsageError(found, expected=expected) from None


def check_keys(values: Iterable[str], known: Iterable[str], where: object) -> None:
    """CheckpointError for a key that is not known, with the nearest one."""
    for key in values:
        if key not in set(known):
            raise CheckpointError(f"{where} has the unknown key '{plain(key, 80)}'.", fix=did_you_mean(key[:80], known))


@functools.cache
def _adapters(settings: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(settings, include_extras=True)
    return {item.name: TypeAdapter(hints[item.name]) for item in dataclasses.fields(settings)}


def _problem(error: ValidationError, values: object, root: str = "", where: str = "") -> tuple[str, str]:
    """The first thing that does not fit: what it is, in a sentence, and what would."""
    problems = error.errors(include_url=False, include_context=True)
    place, value = _walk(problems[0], values)
    here = [problem for problem in problems if _walk(problem, values)[0] == place]
    spelled = root
    for part in place:
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}" if spelled else str(part)
    if problems[0]["type"] == "missing" and isinstance(problems[0]["loc"][-1], str):
        missing = str(problems[0]["loc"][-1])
        key = f"{spelled}.{missing}" if spelled else missing
        return f"'{plain(key, 120)}'{where} is missing.", f"an object with {missing}"
    named = f"'{plain(spelled, 120)}'" if spelled else "The content"
    return f"{named}{where} is {shown(value)}.", ", or ".join(dict.fromkeys(map(_expected, here)))


def _walk(problem: ErrorDetails, values: object) -> tuple[tuple[int | str, ...], object]:
    """Where the value is that pydantic speaks of: of a union it names the tried type, too, which is no key."""
    place: list[int | str] = []
    for part in problem["loc"]:
        known: Any = None
        if isinstance(values, dict):
            known = values
        elif isinstance(values, list | tuple):
            known = dict(enumerate(values))
        if known is None or part not in known:
            break
        values = known[part]
        place.append(part)
    return tuple(place), values


_WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "dict_type": "an object of keys and values",
    "model_type": "an object of keys and values",
    "dataclass_type": "an object of keys and values",
    "model_attributes_type": "an object of keys and values",
    "list_type": "a list",
    "tuple_type": "a list",
    "none_required": "null",
}


def _expected(problem: ErrorDetails) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("form", "literal_error"):
        return str(context["expected"])
    if kind in ("too_short", "too_long", "missing"):
        return "a list of the right length"
    return _WORDS.get(kind, problem["msg"].removeprefix("Input should be "))
