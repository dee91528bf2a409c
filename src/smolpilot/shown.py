"""Values and texts from files, made safe to show: in a message, in the terminal, in markup."""

from __future__ import annotations

import reprlib

from rich.markup import escape

LIMIT = 200
"""Characters of a foreign value in a message."""

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxset = 3, 6, 6, 6, 6
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = LIMIT


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
    if content.isprintable():
        return content
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in content
    )


def markup(text: object, limit: int | None = None) -> str:
    """`plain`, escaped for rich: brackets of a name are brackets, no markup."""
    return escape(plain(text, limit))
