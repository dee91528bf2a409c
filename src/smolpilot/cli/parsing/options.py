"""Options of a verb from one dataclass: command line, YAML file, or both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.common.option_types import check_numbers, check_truths
from smolpilot.common.renamed import renamed_keys, renamed_words
from smolpilot.common.text import LIMIT, plain, shown

from .arguments import check_choices, read, spelled
from .foreign import answer_key, refuse_foreign
from .foreign_files import refuse_foreign_file


def parse[T](options: type[T], args: Sequence[str], *, verb: str, default: T | None = None) -> T:
    """Parse `args` into the dataclass `options`; its field docs are the help text.

    A field annotated `tyro.conf.Positional[...]` is positional. --help prints the help and ends the process. Misuse is
    a UsageError: with the nearest option or value, with our names for options of LeRobot and of other trainers.
    """
    words = spelled(options, renamed_words(verb, args))
    if asked := next((word for word in words if word in ("-h", "--help", "--help-all")), None):
        print_help(options, verb, everything=asked == "--help-all", given=default)
        raise SystemExit(0)
    refuse_foreign(options, words, verb=verb)
    check_choices(options, words)
    found = read(options, words, prog=f"smolpilot {verb}", default=default)
    check_numbers(found)
    return found


def print_help(options: type, verb: str, *, everything: bool, given: object = None) -> None:
    """Print the help of a verb."""
    from .help import help_text
    from .verbs import VERBS, load

    config = verb in VERBS and load(verb).config
    print(help_text(options, verb, everything=everything, config=config, given=given))


def parse_with_config[T](options: type[T], args: Sequence[str], *, verb: str) -> T:
    """Like `parse`, with `--config FILE`: values of the YAML file, overridden by the other arguments."""
    rest, path = _take_config(list(args))
    if path is not None:
        refuse_foreign_file(options, path, verb=verb)
    default = from_yaml(options, path, verb=verb) if path is not None else None
    return parse(options, rest, verb=verb, default=default)


def from_yaml[T](options: type[T], path: Path, *, verb: str = "") -> T:
    """Read a dataclass from a YAML file; an unknown key or a wrong type is a UsageError.

    Keys of LeRobot and of other trainers are answered with those of `verb`.
    """
    # Loaded here: most commands have no YAML file, and a shell user waits for every import.
    from smolpilot.common.yaml_lines import read_yaml

    if not path.is_file():
        raise UsageError(f"The config file {path} does not exist.", fix="Check the path given to --config.")
    values, _ = read_yaml(path, str(path), empty="settings")
    return from_mapping(options, values, where=str(path), verb=verb)


def from_mapping[T](options: type[T], values: dict[str, Any], *, where: str, verb: str = "") -> T:
    """Build a dataclass from a mapping, strictly: unknown keys and wrong types name the key.

    `batch-size` is the same key as `batch_size`. Numbers are checked by `parse`, as the command line may replace them.
    """
    import pydantic

    values = renamed_keys(verb, values)
    known = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    for key in list(values):
        spelling = str(key).replace("-", "_")
        if spelling in known and spelling not in values:
            values = {spelling if name == key else name: value for name, value in values.items()}
        elif key not in known:
            fix = answer_key(str(key), options, verb=verb) or did_you_mean(str(key), known)
            raise UsageError(f"Unknown key '{plain(key, LIMIT)}' in {where}.", fix=fix)
    try:
        found = pydantic.TypeAdapter(options).validate_python(values)
        check_truths(values, found, where=f"{where}: ")
        return found
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"Key '{key}' in {where}: {first['msg']} (found {shown(first['input'])}).") from error


def _take_config(args: list[str]) -> tuple[list[str], Path | None]:
    """Split `--config FILE` (or `--config=FILE`) off the arguments."""
    for i, arg in enumerate(args):
        if arg == "--config":
            if i + 1 == len(args):
                raise UsageError("--config needs a file.")
            return args[:i] + args[i + 2 :], Path(args[i + 1])
        if arg.startswith("--config="):
            return args[:i] + args[i + 1 :], Path(arg.split("=", 1)[1])
    return args, None
