"""The files against meta/smolpilot_manifest.json, the list of what smolpilot wrote: changed since then, gone, or new.

mp4 and most parquet files have no checksum of their own: a flipped bit gives other pixels or numbers without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.hashing import b2sum
from smolpilot.common.json_input import read_json_file
from smolpilot.common.machine import cores, in_threads
from smolpilot.common.text import plain
from smolpilot.datasets.beside import MANIFEST, visible_files
from smolpilot.datasets.tolerant.found_dataset import FoundDataset, Progress

FORMAT = 1
# What a person edits, and no program reads: a card, a license.
_DATA = ("meta", "data", "videos")
_NAMED = 5
# What is said of a file that is not the one that was written says more than that it is not.
_SAID = ("lfs-pointer", "file-empty", "file-missing", "parquet-torn", "meta-damaged", "info-damaged")


def compare_manifest(dataset: FoundDataset, progress: Progress | None = None, jobs: int | None = None) -> None:
    """Note each file that is not what the manifest says; nothing where there is none. Reads every byte, once.

    `jobs` files are read at a time (None: one per core).
    """
    path = dataset.root / MANIFEST
    if not path.is_file():
        return
    try:
        stated = _stated(read_json_file(path))
    except (ValueError, OSError) as error:
        reason = plain(str(error).splitlines()[0] if str(error) else type(error).__name__, 160)
        dataset.report("manifest-damaged", f"{MANIFEST} cannot be read: {reason}.")
        return
    # Only files that are there are opened: no name in the manifest becomes a path.
    there = {path.relative_to(dataset.root).as_posix(): path for path in visible_files(dataset.root)}
    changed = _changed([(there[name], *stated[name]) for name in sorted(stated.keys() & there.keys())], progress, jobs)
    said = "\n".join(one.message for one in dataset.findings if one.code in _SAID)
    for name in sorted(dataset.relative(one) for one in changed):
        if name in said:
            continue
        data = name.partition("/")[0] in _DATA
        message = f"{plain(name)} is not what was written: its content differs from {MANIFEST}."
        dataset.report("manifest-changed", message, severity=None if data else "info")
    missing = sorted(name for name in stated.keys() - there.keys() if name not in said)
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        dataset.report("manifest-missing", f"{MANIFEST} lists {_some(missing)}, which {verb} not here.")
    added = sorted(name for name in there.keys() - stated.keys() if name != MANIFEST)
    if added:
        dataset.report("manifest-added", f"{MANIFEST} does not list {_some(added)}.")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(plain(name, 200) for name in names[:_NAMED]) + more


def _stated(document: Any) -> dict[str, tuple[int, str]]:
    """(bytes, digest) of each file. Raises ValueError for a document that is no manifest."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"it is no manifest of format {FORMAT}")
    files = document.get("files")
    if not isinstance(files, dict):
        raise ValueError("it lists no files")
    found = {}
    for name, entry in files.items():
        size, digest = (entry.get("bytes"), entry.get("blake2b")) if isinstance(entry, dict) else (None, None)
        if not isinstance(size, int) or not isinstance(digest, str):
            raise ValueError(f"it has no size and digest of {plain(name, 80)}")
        found[name] = (size, digest)
    return found


def _changed(files: list[tuple[Path, int, str]], progress: Progress | None, jobs: int | None) -> list[Path]:
    def differs(task: tuple[Path, int, str]) -> bool:
        path, size, digest = task
        try:
            return path.stat().st_size != size or b2sum(path) != digest.lower()
        except OSError:  # what cannot be read is said where it is missed
            return False

    found = []
    for number, changed in enumerate(in_threads(differs, files, jobs or cores())):
        if changed:
            found.append(files[number][0])
        if progress is not None:
            progress("comparing with the manifest", number + 1, len(files))
    return found
