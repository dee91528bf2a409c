"""YAML with the line of each key."""

from __future__ import annotations

import pytest
import yaml

from smolpilot.common.yaml_lines import DoubledKeyError, NoMappingError, line_of, read_mapping, spell

TEXT = """\
# a comment
name: arm
joints:
  - {name: base, limits: [-1.5, 1.5]}
  - name: hand
    unit: rad
"""


def test_values_and_lines() -> None:
    values, lines = read_mapping(TEXT)
    assert values == yaml.safe_load(TEXT)
    assert lines == {
        ("name",): 2,
        ("joints",): 3,
        ("joints", 0): 4,
        ("joints", 0, "name"): 4,
        ("joints", 0, "limits"): 4,
        ("joints", 0, "limits", 0): 4,
        ("joints", 0, "limits", 1): 4,
        ("joints", 1): 5,
        ("joints", 1, "name"): 5,
        ("joints", 1, "unit"): 6,
    }


@pytest.mark.parametrize(
    ("text", "place", "line", "first"),
    [
        ("a: 1\nb: 2\na: 3\n", ("a",), 3, 1),
        ("a:\n  - b: 1\n    b: 1\n", ("a", 0, "b"), 3, 2),
        ("a: {b: 1, 'b': 2}\n", ("a", "b"), 1, 1),
    ],
)
def test_a_key_that_stands_twice(
    text: str, place: tuple[str] | tuple[str, int, str] | tuple[str, str], line: int, first: int
) -> None:
    with pytest.raises(DoubledKeyError) as caught:
        read_mapping(text)
    assert (caught.value.place, caught.value.line, caught.value.first) == (place, line, first)
    assert f"'{spell(place)}'" in str(caught.value)


def test_equal_keys_of_different_mappings_are_no_doubles() -> None:
    assert read_mapping("a: {x: 1}\nb: [{x: 1}, {x: 2}]\nx: 1\n")[1][("b", 1, "x")] == 2


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just text", "[{a: 1, a: 2}]", "!!set {a, b}"])
def test_what_is_no_mapping(text: str) -> None:
    with pytest.raises(NoMappingError, match=r"^$"):
        read_mapping(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "expected the node content, but found '<stream end>'"),
        ("a: 1\n b: 2\n", "mapping values are not allowed here"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: !robot {}\n", "tag '!robot'"),
        ("{[a]: 1}", "found unhashable key"),
    ],
)
def test_what_is_no_yaml(text: str, words: str) -> None:
    with pytest.raises(yaml.YAMLError, match=words):
        read_mapping(text)


def test_the_line_of_the_nearest_value_around() -> None:
    _, lines = read_mapping(TEXT)
    assert line_of(("joints", 1, "unit"), lines) == ":6"
    assert line_of(("joints", 1, "velocity_limit"), lines) == ":5"
    assert line_of(("joints", 7, "unit"), lines) == ":3"
    assert line_of(("rate",), lines) == ""
    assert line_of((), lines) == ""


def test_places_are_spelled_as_a_person_reads_them() -> None:
    assert spell(("joints", 2, "limits", 0)) == "joints[2].limits[0]"
    assert spell(("stages", 1, "lr"), first=1) == "stages[2].lr"
    assert spell(("name",)) == "name"
    assert spell(()) == ""


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nmade: 2026-13-45\n", 2, "'2026-13-45' is no timestamp: month must be in 1..12"),
        ("a: 1\nb:\n  c: 0b_\n", 3, "'0b_' is no int"),
        ("a: 1\nb: &it\n  c: [*it]\n", 2, "'b.c[0]' refers to what it stands in"),
    ],
)
def test_a_value_that_cannot_be_made_is_an_error_with_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        read_mapping(text)
    assert problem in (caught.value.problem or "")
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line + 1 == line


def test_aliases_cost_what_they_say_once() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 3)}]\n" for i in range(1, 9))
    values, lines = read_mapping(text)
    assert len(values) == 9
    assert len(lines) == 9 + 1 + 8 * 3


def test_aliases_that_nobody_writes_are_refused() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(yaml.YAMLError, match="its aliases make 75,020,345,639 values"):
        read_mapping(text)


@pytest.mark.parametrize("text", ['a: 1\nb: "\\ud800"', 'a: 1\n"\\udfff": 2', 'a: 1\nb: [x, "y\\ud83d"]'])
def test_half_of_a_surrogate_pair_is_no_text(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="half of a surrogate pair") as caught:
        read_mapping(text)
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line == 1
