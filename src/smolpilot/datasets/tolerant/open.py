"""read_recording: open a dataset folder of any LeRobot version, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

from smolpilot.common.errors import UsageError
from smolpilot.common.safe_paths import require_utf8
from smolpilot.common.text import pluralize
from smolpilot.datasets.format.files import read_json, without_footer
from smolpilot.datasets.format.info_form import plain_info, read_fps
from smolpilot.datasets.format.metadata import MetadataReader, Record
from smolpilot.datasets.format.missing import missing_dataset
from smolpilot.datasets.format.versions import format_of, looks_like

from .declared_features import read_features
from .found_dataset import Progress, Recording
from .paths import Locator, number_of
from .rows import load_rows


def read_recording(path: str | Path, progress: Progress | None = None) -> Recording:
    """Read metadata and tables of a LeRobot v2.0, v2.1 or v3.0 folder; damage is noted in `findings`.

    Raises UsageError only when `path` is no folder, or has neither meta/info.json nor any table.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise missing_dataset(root)
    if not root.is_dir():
        raise UsageError(f"{root} is a file.", expected="the folder that holds meta/, data/ and videos/")
    require_utf8(root.resolve(), "dataset folder")
    recording = Recording(root=root.resolve())
    locator = Locator(recording)
    info_path = recording.root / "meta" / "info.json"
    if not locator.tables and not info_path.exists():
        raise UsageError(
            f"{root} is not a LeRobot dataset folder: it has neither meta/info.json nor parquet files.",
            expected="a folder with meta/, data/ and, for cameras, videos/",
            fix="Name the folder that holds meta/, not one above or below it.",
        )
    recording.info = read_json(info_path, "dataset description", recording, code="info-damaged")
    recording.info = plain_info(recording.info, info_path, recording)
    recording.stated_version = stated = str(recording.info.get("codebase_version", "")).strip()
    recording.format = looks_like(recording.root, recording.info)
    if recording.info and format_of(stated) is not recording.format:
        found = f"is '{stated}'" if stated else "is missing"
        layout = f"the files are laid out like {recording.format.version}"
        recording.report("version-unknown", f"codebase_version {found}; {layout}.")
    recording.fps = (read_fps(recording.info, info_path, recording) or None) if recording.info else None
    read_features(recording, locator)
    locator.use(recording.info, recording.format)
    _read_lists(recording, locator)
    load_rows(recording, locator, progress)
    note_outcome(recording, locator)
    recording.video_files = {key: locator.videos_of(camera) for key, camera in recording.video_cameras.items()}
    locator.report()
    return recording


def _read_lists(recording: Recording, locator: Locator) -> None:
    """What the meta folder lists; where each episode has files of its own, one that only has files is one, too."""
    keys = list(recording.video_cameras)
    reader = MetadataReader(recording.info, locator, keys, recording, whole=True, into=recording)
    reader.read()
    never = list(recording.never_recorded)
    if not recording.format.shared_files:
        per_chunk = reader.per_chunk()
        strays = locator.strays(recording.records, per_chunk)
        for path in locator.tables:
            number = number_of(path)
            if number is not None and number not in recording.records and path not in strays:
                recording.records[number] = Record(number, listed=False)
                reader.place(recording.records[number], per_chunk)
        if recording.records and len(keys) > 1:
            never = [key for key in keys if not locator.any_video(recording.cameras[key])]
    for key in never:
        for record in recording.records.values():
            record.spans.pop(key, None)
        recording.report_absent(key)


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
            f"in it cannot be read; {pluralize(kept, 'episode')} before it can." if kept else "in it cannot be read."
        )
        fix = None if kept else "Record these episodes anew: a parquet file without its end holds no readable rows."
        recording.report("recording-interrupted", message, fix=fix)


def _stated(recording: Recording) -> bool:
    """Whether info.json says that there are episodes: then they have been lost."""
    totals = [recording.info.get(name) for name in ("total_episodes", "total_frames")]
    return any(isinstance(total, int | float) and total > 0 for total in totals)
