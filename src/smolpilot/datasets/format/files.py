"""Reading the files of a dataset folder, with one clear error for each way in which they can be broken."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.errors import DatasetError
from smolpilot.common.json_input import MAX_LINE, MAX_LINES_BYTES, parse_json, read_json_file
from smolpilot.common.text import format_bytes, plain

from .parquet_files import DAMAGED, parquet_file
from .table_texts import broken_texts

# How it came to this is not known here: the same file may be as bad where it comes from.
GET_AGAIN = "or get the file anew from where the dataset comes from, if it is whole there."

type FileState = Literal["whole", "missing", "empty", "pointer"]

# Of a table: recorded numbers take a byte each at least, also packed; below these sizes nothing needs to be refused.
_MANY_VALUES, _VALUES_PER_BYTE = 100_000_000, 16
_MUCH, _PACKED = 2_000_000_000, 200

_LFS_HEAD = b"version https://git-lfs.github.com/spec/"
_PARQUET_MAGIC = b"PAR1"


def file_state(path: Path) -> FileState:
    """Whether `path` is a real, non-empty file: not missing, not empty, not a Git-LFS pointer."""
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size == 0:
        return "empty"
    if size < 1024:
        with path.open("rb") as file:
            if file.read(len(_LFS_HEAD)) == _LFS_HEAD:
                return "pointer"
    return "whole"


def require_file(path: Path, what: str) -> Path:
    """Check that `path` is a real, non-empty file: not missing, not a Git-LFS pointer."""
    state = file_state(path)
    if state == "whole":
        return path
    raise absent_file(path, what, state)


def absent_file(path: Path, what: str, state: FileState) -> DatasetError:
    """The error for one file that is missing, empty or a Git-LFS pointer."""
    if state == "pointer":
        return DatasetError(
            f"The {what} {path} is a Git-LFS pointer of {path.stat().st_size} bytes, not the file itself.",
            expected="the file that the pointer stands for",
            fix=lfs_advice(path),
        )
    if state == "empty":
        return DatasetError(
            f"The {what} {path} is empty (0 bytes).", expected="a whole file", fix=fetch_advice(dataset_root(path))
        )
    return DatasetError(
        f"The {what} {path} is missing.",
        expected="every file that the dataset's meta folder names",
        fix=fetch_advice(dataset_root(path)),
    )


def dataset_root(path: Path) -> Path:
    """The dataset folder that a file lies in: the nearest one with a meta folder."""
    return next((parent for parent in path.parents if (parent / "meta").is_dir()), path.parent)


def lfs_advice(path: Path) -> str:
    """How to get the files that Git-LFS pointers in the dataset of `path` stand for."""
    root = path if (path / "meta").is_dir() else dataset_root(path)
    command = f"`git -C {shlex.quote(str(root))} lfs pull` fetches the files"
    if any((folder / ".git").exists() for folder in (root, *root.parents)):
        return f"{command}."
    return (
        f"{command} where the folder is a Git clone; it is none here: run `git lfs pull` in the clone, "
        "or download the dataset."
    )


def fetch_advice(root: Path) -> str:
    """How to get files of a dataset that are not on this machine."""
    return (
        "Copy what is missing from where the dataset was recorded, or, if it is on the Hub: "
        f"`hf download OWNER/NAME --repo-type dataset --local-dir {shlex.quote(str(root))}`."
    )


def repair_advice(root: Path, what: str = "makes a copy of what is whole") -> str:
    """The command that repairs a copy of the dataset."""
    return f"`smolpilot dataset repair {shlex.quote(str(root))} DST` {what}."


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read one JSON object."""
    require_file(path, what)
    try:
        value = read_json_file(path)
    except ValueError as error:
        raise DatasetError(
            f"The {what} {path} is not valid JSON: {error}.", expected="one JSON object", fix=_again(path)
        ) from error
    if not isinstance(value, dict):
        raise DatasetError(f"The {what} {path} is not a JSON object.", expected="one JSON object", fix=_again(path))
    return value


