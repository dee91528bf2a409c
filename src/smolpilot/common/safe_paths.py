"""Names and paths that come from files: checked before use, and kept below their folder.

Links are followed within a dataset or checkpoint and into the hub's cache, no further. A second name of a folder, as
`checkpoints/last`, is a symbolic link, or a small text file where links are refused: exFAT, SMB shares and synchronized
folders have none. The text file holds what the link would: the other folder's path, relative to the file's own. Readers
take both, so that a run can move between disks.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shlex
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from .errors import DatasetError, UsageError, may
from .text import plain

MAX_BYTES = 255
"""Of one name: what Linux, macOS and Windows take."""

_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


def why_no_name(name: str) -> str:
    """Why a text cannot be the name of a file or folder; empty where it can, on every system."""
    if not name:
        return "it is empty"
    if name in (".", ".."):
        return "it stands for a folder above or for the folder itself"
    if "/" in name or "\\" in name:
        return "it holds a slash or backslash, which would make it a path"
    if not is_text(name):
        return "it holds a control character, or one that is no UTF-8"
    if len(name.encode()) > MAX_BYTES:
        return f"it is {len(name.encode())} bytes long, more than {MAX_BYTES}"
    if name.split(".")[0].upper() in _DEVICES:
        return "Windows keeps it for a device"
    return ""


def is_text(name: str) -> bool:
    """Whether a name holds no control character (NUL, line ends, escapes) and no half of a surrogate pair."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def is_utf8(text: str) -> bool:
    """Whether a name can be written as UTF-8: names in other encodings come from the disk with half surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_utf8(path: str | Path, what: str) -> None:
    """UsageError for a path of the user that is no UTF-8: neither the video nor the table library opens it."""
    if not is_utf8(os.fspath(path)):
        raise UsageError(
            f"The {what} {plain(os.fspath(path))} has a name that is no UTF-8.",
            expected="file and folder names in UTF-8",
            fix="rename it; `ls -b` shows the bytes of a name",
        )


def below(folder: Path, relative: str | Path) -> Path:
    """The path `folder / relative`, for writing. DatasetError when it would lie anywhere else than below `folder`.

    Links on the way are followed, so that a folder that is a link leads nowhere else either.
    """
    path = folder / relative
    root, real = os.path.realpath(folder), os.path.realpath(path)
    if ".." in Path(relative).parts or real == root or not real.startswith(root.rstrip(os.sep) + os.sep):
        raise DatasetError(
            f"{plain(os.fspath(relative), 200)} would be written outside of its folder {folder}.",
            expected="a path below the folder that is made",
            fix="Nothing was written there. Do not use this dataset: its names lead out of it.",
        )
    return path


_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class OwnFiles:
    """Tells which paths below a folder (`what`: a dataset, a checkpoint) may be read and copied.

    The folder itself may be reached by a link. A folder of the hub's cache (`…/snapshots/REVISION`) holds links
    into `…/blobs`: these are its files.
    """

    def __init__(self, root: Path, what: str = "dataset") -> None:
        real = os.path.realpath(root)
        above = Path(real).parents
        blobs = [str(folder.parent / "blobs") for folder in above if folder.name == "snapshots"]
        self.root, self._what = Path(real), what
        self._allowed = tuple(folder.rstrip(os.sep) + os.sep for folder in (real, *blobs))
        self._folders: dict[str, tuple[str, bool]] = {}

    def why_not(self, path: Path) -> str:
        """Why a file is none of the folder's own, as `is a pipe, no file`; empty for its own, and for missing ones."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder), is_utf8(folder)
        beginning, spelled = self._folders[folder]
        real = f"{beginning.rstrip(os.sep)}{os.sep}{name}"
        try:
            mode = os.lstat(real).st_mode
            if stat.S_ISLNK(mode):
                real = os.path.realpath(real)
                mode = Path(real).stat().st_mode
        except OSError:
            # Missing, a link that leads nowhere or round, or not ours to see: the one who opens it says which.
            mode = 0
        if not real.startswith(self._allowed) and real != str(self.root):
            return f"is a link to {plain(real, 200)}, out of the {self._what}"
        kind = next((word for test, word in _KINDS if test(mode)), None)
        if kind is not None:
            return f"is {kind}, no file"
        if not (spelled and is_utf8(name)):
            return "has a name that is no UTF-8"
        return ""

    def require(self, path: Path, what: str) -> None:
        """DatasetError for a file that is none of the dataset's, PermissionError for one that may not be read."""
        reason = self.why_not(path)
        if reason:
            raise DatasetError(
                f"The {what} {plain(os.fspath(path))} {reason}: it is not read.",
                expected="files of the dataset itself, or links within it (in the hub's cache: to its blobs)",
                fix=self.advice(reason),
            )
        require_readable(path)

    def advice(self, reason: str) -> str:
        """What to do about a file that is none of the dataset's."""
        if "link" in reason:
            where = shlex.quote(str(self.root))
            return (
                f"Look at its links: find {where} -type l. Where you trust them all: `cp -rL {where} COPY` makes a "
                "copy with the files in their place; use COPY."
            )
        if "UTF-8" in reason:
            return "Rename it; `ls -b` shows the bytes of a name."
        return "Remove it."


def require_readable(path: Path) -> None:
    """PermissionError for a file or folder that is there and may not be read; nothing for others."""
    if not may(path, os.R_OK) and path.exists():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(folder, names of folders, names of others), sorted, links to folders among the others; PermissionError for a
    folder that may not be read. Who takes names out of the folders' list leaves them out."""

    def refuse(error: OSError) -> None:
        raise error

    for here, folders, names in os.walk(folder, onerror=refuse):
        place = Path(here)
        linked = [name for name in folders if (place / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(linked))
        yield place, folders, sorted([*names, *linked])


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
