"""Options of other programs, above all LeRobot's, answered with their name here, and the whole command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from smolpilot.common.errors import UsageError, did_you_mean

from .arguments import Field, Given, fields_of, is_known, split_words
from .foreign_table import Absent, Entry, Ours, Table, Unneeded, answer, table_of


class Line(NamedTuple):
    """The answer to one typed option: a sentence, and the words that say the same here."""

    text: str
    words: list[str]
    field: Field | None = None


def refuse_foreign(options: type, words: Sequence[str], *, verb: str) -> None:
    """UsageError when the words hold options that the verb does not have: a line for each, and our command."""
    fields = fields_of(options)
    before, given = split_words(words)
    strange = [one for one in given if not is_known(one.name, fields)]
    if not strange:
        return
    table = table_of(verb)
    said = [_answer(one, table, fields, verb, given) for one in strange]
    if all(line is None for line in said):
        raise UsageError(
            f"smolpilot {verb} has no option {', '.join(_typed(one) for one in strange)}.",
            fix=" ".join(_nearest(one, fields) for one in strange) + f" smolpilot {verb} --help shows all.",
        )
    lines = [
        f"  {_typed(one)}{line.text if line is not None else f': unknown. {_nearest(one, fields)}'}"
        for one, line in zip(strange, said, strict=True)
    ]
    kept = [one for one in given if is_known(one.name, fields)]
    if any(one.key == "config_path" for one in strange):
        # LeRobot resumes a run by its configuration: its optimizer state is of no use here.
        why = "no equivalent (only its weights can be read; a new run starts from them)"
        lines += [f"  {_typed(one)}: {why}" for one in kept if one.key == "resume"]
        kept = [one for one in kept if one.key != "resume"]
    command = _command(verb, fields, before, kept, [line for line in said if line is not None])
    raise UsageError(f"These options are not smolpilot's; smolpilot {verb} has:\n" + "\n".join(lines), fix=command)


def translated(values: dict[str, str], options: type, *, verb: str) -> tuple[list[str], str]:
    """What a foreign configuration file says: a line `name -> our option` for each, and one command of ours.

    values: dotted names with their values as text. Only what has an equivalent here is named.
    """
    fields, table = fields_of(options), table_of(verb)
    given = [Given(name, (value,), (f"--{name}={value}",)) for name, value in values.items()]
    lines = [
        Line(f" -> {field.option} {shlex.join(one.values)}", [field.option, *one.values], field)
        if (field := fields.get(one.key)) is not None and not field.is_flag
        else _answer(one, table, fields, verb, given)
        for one in given
    ]
    found = [(one, line) for one, line in zip(given, lines, strict=True) if line is not None and line.words]
    command = _command(verb, fields, [], [], [line for _, line in found])
    return [f"{one.name}{line.text}" for one, line in found], command


def answer_key(key: str, options: type, *, verb: str) -> str:
    """What a foreign key of a YAML file is here, as one sentence; empty for one that nobody knows."""
    fields = fields_of(options)
    one = Given(key, (), (key,))
    found = _answer(one, table_of(verb), fields, verb, [one])
    if found is None:
        return ""
    return f"Here it is `{found.field.name}`." if found.field is not None else f"{key}{found.text}"


def _answer(one: Given, table: Table, fields: dict[str, Field], verb: str, given: Sequence[Given]) -> Line | None:
    """The answer to a foreign option; None for one that nobody knows."""
    entry = table.get(one.key) or _by_group(one.key, table)
    if entry is None:
        return None
    value = " ".join(one.values)
    found = answer(entry, value)
    if isinstance(found, Unneeded):
        return Line(f": not needed ({found.why})", [])
    if isinstance(found, Absent):
        return Line(f": no equivalent ({found.why})", [])
    field = next((fields[name] for name in found.names if name in fields), None)
    if field is None:
        why = found.otherwise or ("it is for training" if _trains(found) else f"smolpilot {verb} takes nothing like it")
        return Line(f": no equivalent ({why})", [])
    if _said_better(one, given):
        return Line(f": not needed ({_name(field)} names the folder)", [])
    words = _in_our_words(found, field, value)
    if not words:
        return Line(
            f": leave it out ({_name(field)} then has its default)" if value else f" -> {_name(field)}", [], field
        )
    return Line(f" -> {_name(field) + ' ' if field.positional else ''}{shlex.join(words)}", words, field)


def _trains(found: Ours) -> bool:
    """Whether `smolpilot train` has the option, and no other verb would call it otherwise."""
    from smolpilot.training import TrainOptions

    return len(found.names) == 1 and found.names[0] in fields_of(TrainOptions)


def _by_group(key: str, table: Table) -> Entry | None:
    """The entry of a whole group, as `env.*`; the longest one."""
    parts = key.split(".")
    groups = (".".join([*parts[:count], "*"]) for count in range(len(parts) - 1, 0, -1))
    return next((table[group] for group in groups if group in table), None)


def _said_better(one: Given, given: Sequence[Given]) -> bool:
    """A dataset's id beside its folder: the folder counts."""
    keys = {other.key for other in given}
    return (one.key == "dataset.repo_id" and "dataset.root" in keys) or (one.key == "repo_id" and "root" in keys)


