"""Reading the files of a dataset folder, with one clear error for each way in which they can be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.errors import DatasetError

_LFS_HEAD = b"version https://git-lfs.github.com/spec/"
_LFS_FIX = "Run `git lfs pull` in the dataset's repository (or download the dataset again)."


def require_file(path: Path, what: str) -> Path:
    """Check that `path` is a real, non-empty file: not missing, not a Git-LFS pointer."""
    if not path.is_file():
        raise DatasetError(
            f"The {what} {path} is missing.",
            expected="every file that the dataset's meta folder names",
            fix="Copy or download the dataset again, complete.",
        )
    size = path.stat().st_size
    if size == 0:
        raise DatasetError(f"The {what} {path} is empty (0 bytes).", fix="Copy or download the dataset again.")
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
        raise DatasetError(f"The {what} {path} is not valid JSON: {error}.", fix=_AGAIN) from error
    if not isinstance(value, dict):
        raise DatasetError(f"The {what} {path} is not a JSON object.", fix=_AGAIN)
    return value


def read_jsonl(path: Path, what: str) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line."""
    require_file(path, what)
    rows: list[dict[str, Any]] = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not an object")
                rows.append(row)
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"The {what} {path} is torn or not JSON lines: {error}.", fix=_AGAIN) from error
    return rows


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
    return DatasetError(
        f"The {what} {path} is torn or not a parquet file: {str(error).splitlines()[0]}",
        expected="a complete parquet file (a crash while recording leaves it without its footer)",
        fix=_AGAIN,
    )


_AGAIN = "Copy or download the file again, or record the dataset anew."
