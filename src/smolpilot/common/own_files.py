"""Which files of a foreign folder are its own: links are followed within it and into the hub's cache, no further."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import DatasetError
from .file_names import is_utf8
from .safe_text import plain
from .system_errors import may

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Places:
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
