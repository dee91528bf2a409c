"""What is said of features that samples leave out: once, by the verb that opens the dataset."""

from __future__ import annotations

import shlex
import sys

from .format.completeness import absent_note
from .format.meta import DatasetMeta

_MOST = 6


def left_out_note(meta: DatasetMeta) -> str:
    """One line on the features that samples leave out, why, and how to make a copy without them; else empty."""
    if not meta.left_out:
        return ""
    keys = list(meta.left_out)
    parts = [f"{key} ({meta.left_out[key]})" for key in keys[:_MOST]]
    more = f", and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
    without = " ".join(shlex.quote(key) for key in keys)
    return (
        f"samples leave out {', '.join(parts)}{more}. "
        f"`smolpilot dataset convert {shlex.quote(str(meta.root))} DST --without {without}` makes a copy without."
    )


def notes_of_gaps(meta: DatasetMeta) -> list[str]:
    """What samples leave out, and which files are not there."""
    notes = (left_out_note(meta), absent_note(meta.root, meta.absent, len(meta.episodes)))
    return [note for note in notes if note]


def say_left_out(meta: DatasetMeta) -> None:
    """Say on standard error what samples leave out, and which files are not there."""
    for note in notes_of_gaps(meta):
        print(f"note: {note}", file=sys.stderr)
