"""Folders with a second name, as `checkpoints/last`: a symbolic link, or a small text file where links are refused.

exFAT, SMB shares and synchronized folders have no symbolic links. The text file holds what the link would: the other
folder's path, relative to the file's own. Readers take both, so that a run can move between disks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

_LONGEST = 1024  # bytes of a text that names a folder
_REFUSED = (OSError, NotImplementedError)


def point(name: Path, target: str) -> None:
    """Let `name` stand for the folder `target` (relative to the parent of `name`), in one move.

    A whole folder that lies at `name` (a copy that was made without links) is kept beside it as `NAME_copied`.
    """
    beside = name.with_name(f".{name.name}.partial")
    _remove(beside)
    try:
        beside.symlink_to(target)
    except _REFUSED:
        _remove(beside)
        beside.write_text(f"{target}\n", encoding="utf-8")
    if name.is_dir() and not name.is_symlink():
        _set_aside(name)
    beside.replace(name)


def target_of(name: Path) -> str | None:
    """What `name` points at, as it was written; None where it is no link and no such text."""
    if name.is_symlink():
        return os.fspath(name.readlink())
    if not name.is_file() or not 0 < name.stat().st_size <= _LONGEST:
        return None
    try:
        text = name.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if text and "\n" not in text and "\0" not in text and (name.parent / text).is_dir() else None


def followed(path: Path) -> Path:
    """The same path with every text file on the way replaced by the folder that it names."""
    for part in (*reversed(path.parents), path):
        if part.is_file() and (target := target_of(part)) is not None:
            return followed(part.parent / target / path.relative_to(part))
    return path


def drop(name: Path) -> None:
    """Remove the second name, not the folder that it stands for."""
    if name.is_symlink() or target_of(name) is not None:
        name.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _set_aside(folder: Path) -> None:
    names = (folder.with_name(f"{folder.name}_copied{number or ''}") for number in itertools.count())
    folder.rename(next(name for name in names if not name.exists()))
