"""Reading the files of a dataset folder, with one clear error for each way in which they can be broken."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.errors import DatasetError

_PARQUET_END = b"PAR1"
_LFS_HEAD = b"version https://git-lfs.github.com/spec/"
_LFS_FIX = "Run `git lfs pull` in the dataset's repository (or download the dataset again)."
# How it came to this is not known here: the same file may be as bad where it comes from.
GET_AGAIN = "or get the file anew from where the dataset comes from, if it is whole there."
MISSING_FIX = (
    "Get the file from where the dataset comes from, if it is there; or `smolpilot dataset repair SRC DST` makes a "
    "copy of what is here."
)
_UNREADABLE = f"`smolpilot dataset repair SRC DST` makes a copy of what can be read; {GET_AGAIN}"


def require_file(path: Path, what: str) -> Path:
    """Check that `path` is a real, non-empty file: not missing, not a Git-LFS pointer."""
    if not path.is_file():
        raise DatasetError(
            f"The {what} {path} is missing.",
            expected="every file that the dataset's meta folder names",
            fix=MISSING_FIX,
        )
    size = path.stat().st_size
    if size == 0:
        raise DatasetError(f"The {what} {path} is empty (0 bytes).", fix=_UNREADABLE)
    if size < 1024:
        with path.open("rb") as file:
            head = file.read(len(_LFS_HEAD))
        if head == _LFS_HEAD:
            raise DatasetError(
                f"The {what} {path} is a Git-LFS pointer of {size} bytes, not the file itself.",
                expected="the file that the pointer stands for",
                fix=_LFS_FIX,
            )
    return path


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read one JSON object."""
    require_file(path, what)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"The {what} {path} is not valid JSON: {error}.", fix=_UNREADABLE) from error
    if not isinstance(value, dict):
        raise DatasetError(f"The {what} {path} is not a JSON object.", fix=_UNREADABLE)
    return value


def read_jsonl(path: Path, what: str) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line."""
    return list(iter_jsonl(path, what))


def iter_jsonl(path: Path, what: str) -> Iterator[dict[str, Any]]:
    """The objects of a file with one of them per line, one after another."""
    require_file(path, what)
    number, line = 0, ""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("it is not an object")
                    yield row
    except (ValueError, UnicodeDecodeError) as error:
        # Only the last line of a file can lack its end.
        if line and not line.endswith("\n"):
            found = f"The {what} {path} is torn: its last line stops in the middle."
        else:
            found = f"The {what} {path} cannot be read: line {number} is no JSON object ({error})."
        raise DatasetError(found, expected="one JSON object in each line", fix=_UNREADABLE) from error


def open_parquet(path: Path, what: str) -> pq.ParquetFile:
    """Open a parquet file (its footer only)."""
    require_file(path, what)
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _torn(path, what, error) from error


def read_parquet(path: Path, what: str, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file, or some of its columns."""
    file = open_parquet(path, what)
    try:
        return file.read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _torn(path, what, error) from error


def _torn(path: Path, what: str, error: Exception) -> DatasetError:
    if not _has_end(path):
        return DatasetError(
            f"The {what} {path} is torn: it does not end as a parquet file does.",
            expected="a complete parquet file (a crash while recording leaves it without its footer)",
            fix=_UNREADABLE,
        )
    return DatasetError(
        f"The {what} {path} cannot be read: {str(error).splitlines()[0]}",
        expected="a parquet file of which every column can be read",
        fix=_UNREADABLE,
    )


def _has_end(path: Path) -> bool:
    """Whether a file ends with parquet's mark."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PARQUET_END), os.SEEK_END)
            return file.read() == _PARQUET_END
    except OSError:
        return False
