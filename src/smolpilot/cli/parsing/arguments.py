"""The words of a command: which belong to which option, which options a verb has, and tyro's refusals as our errors."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import itertools
import re
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from smolpilot.common.errors import UsageError, did_you_mean

_NUMBERS = ("-inf", "-nan", "-infinity")
HELP = ("h", "help", "help_all")
_OPTION = re.compile(r"--[A-Za-z]|-[A-Za-z]")


@dataclass(frozen=True)
class Given:
    """One option of a command line as it was typed: its `name` without dashes, its values, and all of its words."""

    name: str
    values: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name in one spelling: `--batch-size` and `--Batch_Size` are the same."""
        return self.name.replace("-", "_").lower()


def split_words(words: Sequence[str]) -> tuple[list[str], list[Given]]:
    """The words before the first option, and the options, each with the words up to the next one."""
    starts = [number for number, word in enumerate(words) if _OPTION.match(word) and word not in _NUMBERS]
    given = []
    for start, end in itertools.pairwise([*starts, len(words)]):
        name, sign, value = words[start].lstrip("-").partition("=")
        values = (*([value] if sign else []), *words[start + 1 : end])
        given.append(Given(name, tuple(values), tuple(words[start:end])))
    return list(words[: starts[0]] if starts else words), given


@dataclass(frozen=True)
class Field:
    """An option of a verb: its name on the command line (`batch_size`), what it takes, and its default.

    `metavar`: what stands for its value in help. `has_no`: a flag with a `--no-` form. `is_open`: one that is neither
    on nor off unless it is said.
    """

    name: str
    attribute: str
    default: Any
    metavar: str = ""
    choices: tuple[str, ...] = ()
    positional: bool = False
    is_flag: bool = False
    has_no: bool = False
    is_open: bool = False
    required: bool = False

    @property
    def option(self) -> str:
        """As it is typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def spellings(self) -> list[str]:
        """All ways to type it: a flag may have a `--no-` form, too."""
        return [self.option, *([f"--no-{self.option[2:]}"] if self.has_no else [])]


_METAVARS = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}


@functools.cache
def fields_of(options: type) -> dict[str, Field]:
    """The options of a verb, by their names on the command line."""
    hints = typing.get_type_hints(options, include_extras=True)
    found = {}
    for item in dataclasses.fields(options):
        kind, extras = _unwrapped(hints[item.name])
        name = next((extra.name for extra in extras if getattr(extra, "name", None)), item.name)
        many = typing.get_origin(kind) in (tuple, list)
        one = _unwrapped(typing.get_args(kind)[0])[0] if many else kind
        choices = tuple(map(str, typing.get_args(one))) if typing.get_origin(one) is Literal else ()
        # A marker without a name of its own has a metavar, too: a spec, or `tyro.conf.arg`.
        said = next((extra.metavar for extra in reversed(extras) if getattr(extra, "metavar", None)), None)
        value = "|".join(choices) or _METAVARS.get(one, "")
        required = item.default is item.default_factory is dataclasses.MISSING
        factory = item.default_factory
        found[name] = Field(
            name,
            item.name,
            default=item.default if factory is dataclasses.MISSING else factory(),
            metavar=said or (f"{value} ..." if many else value),
            choices=choices,
            positional=any(extra is tyro.conf.Positional for extra in extras),
            is_flag=kind is bool,
            has_no=kind is bool and not any(extra is tyro.conf.FlagCreatePairsOff for extra in extras),
            is_open=kind is bool and item.default is None,
            required=required,
        )
    return found


def is_known(name: str, fields: dict[str, Field]) -> bool:
    """Whether a typed option is one of the verb's (or help)."""
    key = name.replace("-", "_")
    if key in HELP:
        return True
    if key in fields:
        return not fields[key].positional
    return key.startswith("no_") and key[3:] in fields and fields[key[3:]].is_flag


_ON, _OFF = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def spelled(options: type, words: Sequence[str]) -> list[str]:
    """The words with flags in one form: `--compile=true`, `--compile true`, `--no-compile` mean what they say."""
    fields = fields_of(options)
    before, given = split_words(words)
    found = list(before)
    for one in given:
        negative = one.key.startswith("no_") and one.key not in fields
        field = fields.get(one.key[3:] if negative else one.key)
        value = one.values[0].lower() if one.values else ""
        # What is off by default needs no `--no-` form, but it is understood.
        needless = negative and field is not None and not field.has_no
        if field is None or not field.is_flag or not (value in (*_ON, *_OFF) or field.is_open or needless):
            found += one.words
            continue
        on = (value not in _OFF) != negative
        rest = one.values[1:] if value in (*_ON, *_OFF, "none") else one.values
        if value == "none":
            continue
        if field.is_open:
            found += [field.option, str(on)]
        elif on or field.has_no:
            found.append(field.option if on else f"--no-{field.option[2:]}")
        found += rest
    return found


def check_choices(options: type, words: Sequence[str]) -> None:
    """Refuse a value that an option does not offer: UsageError with the nearest, and all of them in their order."""
    fields = fields_of(options)
    for given in split_words(words)[1]:
        field = fields.get(given.key)
        if field is None or not field.choices or not given.values:
            continue
        values = given.values if field.metavar.endswith("...") else given.values[:1]
        for value in values:
            if value in (*field.choices, "None"):
                continue
            nearest = did_you_mean(value, field.choices)
            raise UsageError(
                f"{field.option} is '{value}'.",
                expected=f"one of {', '.join(field.choices)}",
                fix=nearest if nearest.startswith("Did") else "",
            )


def read[T](options: type[T], words: Sequence[str], *, prog: str, default: T | None) -> T:
    """The words as the dataclass; what tyro refuses is a UsageError in this program's form."""
    more: dict[str, Any] = {} if default is None else {"default": default}
    kind: type = options
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found: T = tyro.cli(options, args=list(words), prog=prog, **more)
            return found
    except SystemExit as stop:
        if stop.code != 2:
            raise
    raise _as_error(said.getvalue(), prog, fields_of(kind))


def _as_error(text: str, prog: str, fields: dict[str, Field]) -> UsageError:
    """The text of tyro's box, which has other words for the same things, as an error."""
    # The first line is the title, in the box's border or without one.
    lines = [line.strip("│|\n") for line in text.splitlines()[1:]]
    # From the first words up to the rule under them.
    lines = list(itertools.dropwhile(_is_rule, lines))
    body = list(itertools.takewhile(lambda line: not _is_rule(line), lines))
    help_text = f"{prog} --help explains every option"
    needed = tuple(field.option for field in fields.values() if field.required and not field.positional)
    words = [line.strip() for line in body]
    missing = [line for line in words if line.split(" ")[0] in needed or re.fullmatch(r"\[?[A-Z]+( \[.*\])?\]?", line)]
    if missing and "Missing" in words[0]:
        return UsageError(f"{prog} needs more: {', '.join(missing)}.", fix=help_text)
    sentence = " ".join(" ".join(body).split())
    if not sentence:
        print(text, file=sys.stderr, end="")
        raise SystemExit(2)
    sentence = sentence.replace("Error parsing ", "").replace("Unrecognized options", "There is no place for")
    return UsageError(sentence if sentence.endswith(".") else f"{sentence}.", fix=help_text)


def _is_rule(line: str) -> bool:
    return not line.strip("─-╭╮╰╯+ ")


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """The type without annotations and None, and the annotations."""
    extras: list[Any] = []
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            extras += hint.__metadata__
            hint = hint.__origin__
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
            if len(inner) != 1:
                return hint, extras
            hint = inner[0]
        else:
            return hint, extras
