"""JSON of others: every defect is one ValueError that says what it is, within limits of size and depth."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from smolpilot.common.json_input import MAX_BYTES, MAX_DEPTH, parse_json, read_json_file


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_depth_is_bounded(depth: int) -> None:
    with pytest.raises(ValueError, match="brackets within brackets, deeper than 100"):
        parse_json(nested(depth))
    with pytest.raises(ValueError, match="brackets within brackets, deeper than 100"):
        parse_json('{"a": ' * depth + "1" + "}" * depth)


def test_the_deepest_that_is_allowed() -> None:
    assert json.dumps(parse_json(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    wide = json.dumps([{"a": [1]}] * 1000)
    assert len(parse_json(wide)) == 1000


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"\\uDFFF": 1}', '["\\ud83d", "\\ude00"]'])
def test_half_a_surrogate_pair_is_no_text(text: str) -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        parse_json(text)


def test_whole_characters_are_text() -> None:
    assert parse_json('["\\ud83d\\ude00", "\\u7ea2", "a\\\\ud800"]') == ["😀", "红", "a\\ud800"]


@pytest.mark.parametrize("text", [b'{"a": "\xff"}', "{", "9" * 5000, ""])
def test_other_defects_are_the_same_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"codec|Expecting|digits"):
        parse_json(text)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text('{"a": 1}')
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(ValueError, match="at most 256 MB are read"):
        read_json_file(path)


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json_file(path) == {"a": 1}


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_what_has_no_end_is_not_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "policy_preprocessor.json"
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match="a device, a pipe or a socket, no file"):
        read_json_file(path)
