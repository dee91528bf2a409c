"""Types of options that several verbs share. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import tyro


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
