"""YAML files that people write: their values, and the line of each key for messages that say where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .errors import UsageError
from .json_input import to_plain
from .text import LIMIT, format_bytes, plain

MAX_BYTES = 1_000_000
"""Of a YAML file; what people write has a hundredth of it, and reading takes a second for 100 kB."""
MAX_DEPTH = 50
"""Of lists and mappings in each other."""
MAX_VALUES = 100_000
"""Of a file with its aliases written out."""
_MAX_DIGITS = 1_000
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_TOO_DEEP = f"lists and mappings in each other, deeper than {MAX_DEPTH}"

Location = tuple[int | str, ...]
"""Keys and indices (from 0) on the way from the root of the file to a value."""


class NoMappingError(Exception):
    """The outermost thing in the file is no mapping."""


class DoubledKeyError(Exception):
    """A key stands twice in one mapping: its place, its line and the line of the first, both from 1."""

    def __init__(self, place: Location, line: int, first: int) -> None:
        super().__init__(f"key '{spell(place)}' stands in lines {first} and {line}")
        self.place, self.line, self.first = place, line, first


def read_yaml(
    source: Path | str,
    where: str,
    *,
    empty: str,
    expected: str = "lines of the form `key: value`",
    error: type[UsageError] = UsageError,
    first: int = 0,
) -> tuple[dict[str, Any], dict[Location, int]]:
    """A mapping that a person wrote, in a file or as text, and the line (from 1) of every key and list entry.

    Raises `error`, with `where` and the line, for every defect. empty: what a file without a mapping `holds no` of, as
    "settings"; expected: what it should hold. first: as in `spell`.
    """
    try:
        return read_mapping(source) if isinstance(source, str) else read_mapping_file(source)
    except UnicodeDecodeError:
        raise error(f"{where} is not a text file.", expected="YAML in UTF-8") from None
    except yaml.YAMLError as found:
        problem, line = problem_of(found)
        raise error(
            f"{where}{'' if line is None else f':{line}'} is not valid YAML: {problem}.",
            expected=expected,
            fix="check indentation, brackets and quotes",
        ) from None
    except NoMappingError:
        raise error(f"{where} holds no {empty}.", expected=expected) from None
    except DoubledKeyError as twice:
        raise error(
            f"{where}:{twice.line}: key '{spell(twice.place, first=first)}' appears twice (first in line "
            f"{twice.first}).",
            fix="remove one of them",
        ) from None


def read_mapping_file(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """`read_mapping` of a file in UTF-8, with or without a byte order mark; OSError and UnicodeDecodeError, too."""
    with path.open("rb") as file:  # a device has no size, and no end
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise yaml.YAMLError(
            f"{format_bytes(max(path.stat().st_size, len(content)))}; at most {format_bytes(MAX_BYTES)} are read"
        )
    return read_mapping(content.decode("utf-8-sig"))


def read_mapping(text: str) -> tuple[dict[str, Any], dict[Location, int]]:
    """The values of a YAML mapping, and the line (from 1) of every key and list entry.

    Raises NoMappingError, DoubledKeyError (YAML would silently keep the last), and yaml.YAMLError for bad syntax, for
    a text too large or too deep, and for aliases that make more of it than anyone writes.
    """
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(f"{format_bytes(len(text))}; at most {format_bytes(MAX_BYTES)} are read")
    loader = _Loader(text)
    node = loader.get_single_node()
    if not isinstance(node, yaml.MappingNode):
        raise NoMappingError
    lines: dict[Location, int] = {}
    _collect(node, (), lines, around=(), seen=set())
    count, depth = _written_out(node, {})
    if count > MAX_VALUES or depth > MAX_DEPTH:
        problem = f"written out, its aliases make {count:,} values" if count > MAX_VALUES else _TOO_DEEP
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    values = loader.construct_document(node)
    if not isinstance(values, dict):  # a set is written as a mapping, too
        raise NoMappingError
    return values, lines


def yaml_text(options: Any, *, without: Sequence[str] = ()) -> str:
    """A dataclass of options as YAML that reads back, but for the fields `without`; what is open is left out."""
    values = {key: value for key, value in to_plain(options).items() if key not in without}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def line_of(place: Location, lines: Mapping[Location, int]) -> str:
    """`:12` for a value in line 12, of the nearest one around it where it has none itself; empty where none has."""
    while place:
        if place in lines:
            return f":{lines[place]}"
        place = place[:-1]
    return ""


def spell(place: Location, *, first: int = 0) -> str:
    """`("joints", 2, "unit")` -> `joints[2].unit`; first: the number of the first entry of a list."""
    text = ""
    for part in place:
        text += f"[{part + first}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def problem_of(error: yaml.YAMLError) -> tuple[str, int | None]:
    """What is wrong in a text that is no YAML, and its line (from 1) where the error has one."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return error.problem or error.context or "it cannot be read", None if mark is None else mark.line + 1
    return str(error).splitlines()[0] if str(error) else "it cannot be read", None


class _Loader(yaml.SafeLoader):
    """SafeLoader that says where a value cannot be made: a month 13, an hour 25; and stops before it goes too deep."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self._depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=self.get_mark())
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if any("\ud800" <= letter <= "\udfff" for letter in node.value):
            problem = f"half of a surrogate pair, which is no character: {plain(node.value, LIMIT)}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and len(node.value) > _MAX_DIGITS and node.tag in _NUMBERS:
            raise yaml.MarkedYAMLError(problem=f"a number of over {_MAX_DIGITS} digits", problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"'{plain(node.value, LIMIT)}' is no {kind}: {error}; quotes make it a text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def _written_out(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node has, and how deep they lie, when every alias in it is written out.

    An anchor stands before its aliases, so that this goes no deeper than the text itself.
    """
    if node not in known:
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        else:
            parts = node.value if isinstance(node, yaml.SequenceNode) else []
        below = [_written_out(part, known) for part in parts]
        known[node] = 1 + sum(count for count, _ in below), 1 + max((depth for _, depth in below), default=0)
    return known[node]


def _collect(
    node: yaml.Node,
    place: Location,
    lines: dict[Location, int],
    around: tuple[yaml.Node, ...],
    seen: set[yaml.Node],
) -> None:
    if node in around:
        raise yaml.MarkedYAMLError(
            problem=f"'{spell(place)}' refers to what it stands in", problem_mark=node.start_mark
        )
    if node in seen:  # an alias: its lines are those of the anchor
        return
    seen.add(node)
    around = (*around, node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here, line = (*place, str(key.value)), key.start_mark.line + 1
            if here in lines:
                raise DoubledKeyError(here, line, lines[here])
            lines[here] = line
            _collect(value, here, lines, around, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*place, index)] = value.start_mark.line + 1
            _collect(value, (*place, index), lines, around, seen)
