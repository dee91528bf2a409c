"""Texts for people: values and texts from files made safe to show, numbers with their nouns, HTML pages."""

from __future__ import annotations

import json
import re
import reprlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

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


def plain_lines(text: str) -> str:
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


def pluralize(number: int, noun: str) -> str:
    """`1 episode`, `2 episodes`, `1,000 frames`: the noun takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_bytes(count: float) -> str:
    """Bytes in the unit that shows them: `512 B`, `3.4 MB`, `120 GB`; never `0.0 GB` for what is there."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= 0.9995 * factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def listed_joints(names: Sequence[str], limit: int = 6) -> str:
    """Number and names of joints, the first ones."""
    return f"{pluralize(len(names), 'joint')} ({', '.join(names[:limit])}{', ...' if len(names) > limit else ''})"


PAGE_LIMIT = 2000
"""Letters of one text on a page: an instruction of ten million is no page for a browser."""


def page_environment(*folders: Path) -> jinja2.Environment:
    """The templates of `folders`; a name that a template does not get is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        finalize=_page_value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def base64_markup(content: bytes) -> str:
    """Bytes as base64 for a data URL, whole."""
    import base64

    import markupsafe

    return markupsafe.Markup(base64.b64encode(content).decode("ascii"))


def page_texts(texts: Sequence[str]) -> list[str]:
    """Texts of a file as a page shows them."""
    return [plain(text, PAGE_LIMIT) for text in texts]


def _page_value(value: Any) -> Any:
    # Pieces of a template (macros) and data URLs are marked as HTML; they are ours.
    return plain(value, PAGE_LIMIT) if isinstance(value, str) and not hasattr(value, "__html__") else value