def _in_our_words(found: Ours, field: Field, value: str) -> list[str]:
    if field.is_flag:
        on = value.strip().lower() not in ("false", "0", "no", "none", "off")
        return [field.option] if on else [f"--no-{field.option[2:]}"] if field.has_no else []
    if value.strip().lower() in ("none", "null"):
        return []
    values = [value] if found.words is None and value else found.words or []
    return values if field.positional else [field.option, *values] if values else []


def _command(
    verb: str, fields: dict[str, Field], before: Sequence[str], kept: Sequence[Given], lines: Sequence[Line]
) -> str:
    """Our command: positional words first, each option once (typed in our words it wins), then what is missing."""
    own = {one.key for one in kept}
    taken: dict[str, list[str]] = {}
    for line in lines:
        if line.field is not None and line.words and line.field.name not in own:
            taken.setdefault(line.field.name, line.words)
    places = {line.field.name for line in lines if line.field is not None and line.field.positional}
    first = [word for name, words in taken.items() if name in places and not before for word in words]
    rest = [word for name, words in taken.items() if name not in places for word in words]
    typed = [word for one in kept for word in one.words]
    named = own | set(taken)
    open_ones = [field for field in fields.values() if _is_missing(field, named, verb)]
    first += [field.name.upper() for field in open_ones if field.positional and not before]
    rest += [word for field in open_ones if not field.positional for word in (field.option, field.name.upper())]
    return shlex.join(["smolpilot", *verb.split(), *before, *first, *typed, *rest])


def _is_missing(field: Field, named: set[str], verb: str) -> bool:
    """Whether the verb needs this option, and nothing that was named stands for it."""
    needed = field.required or (field.name in _TO_TRAIN.get(verb, ()) and "resume" not in named)
    return needed and not named & {field.name, *_INSTEAD.get(field.name, ())}


# What a new run cannot do without, and what stands in for it.
_TO_TRAIN = {"train": ("policy", "dataset", "steps", "out")}
_INSTEAD = {"policy": ("preset", "stages", "config"), "dataset": ("mixture", "stages"), "steps": ("stages", "overfit")}


def _nearest(one: Given, fields: dict[str, Field]) -> str:
    options = [field.option for field in fields.values() if not field.positional]
    return did_you_mean("--" + one.key.rsplit(".", 1)[-1].replace("_", "-"), options)


def _name(field: Field) -> str:
    return field.name.upper() if field.positional else field.option


def _typed(one: Given) -> str:
    """The option without its value, with the dashes that it had."""
    return one.words[0].partition("=")[0]
