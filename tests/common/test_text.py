"""Values and texts of files in messages: short, in one line, without effect on a terminal."""

from __future__ import annotations

import io

from smolpilot.common.terminal import Terminal
from smolpilot.common.text import LIMIT, plain, shown


def test_what_acts_on_a_terminal_is_spelled() -> None:
    assert plain("\x1b]0;title\x07a\r\nb\x9b2J") == "\\x1b]0;title\\x07a\\r\\nb\\x9b2J"
    assert plain("left \u202e right \ud800") == "left \\u202e right \\ud800"
    assert plain("pick up the 红色 block, déjà vu 😀") == "pick up the 红色 block, déjà vu 😀"


def test_a_long_text_is_cut() -> None:
    assert plain("x" * 1000, 10) == "x" * 7 + "..."
    assert plain("x" * 10, 10) == "x" * 10


def test_any_value_is_short() -> None:
    round_and_round: list[object] = []
    round_and_round.append(round_and_round)
    wide: object = "x" * 500
    for _ in range(12):
        wide = [wide] * 9
    deep: object = 1
    for _ in range(5000):
        deep = {"a": deep}
    for value in (round_and_round, wide, deep, 10**5000, {"key": 10**4000}, "\x1b" * 500):
        text = shown(value)
        assert len(text) <= 4 * LIMIT
        assert text.isprintable()
    assert shown({"a": [1, 2.5, None, "b"]}) == "{'a': [1, 2.5, None, 'b']}"


def test_brackets_are_no_markup() -> None:
    out = io.StringIO()
    Terminal(file=out, width=80).print(plain("[/red] top[0] \x1b[2J"), style="bold")
    assert out.getvalue() == "[/red] top[0] \\x1b[2J\n"
