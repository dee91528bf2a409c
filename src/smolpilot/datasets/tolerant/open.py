"""read_found_dataset: open a dataset folder of any LeRobot version, whatever is wrong with it."""

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
from .found_dataset import FoundDataset, Progress
from .paths import Locator, number_of
from .rows import load_rows


def read_found_dataset(path: str | Path, progress: Progress | None = None) -> FoundDataset:
    """Read metadata and tables of a LeRobot v2.0, v2.1 or v3.0 folder; damage is noted in `findings`.

    Raises UsageError only when `path` is no folder, or has neither meta/info.json nor any table.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise missing_dataset(root)
    if not root.is_dir():
        raise UsageError(f"{root} is a file.", expected="the folder that holds meta/, data/ and videos/")
    require_utf8(root.resolve(), "dataset folder")
    dataset = FoundDataset(root=root.resolve())
    locator = Locator(dataset)
    info_path = dataset.root / "meta" / "info.json"
    if not locator.tables and not info_path.exists():
        raise UsageError(
            f"{root} is not a LeRobot dataset folder: it has neither meta/info.json nor parquet files.",
            expected="a folder with meta/, data/ and, for cameras, videos/",
            fix="Name the folder that holds meta/, not one above or below it.",
        )
    dataset.info = read_json(info_path, "dataset description", dataset, code="info-damaged")
    dataset.info = plain_info(dataset.info, info_path, dataset)
    dataset.stated_version = stated = str(dataset.info.get("codebase_version", "")).strip()
    dataset.format = looks_like(dataset.root, dataset.info)
    if dataset.info and format_of(stated) is not dataset.format:
        found = f"is '{stated}'" if stated else "is missing"
        layout = f"the files are laid out like {dataset.format.version}"
        dataset.report("version-unknown", f"codebase_version {found}; {layout}.")
    dataset.fps = (read_fps(dataset.info, info_path, dataset) or None) if dataset.info else None
    read_features(dataset, locator)
    locator.use(dataset.info, dataset.format)
    _read_lists(dataset, locator)
    load_rows(dataset, locator, progress)
    note_outcome(dataset, locator)
    dataset.video_files = {key: locator.videos_of(camera) for key, camera in dataset.video_cameras.items()}
    locator.report()
    return dataset


def _read_lists(dataset: FoundDataset, locator: Locator) -> None:
    """What the meta folder lists; where each episode has files of its own, one that only has files is one, too."""
    keys = list(dataset.video_cameras)
    reader = MetadataReader(dataset.info, locator, keys, dataset, whole=True, into=dataset)
    reader.read()
    never = list(dataset.never_recorded)
    if not dataset.format.shared_files:
        per_chunk = reader.per_chunk()
        strays = locator.strays(dataset.records, per_chunk)
        for path in locator.tables:
            number = number_of(path)
            if number is not None and number not in dataset.records and path not in strays:
                dataset.records[number] = Record(number, listed=False)
                reader.place(dataset.records[number], per_chunk)
        if dataset.records and len(keys) > 1:
            never = [key for key in keys if not locator.any_video(dataset.cameras[key])]
    for key in never:
        for record in dataset.records.values():
            record.spans.pop(key, None)
        name = dataset.cameras[key].name
        message = f"No episode has a video of camera '{name}', which meta/info.json declares."
        dataset.report("camera-absent", message, camera=name)


def note_outcome(dataset: FoundDataset, locator: Locator) -> None:
    """Report a dataset without any episode, and one whose recorder was stopped before it closed its files."""
    # Where info.json says that there are episodes, they have been lost.
    stated = dataset.info.get("total_episodes") or dataset.info.get("total_frames")
    if dataset.info and not locator.tables and not dataset.records and not stated:
        dataset.outcome = "empty"
        dataset.report("recording-empty", "The dataset has no episodes yet: nothing has been recorded into it.")
        return
    if not dataset.format.loadable or not dataset.info:
        return
    # The episode table, too, is closed at the end: an unfinished table that it lists was whole once, and is torn.
    listed = {record.data_path for record in dataset.records.values() if record.listed}
    unfinished = [path for path in locator.tables if path not in listed and without_footer(path)]
    if unfinished:
        dataset.outcome = "interrupted"
        names = ", ".join(dataset.relative(path) for path in unfinished[:2])
        kept = len(dataset.rows)
        message = f"The recording was interrupted: its recorder was stopped before it closed {names}, so that the rows "
        message += (
            f"in it cannot be read; {pluralize(kept, 'episode')} before it can." if kept else "in it cannot be read."
        )
        fix = None if kept else "Record these episodes anew: a parquet file without its end holds no readable rows."
        dataset.report("recording-interrupted", message, fix=fix)
