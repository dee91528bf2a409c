"""Types of options that several verbs share. Loads no torch."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import tyro

from smolpilot.common.errors import UsageError
from smolpilot.common.text import shown


@dataclasses.dataclass(frozen=True)
class Limit:
    """The numbers that an option takes: up to `most` (beyond it memory, time or arithmetic would give out), with or
    without a minus; from `least` or `above` on, where one of them is given.
    """

    most: float
    least: float | None = None
    above: float | None = None

    def missed(self, value: float) -> str:
        """What was expected instead of this value; empty for a value that is taken."""
        if abs(value) > self.most:
            return f"at most {self.most:,}" if isinstance(self.most, int) else f"at most {self.most:g}"
        if self.least is not None and value < self.least:
            return f"at least {self.least:g}"
        return f"a number above {self.above:g}" if self.above is not None and value <= self.above else ""

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Any]) -> Any:
        """The bounds in a JSON schema, for editors."""
        schema = handler(core)
        if schema.get("type") in ("integer", "number"):
            bounds = {"minimum": self.least, "exclusiveMinimum": self.above, "maximum": self.most}
            schema |= {name: bound for name, bound in bounds.items() if bound is not None}
        return schema


_WHOLE = Limit(2**63 - 1)  # of a whole number without a limit of its own: arrays take no more


def check_numbers(options: Any, *, where: str = "--") -> None:
    """Refuse NaN, infinity and what is beyond its `Limit` in any field of an options dataclass, also inside mappings
    and lists: UsageError.

    Every verb's options pass here, from the command line and from YAML; a comparison alone lets NaN through. `where`
    stands before the name in the error.
    """
    for place, value, limit in _numbers_of(options, where, ""):
        check_finite(value, place)
        if limit is not None and value != AUTO and (expected := limit.missed(value)):
            raise UsageError(f"{place} is {shown(value)}.", expected=expected)


def check_finite(value: Any, place: str) -> None:
    """Refuse NaN and infinity in a value, also inside mappings and lists: UsageError, with `place` before it."""
    for _, number, _ in _numbers(value, place, None):
        if isinstance(number, float) and not math.isfinite(number):
            raise UsageError(f"{place} is {number}.", expected="a finite number")


def check_truths(values: Any, made: Any, *, where: str, place: str = "") -> None:
    """Refuse true and false of YAML in `values` where a number was `made` of them (pydantic takes them for 1 and 0):
    UsageError, with `where` before the key.
    """
    if isinstance(values, bool) and isinstance(made, int | float) and not isinstance(made, bool):
        raise UsageError(f"{where}'{place}' is {str(values).lower()}.", expected="a number")
    if isinstance(values, Mapping):
        for key, value in values.items():
            inner = made.get(key) if isinstance(made, Mapping) else getattr(made, str(key), None)
            check_truths(value, inner, where=where, place=f"{place}.{key}" if place else str(key))
    elif isinstance(values, list | tuple) and isinstance(made, list | tuple):
        for i, (value, inner) in enumerate(zip(values, made, strict=False)):
            check_truths(value, inner, where=where, place=f"{place}[{i + 1}]")


type _Found = tuple[str, int | float, Limit | None]


def _numbers_of(options: Any, where: str, between: str) -> Iterator[_Found]:
    hints = typing.get_type_hints(type(options), include_extras=True)
    for item in dataclasses.fields(options):
        name = item.name.replace("_", "-") if where == "--" else item.name
        yield from _numbers(getattr(options, item.name), f"{where}{between}{name}", _limit(hints[item.name]))


def _numbers(value: Any, place: str, limit: Limit | None) -> Iterator[_Found]:
    """The numbers in an option's value, each with where it stands and its limit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value, limit or (_WHOLE if isinstance(value, int) else None)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{place} {key}", limit)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _numbers(inner, place, limit)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _numbers_of(value, place, ".")


def _limit(hint: Any) -> Limit | None:
    """The limit that an annotation carries, wherever in it."""
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Limit):
            return extra
    inner = (hint.__origin__,) if hasattr(hint, "__metadata__") else typing.get_args(hint)
    return next((found for part in inner if (found := _limit(part)) is not None), None)


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


def _spec[T](read: Callable[[list[str]], dict[str, T]], value: str) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    """`NAME=VALUE ...` on the command line, a mapping in YAML."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"NAME={value} ...",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{left}={right}" for left, right in value.items()],
    )


# On the command line `a=b c=d`; a mapping in YAML.
Pairs = Annotated[dict[str, str], _spec(_read_pairs, "VALUE")]

# On the command line `a=0.5 b=1`; a mapping to numbers in YAML.
Shares = Annotated[dict[str, float], _spec(_read_shares, "NUMBER"), Limit(1e9)]

# On or off, and off unless it is said: without a `--no-` form.
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]

AUTO = -(2**62)  # a number that the run finds out by itself


def _read_count(words: list[str]) -> int:
    (word,) = words
    return AUTO if word == "auto" else int(word)


class _AutoInYaml:
    """Lets YAML say `auto`; pydantic is loaded by those who read YAML."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        def read(value: Any) -> Any:
            return AUTO if value == "auto" else value

        return core_schema.no_info_before_validator_function(read, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Any]) -> Any:
        return {"anyOf": [handler(core), {"const": "auto"}]}


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


def _read_seeds(words: list[str]) -> tuple[int, ...]:
    return tuple(int(part) for word in words for part in word.split(",") if part.strip())


# Numbers with the least and the most that they can be.
Seed = Annotated[int, Limit(2**62 - 1, least=0)]
# On the command line `0,1,2`; a list in YAML.
Seeds = Annotated[
    tuple[Seed, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="INT,INT,...",
        instance_from_str=_read_seeds,
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(one, int) for one in value),
        str_from_instance=lambda value: [",".join(map(str, value))] if value else [],
    ),
    tyro.conf.arg(help_behavior_hint=lambda default: f"(default: {default})" if default else "(default: none)"),
]
Steps = Annotated[int, Limit(1_000_000_000, least=1)]  # of training; frames, too
AnySteps = Annotated[int, Limit(1_000_000_000, least=0)]
Amount = Annotated[int, Limit(1_000_000, least=1)]  # of episodes, tries, files
AnyAmount = Annotated[int, Limit(1_000_000, least=0)]
Batch = Annotated[int, Limit(65_536, least=1)]
Tokens = Annotated[int, Limit(4_096, least=1)]  # in a sequence: attention takes the square of them
Few = Annotated[int, Limit(1_000, least=0)]  # processes, retries
AtLeastOne = Annotated[int, Limit(1_000, least=1)]  # cameras, denoising steps
Rate = Annotated[float, Limit(1_000.0, least=0)]
PositiveRate = Annotated[float, Limit(1_000.0, above=0)]
Part = Annotated[float, Limit(1.0, above=0)]  # of limits
Size = Annotated[float, Limit(1e9, least=0)]
PositiveSize = Annotated[float, Limit(1e9, above=0)]
