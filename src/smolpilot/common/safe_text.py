"""Values and texts from files, made safe to show: in a message, in the terminal, in JSON."""

from __future__ import annotations

import json
import re
import reprlib
import unicodedata
from typing import Any

LIMIT = 200
"""Characters of a foreign value in a message."""

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxset = 3, 6, 6, 6, 6
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = LIMIT

# What is looked at letter by letter; all else is plain ASCII.
_ODD = re.compile(r"[^ -~]")
_ODD_BUT_LINE_ENDS = re.compile(r"[^\n\t -~]")


def shown(value: object) -> str:
    """A value as Python spells it, shortened in length and depth: safe for any value of a file, in any message."""
    try:
        return plain(_SHORT.repr(value), LIMIT)
    except ValueError:  # Python does not spell a number of over 4,300 digits
        return "a value with a number of over 4,300 digits"


def plain(text: object, limit: int | None = None) -> str:
    """A text in one line in which nothing acts on a terminal or a file: control characters, line ends, half surrogate
    pairs and marks that turn the direction of writing are spelled (`\\x1b`, `\\n`, `\\ud800`); cut after `limit`.
    """
    content = str(text)
    if limit is not None and len(content) > limit:
        content = f"{content[: limit - 3]}..."
    return _ODD.sub(_spelled, content)


def lines(text: str) -> str:
    """`plain` for a text of several lines: line ends and tabs stay. For what is printed as a whole."""
    return _ODD_BUT_LINE_ENDS.sub(_spelled, text)


def json_text(document: Any) -> str:
    """A document as JSON for people, indented: letters of any language as they are, what acts on a terminal escaped."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return _ODD_BUT_LINE_ENDS.sub(lambda found: _spelled(found, json.dumps(found.group())[1:-1]), text)


def _spelled(found: re.Match[str], spelling: str | None = None) -> str:
    letter = found.group()
    # Wide spaces and the joiners of Persian and Hindi are no printable letters to Python, but texts need them.
    if letter.isprintable() or letter in "\u200c\u200d" or unicodedata.category(letter) == "Zs":
        return letter
    return spelling or letter.encode("unicode_escape").decode("ascii")
