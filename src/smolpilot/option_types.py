"""Types of options that several verbs share. Loads no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import tyro

from smolpilot.errors import UsageError


def check_finite(options: Any, *, where: str = "--") -> None:
    """Refuse NaN and infinity in any field of an options dataclass, also inside mappings and lists: UsageError.

    Every verb's options pass here, from the command line and from YAML; a comparison alone lets them through. `where`
    stands before the name in the error.
    """
    for item in dataclasses.fields(options):
        for place, value in _numbers(getattr(options, item.name), where + item.name.replace("_", "-")):
            if not math.isfinite(value):
                raise UsageError(f"{place} is {value}.", expected="a finite number")


def _numbers(value: Any, place: str) -> list[tuple[str, float]]:
    """The decimal numbers in an option's value, each with where it stands."""
    if isinstance(value, float):
        return [(place, value)]
    if isinstance(value, Mapping):
        return [found for key, inner in value.items() for found in _numbers(inner, f"{place} {key}")]
    if isinstance(value, list | tuple):
        return [found for inner in value for found in _numbers(inner, place)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
        return [found for name, inner in fields for found in _numbers(inner, f"{place} {name}")]
    return []


def _read_pairs(words: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        left, sign, right = word.partition("=")
        if not (left and sign):
            raise ValueError(f"'{word}' is not of the form NAME=VALUE")
        if not right:
            raise ValueError(f"'{word}' has nothing after the '='")
        if left in pairs:
            raise ValueError(f"'{left}' is given twice: {left}={pairs[left]} and {word}")
        pairs[left] = right
    return pairs


def _read_shares(words: list[str]) -> dict[str, float]:
    return {name: float(value) for name, value in _read_pairs(words).items()}


def _default_hint(default: str) -> str:
    return f"(default: {default})" if default else "(default: none)"


def _spec[T](read: Callable[[list[str]], dict[str, T]], value: str) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    """`NAME=VALUE ...` on the command line, a mapping in YAML."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"NAME={value} ...",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{left}={right}" for left, right in value.items()],
    )


_HINT = tyro.conf.arg(help_behavior_hint=_default_hint)

# On the command line `a=b c=d`; a mapping in YAML.
Pairs = Annotated[dict[str, str], _spec(_read_pairs, "VALUE"), _HINT]

# On the command line `a=0.5 b=1`; a mapping to numbers in YAML.
Shares = Annotated[dict[str, float], _spec(_read_shares, "NUMBER"), _HINT]

# Names, none by default.
Names = Annotated[tuple[str, ...], _HINT]

AUTO = -(2**62)  # a number that the run finds out by itself


def _read_count(words: list[str]) -> int:
    (word,) = words
    if word == "auto":
        return AUTO
    return int(word)


class _AutoInYaml:
    """Lets YAML say `auto`; pydantic is loaded by those who read YAML."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        def read(value: Any) -> Any:
            return AUTO if value == "auto" else value

        return core_schema.no_info_before_validator_function(read, handler(source))


# A whole number, or `auto` (AUTO): on the command line and in YAML.
Count = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT|auto",
        instance_from_str=_read_count,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: ["auto" if value == AUTO else str(value)],
    ),
    _AutoInYaml(),
]
