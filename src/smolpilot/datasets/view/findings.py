"""Findings of `dataset check` as the page shows them: where they lie on the time line, and what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from smolpilot.errors import UsageError

type Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[str, ...] = get_args(Severity.__value__)
# Words that other tools and documents use for the same three.
_WORDS = {"info": "note", "hint": "note", "warn": "warning", "critical": "error", "fatal": "error"}


@dataclass(frozen=True)
class PageFinding:
    """One finding. `episode` None: about the whole recording; `frame` None: about the whole episode.

    `end` is the last frame of a range, None for a single frame; `fix` a sentence or command that helps.
    """

    severity: Severity
    text: str
    check: str = ""
    episode: int | None = None
    frame: int | None = None
    end: int | None = None
    fix: str = ""


def read_findings(path: Path) -> list[PageFinding]:
    """Read the JSON document of `smolpilot dataset check --json`; UsageError when it is none."""
    expected = "the output of `smolpilot dataset check PATH --json`: an object with a list 'findings'"
    if not path.is_file():
        raise UsageError(f"The findings file {path} does not exist.", expected=expected)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UsageError(f"The findings file {path} is not JSON: {error}.", expected=expected) from error
    rows = document.get("findings") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"The findings file {path} holds no list of findings.", expected=expected)
    return [finding_from_mapping(row, str(path)) for row in rows]


def finding_from_mapping(row: dict[str, Any], where: str) -> PageFinding:
    """One finding of such a document; UsageError when it has no severity or no text."""
    severity = str(row.get("severity", "")).lower()
    severity = _WORDS.get(severity, severity)
    text = row.get("text") or row.get("message")
    if severity not in SEVERITIES or not text:
        raise UsageError(
            f"A finding in {where} has severity {row.get('severity')!r} and text {text!r}.",
            expected=f"a text, and one of {', '.join(SEVERITIES)}",
        )
    return PageFinding(
        severity=severity,  # type: ignore[arg-type]
        text=str(text),
        check=str(row.get("check") or row.get("code") or ""),
        episode=_whole(row.get("episode")),
        frame=_whole(row.get("frame")),
        end=_whole(row.get("end")),
        fix=str(row.get("fix") or ""),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
