"""HTML pages from templates: every value is escaped, and texts of files are shortened, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .safe_text import plain

if TYPE_CHECKING:
    import jinja2

LONGEST = 2000
"""Letters of one text on a page: an instruction of ten million is no page for a browser."""


def page_environment(*folders: Path) -> jinja2.Environment:
    """The templates of `folders`; a name that a template does not get is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data(content: bytes) -> str:
    """Bytes as base64 for a data URL, whole."""
    import base64

    import markupsafe

    return markupsafe.Markup(base64.b64encode(content).decode("ascii"))


def cut(texts: Sequence[str]) -> list[str]:
    """Texts of a file as a page shows them."""
    return [plain(text, LONGEST) for text in texts]


def _shown(value: Any) -> Any:
    # Pieces of a template (macros) and data URLs are marked as HTML; they are ours.
    return plain(value, LONGEST) if isinstance(value, str) and not hasattr(value, "__html__") else value
