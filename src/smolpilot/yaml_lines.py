"""YAML files that people write: their values, and the line of each key for messages that say where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

Location = tuple[int | str, ...]
"""Keys and indices (from 0) on the way from the root of the file to a value."""


class NoMappingError(Exception):
    """The outermost thing in the file is no mapping."""


class DoubledKeyError(Exception):
    """A key stands twice in one mapping: its place, its line and the line of the first, both from 1."""

    def __init__(self, place: Location, line: int, first: int) -> None:
        super().__init__(f"key '{spell(place)}' stands in lines {first} and {line}")
        self.place, self.line, self.first = place, line, first


def read_mapping(text: str) -> tuple[dict[str, Any], dict[Location, int]]:
    """The values of a YAML mapping, and the line (from 1) of every key and list entry.

    Raises NoMappingError, DoubledKeyError (YAML would silently keep the last), and yaml.YAMLError for bad syntax.
    """
    loader = _Loader(text)
    node = loader.get_single_node()
    if not isinstance(node, yaml.MappingNode):
        raise NoMappingError
    lines: dict[Location, int] = {}
    _collect(node, (), lines, around=(), seen=set())
    values = loader.construct_document(node)
    if not isinstance(values, dict):  # a set is written as a mapping, too
        raise NoMappingError
    return values, lines


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


class _Loader(yaml.SafeLoader):
    """SafeLoader that says where a value cannot be made: a month 13, an hour 25."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"'{node.value}' is no {kind}: {error}; quotes make it a text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


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
