"""Findings of `dataset check` out of a file, for the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolpilot.common.errors import UsageError
from smolpilot.common.json_input import read_json_file
from smolpilot.common.text import shown
from smolpilot.datasets.tolerant.findings import SEVERITIES, Finding


def read_findings(path: Path) -> list[Finding]:
    """Read the JSON document of `smolpilot dataset check --json`; UsageError when it is none."""
    expected = "the output of `smolpilot dataset check PATH --json`: an object with a list 'findings'"
    if not path.is_file():
        raise UsageError(f"The findings file {path} does not exist.", expected=expected)
    try:
        document = read_json_file(path)
    except (ValueError, OSError) as error:
        raise UsageError(f"The findings file {path} is not JSON: {error}.", expected=expected) from error
    rows = document.get("findings") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"The findings file {path} holds no list of findings.", expected=expected)
    # What is said of several episodes at once is shown on each of them.
    return [_finding({**row, "episode": episode}, path) for row in rows for episode in _episodes(row)]


def _episodes(row: dict[str, Any]) -> list[Any]:
    listed = row.get("episodes")
    return listed if isinstance(listed, list) and listed else [row.get("episode")]


def _finding(row: dict[str, Any], path: Path) -> Finding:
    severity, message = row.get("severity"), row.get("message")
    if severity not in SEVERITIES or not isinstance(message, str):
        raise UsageError(
            f"A finding in {path} has severity {shown(severity)} and message {shown(message)}.",
            expected=f"a text as message, and one of {', '.join(SEVERITIES)} as severity",
        )
    words = {key: str(row[key]) if row.get(key) is not None else None for key in ("camera", "joint")}
    return Finding(
        code=str(row.get("code", "")),
        severity=severity,
        message=message,
        fix=str(row.get("fix", "")),
        episode=_whole(row.get("episode")),
        frame=_whole(row.get("frame")),
        camera=words["camera"],
        joint=words["joint"],
        last=_whole(row.get("last")),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
