"""read_recording: open a dataset folder of any LeRobot version, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolpilot.common.errors import UsageError
from smolpilot.common.paths import require_utf8
from smolpilot.common.text import shown
from smolpilot.datasets.format.info_form import without_oddities
from smolpilot.datasets.format.missing import missing_dataset

from .declared_features import read_features
from .found_dataset import Progress, Recording
from .lenient_io import json_object
from .metadata import read_v2_meta, read_v3_meta
from .paths import Locator
from .rows import load_rows
from .unfinished import note_outcome

KNOWN_VERSIONS = ("v2.0", "v2.1", "v3.0")


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
    recording = Recording(root.resolve())
    locator = Locator(recording)
    if not locator.tables and not (root / "meta" / "info.json").exists():
        raise UsageError(
            f"{root} is not a LeRobot dataset folder: it has neither meta/info.json nor parquet files.",
            expected="a folder with meta/, data/ and, for cameras, videos/",
            fix="Name the folder that holds meta/, not one above or below it.",
        )
    recording.info = json_object(
        recording, recording.root / "meta" / "info.json", "dataset description", "info-damaged"
    )
    recording.info, odd = without_oddities(recording.info)
    for one in odd:
        recording.report("info-damaged", f"In meta/info.json {one.text()}; expected is {one.expected}.")
    recording.version = _version(recording)
    recording.fps = _fps(recording)
    read_features(recording, locator)
    read = read_v3_meta if recording.version == "v3.0" else read_v2_meta
    read(recording, locator)
    load_rows(recording, locator, progress)
    note_outcome(recording, locator)
    recording.video_files = {key: locator.videos_of(camera) for key, camera in recording.video_cameras.items()}
    locator.report()
    return recording


def _version(recording: Recording) -> str:
    """The version by which the files are read: what the folder looks like decides when `info.json` says nonsense."""
    meta = recording.root / "meta"
    stated = str(recording.info.get("codebase_version", "")).strip()
    recording.stated_version = stated
    joined = (meta / "episodes").is_dir() or (meta / "tasks.parquet").exists()
    single = any((meta / name).exists() for name in ("episodes.jsonl", "tasks.jsonl"))
    if stated in KNOWN_VERSIONS and joined == single:
        return stated
    looks = "v3.0" if joined and not single else "v2.1"
    if not joined and not single:
        template = str(recording.info.get("data_path", ""))
        looks = "v3.0" if "file_index" in template or "file-" in _first_table(recording) else "v2.1"
    if stated in KNOWN_VERSIONS and (stated == "v3.0") == (looks == "v3.0"):
        return stated
    if looks == "v2.1" and not (meta / "episodes_stats.jsonl").exists() and (meta / "stats.json").exists():
        looks = "v2.0"
    if recording.info:
        found = f"is '{stated}'" if stated else "is missing"
        recording.report("version-unknown", f"codebase_version {found}; the files are laid out like {looks}.")
    return looks


def _first_table(recording: Recording) -> str:
    return next((path.name for path in sorted(recording.root.glob("data/*/*.parquet"))), "")


def _fps(recording: Recording) -> float | None:
    fps: Any = recording.info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 1e6:
        if recording.info:
            recording.report("fps-invalid", f"meta/info.json has fps {shown(fps)}.")
        return None
    return float(fps)
