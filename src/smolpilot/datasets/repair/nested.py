"""Datasets inside a dataset's folder, and files that belong to no dataset: named, copied nowhere."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from smolpilot.datasets.format.files import without_footer
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.datasets.tolerant.paths import VIDEO_ENDINGS


def nested_recordings(root: Path) -> list[Path]:
    """Folders below `root` that are datasets of their own."""
    found = []
    for folder, folders, _ in root.walk():
        here = sorted(name for name in folders if not name.startswith("."))
        inside = [name for name in here if (folder / name / "meta" / "info.json").is_file()]
        found += [folder / name for name in inside]
        folders[:] = [name for name in here if name not in inside]
    return found


def left_aside(dataset: FoundDataset, left_out: Collection[str]) -> list[str]:
    """What lies in the folder and belongs to no episode, in words; videos of features in `left_out` are not meant."""
    root = dataset.root
    nested = nested_recordings(root)
    others = set(nested)
    words = [f"{dataset.relative(path)}/ is a dataset of its own." for path in nested]
    used = {record.data_path for record in dataset.records.values()} | {rows.path for rows in dataset.rows.values()}
    for record in dataset.records.values():
        used |= {span.path for span in record.spans.values()}
    stray = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if not path.is_file() or dataset.places.why_not(path):
            continue
        if path in used or any(part.startswith(".") for part in relative.parts):
            continue
        recorded = path.suffix == ".parquet" or path.suffix.lower() in VIDEO_ENDINGS
        inside = relative.parts[0] in ("data", "videos")
        if relative.parts[0] == "meta" or not (recorded or inside) or not others.isdisjoint(path.parents):
            continue
        if any(part in left_out for part in relative.parts):
            continue
        stray.append(path)
    ends = {path: not (path.suffix == ".parquet" and without_footer(path)) for path in stray}
    unused, torn = ([dataset.relative(path) for path, end in ends.items() if end is w] for w in (True, False))
    listed = [path for path in root.glob("meta/episodes/*/*.parquet") if path.is_file()]
    torn += [dataset.relative(path) for path in listed if not dataset.places.why_not(path) and without_footer(path)]
    if torn:
        words.append(
            f"{', '.join(torn)}: without an end, as of a recording that was stopped before it was closed. What stands "
            "only there cannot be read by anybody."
        )
    if unused:
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        words.append(f"No episode uses {', '.join(unused[:3])}{more}.")
    return words