def read_jsonl(path: Path, what: str) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line."""
    return list(iter_jsonl(path, what))


def iter_jsonl(path: Path, what: str) -> Iterator[dict[str, Any]]:
    """The objects of a file with one of them per line, one after another."""
    require_file(path, what)
    if path.stat().st_size > MAX_LINES_BYTES:
        raise DatasetError(
            f"The {what} {path} has {format_bytes(path.stat().st_size)}.",
            expected=f"one JSON object in each line, at most {format_bytes(MAX_LINES_BYTES)} of them",
            fix=_again(path),
        )
    number, line = 0, b""
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if line.strip():
                    row = parse_json(line, most=MAX_LINE)
                    if not isinstance(row, dict):
                        raise ValueError("it is not an object")
                    yield row
    except ValueError as error:
        # Only the last line of a file can lack its end.
        if line and not line.endswith(b"\n") and len(line) <= MAX_LINE:
            found = f"The {what} {path} is torn: its last line stops in the middle."
        else:
            found = f"The {what} {path} cannot be read: line {number} is no JSON object ({error})."
        raise DatasetError(found, expected="one JSON object in each line", fix=_again(path)) from error


def open_parquet(path: Path, what: str) -> pq.ParquetFile:
    """Open a parquet file (its footer only)."""
    require_file(path, what)
    with reading(path, what):
        file = parquet_file(path)
        names = file.schema_arrow.names  # raises ValueError where a name is no UTF-8
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(
            f"The {what} {path} has the column '{plain(twice, 100)}' more than once.",
            expected="columns of different names",
            fix=repair_advice(dataset_root(path), "makes an index column anew and leaves other doubled ones out"),
        )
    return file


def read_parquet(path: Path, what: str, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file, or some of its columns."""
    file = open_readable(path, what, columns)
    with reading(path, what):
        return file.read(columns=columns)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """What Arrow stumbles over while a parquet file is read in parts becomes a DatasetError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _torn(path, what, error) from error


def read_meta_table(path: Path, what: str, columns: list[str] | None = None) -> pa.Table:
    """Read a table of the meta folder, or some of its columns; DatasetError also for text that is no UTF-8."""
    table = read_parquet(path, what, columns)
    if broken := broken_texts(table):
        raise broken_text(path, what, broken[0])
    return table


def broken_text(path: Path, what: str, column: str) -> DatasetError:
    """The error for text in a table that is no UTF-8."""
    return DatasetError(
        f"The {what} {path} holds text that is no UTF-8, in the column '{plain(column, 100)}'.",
        expected="text in UTF-8",
        fix=repair_advice(dataset_root(path), "makes a copy in which such bytes are replaced"),
    )


def open_readable(path: Path, what: str, columns: list[str] | None = None) -> pq.ParquetFile:
    """Open a parquet file whose content, or some columns of it, is to be read: not one that would fill the memory."""
    file = open_parquet(path, what)
    absurd = absurd_content(path, file, columns)
    if absurd:
        raise DatasetError(
            f"The {what} {path} {absurd}.",
            expected="a table that fits into memory",
            fix=_others(dataset_root(path), path) or _again(path),
        )
    return file


def absurd_content(path: Path, file: pq.ParquetFile, columns: Collection[str] | None = None) -> str:
    """What a parquet file, or the named columns of it, would fill memory with, in words; empty for what can be meant.

    By the footer alone: runs of equal values and packed texts make 17 MB of what has 600 million rows.
    """
    footer, size, values, content = file.metadata, path.stat().st_size, 0, 0
    inside = {name for name in file.schema_arrow.names if columns is None or name in columns}
    # A column of lists or of structs has its parts below its name, which may hold a dot of its own.
    places = [i for i in range(footer.num_columns) if _top(footer.schema.column(i).path, inside)]
    for group in range(footer.num_row_groups):
        part = footer.row_group(group)
        for place in places:
            column = part.column(place)
            values += column.num_values
            content += column.total_uncompressed_size
    if values > max(_MANY_VALUES, _VALUES_PER_BYTE * size):
        return f"holds {values:,} values in {format_bytes(size)}"
    if content > max(_MUCH, _PACKED * size):
        return f"holds {format_bytes(content)} packed into {format_bytes(size)}"
    return ""


def _top(path: str, names: set[str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:count]) in names for count in range(1, len(parts) + 1))


def has_footer(path: Path) -> bool:
    """Whether a parquet file was written to its end: its last bytes are those of a footer."""
    if file_state(path) != "whole" or path.stat().st_size < 12:
        return False
    with path.open("rb") as file:
        file.seek(-4, 2)
        return file.read(4) == _PARQUET_MAGIC


def _torn(path: Path, what: str, error: Exception) -> DatasetError:
    root = dataset_root(path)
    with path.open("rb") as file:
        begins = file.read(4) == _PARQUET_MAGIC
    if begins and not has_footer(path):
        return _unfinished(root, path, what)
    why = "is torn or not a parquet file"
    if DAMAGED in str(error):
        why = "is damaged: a part of it is not what was written, by its checksum"
    return DatasetError(
        f"The {what} {path} {why}: {str(error).splitlines()[0]}",
        expected="a complete parquet file",
        fix=_others(root, path) or _again(path),
    )


def _unfinished(root: Path, path: Path, what: str) -> DatasetError:
    """A parquet file without its end: recorders write it when the recording is finished."""
    left = root / "images"
    alone = not _whole_tables(root)
    seen = left.is_dir() and any(path.is_file() for path in left.rglob("*"))
    found = f"The {what} {path} is torn: it has no footer. "
    if alone or seen:
        found += "The recording was interrupted" + (
            f"; images of an episode that was not finished are left in {left}." if seen else "."
        )
    else:
        found += "The recording was interrupted, or the file was not copied to its end."
    return DatasetError(
        found,
        expected="a complete parquet file: LeRobot 0.6 writes the end of its tables in `dataset.finalize()`",
        fix=_others(root, path)
        or "If the file is longer elsewhere, copy it again; otherwise record the episodes anew: "
        "without its footer a table cannot be read.",
    )


def _whole_tables(root: Path) -> list[Path]:
    return [path for path in sorted((root / "data").rglob("*.parquet")) if has_footer(path)]


def _others(root: Path, path: Path) -> str:
    """The repair that keeps the episodes of other data files; empty when there are none."""
    if "data" not in path.relative_to(root).parts[:1] or not any(other != path for other in _whole_tables(root)):
        return ""
    return repair_advice(root, "keeps the episodes of the other files")


def _again(path: Path) -> str:
    return repair_advice(dataset_root(path), "makes a copy in which it is made anew from the data, where that can be")
