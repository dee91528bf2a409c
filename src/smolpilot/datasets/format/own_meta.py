"""The files of a meta folder that say what a dataset is; they are the dataset's own, or it is not read."""

from __future__ import annotations

from pathlib import Path

from smolpilot.common.safe_paths import OwnFiles, walk

OWN_META = (
    "info.json",
    "tasks.jsonl",
    "tasks.parquet",
    "episodes.jsonl",
    "episodes_stats.jsonl",
    "stats.json",
    "smolpilot_history.json",
    "smolpilot_manifest.json",
)
"""The files of a meta folder that say what a dataset is, beside the folder `episodes`; others are its owner's notes."""


def require_own_meta(root: Path) -> None:
    """Refuse a meta folder whose files are not the dataset's own, before any of them is opened."""
    places, meta = OwnFiles(root), root / "meta"
    if not meta.is_dir():
        return
    places.require(meta, "meta folder")
    for folder, _, names in walk(meta):
        for name in names:
            if folder != meta or name in OWN_META or name == "episodes":
                places.require(folder / name, "file")
