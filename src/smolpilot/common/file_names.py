"""Names that come from files and become parts of paths: checked before use; every path stays below its folder."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from .errors import DatasetError, UsageError
from .safe_text import plain

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
