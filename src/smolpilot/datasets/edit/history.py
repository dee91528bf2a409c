"""`meta/smolpilot_history.json`: what was done to a dataset on the way here, oldest first."""

from __future__ import annotations

import json
import shlex
from typing import Any

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.files import read_json
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.version import __version__

HISTORY = "meta/smolpilot_history.json"


def read_history(meta: DatasetMeta) -> list[dict[str, Any]]:
    """The edits of a dataset; empty for one that was never edited. DatasetError when the file is damaged."""
    path = meta.root / HISTORY
    if not path.exists():
        return []
    try:
        edits = read_json(path, "history of edits").get("edits")
        if isinstance(edits, list) and all(isinstance(edit, dict) for edit in edits):
            return edits
        found = f"The history of edits {path} is damaged: it has no list of edits."
    except DatasetError as error:
        found = error.found
    raise DatasetError(
        found,
        expected="what was done to the dataset before, as smolpilot writes it",
        fix=f"`rm {shlex.quote(str(path))}` removes it: it only tells where the dataset comes from.",
    )


def with_edit(meta: DatasetMeta, verb: str, **details: Any) -> dict[str, str]:
    """The source's history with one more edit, as a file for the new folder; no times: equal edits, equal bytes."""
    return _file([*read_history(meta), {"edit": verb, "source": describe(meta), **details, "smolpilot": __version__}])


def of_union(sources: list[DatasetMeta], **details: Any) -> dict[str, str]:
    """The history of a dataset made of several, with the histories of those."""
    parts = [{**describe(meta), "history": read_history(meta)} for meta in sources]
    return _file([{"edit": "merge", "sources": parts, **details, "smolpilot": __version__}])


def left_out(*sources: DatasetMeta) -> dict[str, Any]:
    """The features that an edit leaves out, for its entry in the history; nothing where there are none."""
    without = sorted(set().union(*(meta.without for meta in sources)))
    return {"without": without} if without else {}


def describe(meta: DatasetMeta) -> dict[str, Any]:
    """A dataset by name, size and content."""
    return {
        "name": meta.root.name,
        "version": meta.version,
        "episodes": len(meta.episodes),
        "frames": meta.total_frames,
        "fingerprint": meta.fingerprint,
    }


def _file(edits: list[dict[str, Any]]) -> dict[str, str]:
    return {HISTORY: json.dumps({"format": 1, "edits": edits}, indent=1, ensure_ascii=False) + "\n"}
