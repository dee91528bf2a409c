"""Recordings that were not begun or not finished, told by what their recorder leaves behind."""

from __future__ import annotations

from smolpilot.common.words import numbered
from smolpilot.datasets.format.files import without_footer

from .found_dataset import Recording
from .paths import Locator


def note_outcome(recording: Recording, locator: Locator) -> None:
    """Report a recording without any episode, and one whose recorder was stopped before it closed its files."""
    if recording.info and not locator.tables and not recording.records and not _stated(recording):
        recording.outcome = "empty"
        recording.report("recording-empty", "The dataset has no episodes yet: nothing has been recorded into it.")
        return
    if not recording.format.loadable or not recording.info:
        return
    # The episode table, too, is closed at the end: an unfinished table that it lists was whole once, and is torn.
    listed = {record.data_path for record in recording.records.values() if record.listed}
    unfinished = [path for path in locator.tables if path not in listed and without_footer(path)]
    if unfinished:
        recording.outcome = "interrupted"
        names = ", ".join(recording.relative(path) for path in unfinished[:2])
        kept = len(recording.rows)
        message = f"The recording was interrupted: its recorder was stopped before it closed {names}, so that the rows "
        message += (
            f"in it cannot be read; {numbered(kept, 'episode')} before it can." if kept else "in it cannot be read."
        )
        fix = None if kept else "Record these episodes anew: a parquet file without its end holds no readable rows."
        recording.report("recording-interrupted", message, fix=fix)


def _stated(recording: Recording) -> bool:
    """Whether info.json says that there are episodes: then they have been lost."""
    totals = [recording.info.get(name) for name in ("total_episodes", "total_frames")]
    return any(isinstance(total, int | float) and total > 0 for total in totals)
