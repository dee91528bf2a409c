"""LeRobot's layouts are described once: no other module asks for a version by name, or writes a path pattern."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smolpilot.datasets.format.versions import CURRENT, FORMATS, Format, format_of, looks_like, written_as

SOURCE = Path(__file__).parents[3] / "src" / "smolpilot"
FORMAT = SOURCE / "datasets" / "format"
VERSION = re.compile(r"v[123]\.\d")
PATTERN = re.compile(r"\{(chunk_index|file_index|episode_chunk|episode_index)[:}]")


def branches(text: str) -> Iterator[int]:
    """Lines at which code compares with a version's name, as `==`, `in` or a case."""
    node: Any
    for node in ast.walk(ast.parse(text)):
        compared: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith":
            compared = node.args
        constants = [one for part in compared for one in ast.walk(part) if isinstance(one, ast.Constant)]
        if any(isinstance(one.value, str) and VERSION.fullmatch(one.value) for one in constants):
            yield node.lineno


def patterns(text: str) -> Iterator[int]:
    """Lines with a text that is a pattern of file names; an f-string that is filled at once is none."""
    filled = {id(part) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in filled:
            yield from [node.lineno] if PATTERN.search(node.value) and "/" in node.value else []


def elsewhere() -> list[Path]:
    """All modules but those of the format."""
    return sorted(path for path in SOURCE.rglob("*.py") if FORMAT not in path.parents)


@pytest.mark.parametrize("find", [branches, patterns])
def test_only_the_format_knows_versions_and_patterns(find: Callable[[str], Iterator[int]]) -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}" for path in elsewhere() for line in find(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_walk_finds_branches_of_every_form() -> None:
    text = (
        'if version == "v3.0":\n    pass\n'
        'x = 1 if meta.version not in ("v2.0", "v2.1") else 2\n'
        'match version:\n    case "v2.1":\n        pass\n'
        'name.startswith("v1.6")\nversion = "v3.0"\n'
    )
    assert sorted(branches(text)) == [1, 3, 5, 7]
    assert list(patterns('a = "data/chunk-{chunk_index:03d}/file.parquet"\nb = f"x/{file_index:03d}.mp4"\n')) == [1]


@pytest.mark.parametrize("form", FORMATS.values())
@pytest.mark.parametrize(("number", "index"), [(0, 0), (7, 1234), (2005, 2005)])
def test_a_pattern_gives_the_names_that_it_is_filled_with(form: Format, number: int, index: int) -> None:
    place = number if form.shared_files else index
    video = form.video_file("observation.images.top", number, index, 1000)
    assert f"chunk-{place // 1000:03d}/" in form.data_file(number, index, 1000)
    assert f"chunk-{place // 1000:03d}/" in video
    assert "observation.images.top" in video


def test_versions_are_found_with_and_without_their_letter(tmp_path: Path) -> None:
    assert format_of("3.0") is format_of(" v3.0 ") is CURRENT
    assert format_of("v1.6") is format_of("") is format_of(None) is None
    assert written_as([FORMATS["v2.0"]]) == "v2.1"
    assert written_as(FORMATS.values()) == "v3.0"
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "episodes.jsonl").touch()
    assert looks_like(tmp_path, {"codebase_version": "v3.0"}).version == "v2.1"
    (tmp_path / "meta" / "stats.json").touch()
    assert looks_like(tmp_path, {}).version == "v2.0"
