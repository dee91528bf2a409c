"""Reading the files of a dataset folder, with one clear report for each way in which they can be broken.

Who passes no `Problems` gets a DatasetError for the first of them.
"""

from __future__ import annotations

import codecs
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.common.errors import DatasetError
from smolpilot.common.json_input import MAX_BYTES, MAX_LINE, MAX_LINES_BYTES, parse_json
from smolpilot.common.text import format_bytes, plain

from .parquet_files import DAMAGED, broken_texts, group_facts, mended, parquet_file
from .problems import REFUSE, Problems

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


def is_whole(
    path: Path, what: str, problems: Problems = REFUSE, *, missing: str = "file-missing", **place: Any
) -> bool:
    """Whether `path` is a real, non-empty file of the dataset's own: not missing, not a Git-LFS pointer.

    PermissionError for one that may not be read: it is there.
    """
    if not problems.opens(path, what, missing, **place):
        return False
    try:
        state = file_state(path)
    except PermissionError:
        raise
    except OSError as error:
        problems.report(missing, f"The {what} {problems.named(path)} cannot be read: {error.strerror}.", **place)
        return False
    if state != "whole":
        code = {"missing": missing, "empty": "file-empty", "pointer": "lfs-pointer"}[state]
        problems.report_error(code, absent_file(path, what, state, problems.named(path)), **place)
    return state == "whole"


def absent_file(path: Path, what: str, state: FileState, name: str) -> DatasetError:
    """The error for one file, called `name` in it, that is missing, empty or a Git-LFS pointer."""
    if state == "pointer":
        found = f"The {what} {name} is a Git-LFS pointer of {path.stat().st_size} bytes, not the file itself."
        return DatasetError(found, expected="the file that the pointer stands for", fix=lfs_advice(path))
    found, expected = f"The {what} {name} is missing.", "every file that the dataset's meta folder names"
    if state == "empty":
        found, expected = f"The {what} {name} is empty (0 bytes).", "a whole file"
    return DatasetError(found, expected=expected, fix=fetch_advice(dataset_root(path)))


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


def read_json(path: Path, what: str, problems: Problems = REFUSE, *, code: str = "meta-damaged") -> dict[str, Any]:
    """One JSON object; an empty one, with a report, when there is none."""
    if not is_whole(path, what, problems, missing=code):
        return {}
    name, expected, odd = problems.named(path), "one JSON object", ""
    value: Any = {}
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{format_bytes(size)} of JSON; at most {format_bytes(MAX_BYTES)} are read")
        text, odd = decode_text(path.read_bytes())
        value = parse_json(text)
    except (ValueError, OSError) as error:
        problems.report(code, f"The {what} {name} is not valid JSON: {error}.", expected=expected, advice=_again(path))
    if not isinstance(value, dict):
        problems.report(code, f"The {what} {name} is not a JSON object.", expected=expected, advice=_again(path))
        return {}
    _note_encoding(path, odd, what, code, problems)
    return value


def iter_jsonl(path: Path, what: str, problems: Problems = REFUSE) -> Iterator[dict[str, Any]]:
    """The objects of a file with one of them per line, one after another; lines that hold none are reported at last."""
    if not is_whole(path, what, problems, missing="meta-damaged"):
        return
    name, expected, odd = problems.named(path), "one JSON object in each line", ""
    if (size := path.stat().st_size) > MAX_LINES_BYTES:
        expected = f"{expected}, at most {format_bytes(MAX_LINES_BYTES)} of them"
        problems.report(
            "meta-damaged", f"The {what} {name} has {format_bytes(size)}.", expected=expected, advice=_again(path)
        )
        return
    bad: list[int] = []
    why, torn = "", False
    for number, (line, strange) in enumerate(_lines(path), 1):
        odd = strange or odd
        try:
            row = parse_json(line, most=MAX_LINE) if line.strip() else None
            if row is not None and not isinstance(row, dict):
                raise ValueError("it is not an object")
        except ValueError as error:
            bad.append(number)
            # Only the last line of a file can lack its end.
            why, torn = why or str(error), not line.endswith("\n") and len(line) <= MAX_LINE
            continue
        if row is not None:
            yield row
    if bad:
        where = f"line {bad[0]} is" if len(bad) == 1 else f"{len(bad)} lines, the first is {bad[0]}, are"
        message = f"In the {what} {name} {where} no JSON object ({why})."
        if torn and len(bad) == 1:
            message = f"The {what} {name} is torn: its last line stops in the middle."
        problems.report("meta-damaged", message, expected=expected, advice=_again(path))
    _note_encoding(path, odd, what, "meta-damaged", problems)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file and what is odd about their encoding; none is read further than `MAX_LINE`."""
    with path.open("rb") as file:
        if file.read(2) in UTF16:
            # Two bytes a letter: only the whole text has lines.
            file.seek(0)
            text, odd = decode_text(file.read(MAX_BYTES))
            yield from ((f"{line}\n", odd) for line in text.split("\n"))
            return
        file.seek(0)
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                yield line.decode("latin-1"), ""
                return
            yield decode_text(line)


def _note_encoding(path: Path, odd: str, what: str, code: str, problems: Problems) -> None:
    """The content is whole, and LeRobot does not read it all the same."""
    message = f"The {what} {problems.named(path)} {odd}: LeRobot cannot read it."
    if odd == BYTE_ORDER_MARK:
        problems.remark(code, message)
    elif odd:
        problems.report(code, message, expected="text in UTF-8", advice=_again(path))


def open_parquet(path: Path, what: str) -> pq.ParquetFile:
    """Open a parquet file (its footer only)."""
    is_whole(path, what)
    with reading(path, what):
        file = parquet_file(path)
        names = file.schema_arrow.names  # raises ValueError where a name is no UTF-8
    _refuse_doubled(names, path, what, REFUSE)
    return file


def _refuse_doubled(names: Sequence[str], path: Path, what: str, problems: Problems) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        problems.report(
            "column-undeclared",
            f"The {what} {problems.named(path)} has the column '{plain(twice, 100)}' more than once.",
            expected="columns of different names",
            advice=repair_advice(dataset_root(path), "makes an index column anew and leaves other doubled ones out"),
        )


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
        raise torn_file(path, what, error, str(path)) from error


def read_meta_table(
    path: Path, what: str, columns: Collection[str] | None = None, problems: Problems = REFUSE
) -> pa.Table | None:
    """A table of the meta folder, or those of some columns that it has; None, with a report, when it is damaged.

    Text that is no UTF-8 is reported, too, and such bytes replaced.
    """
    if not is_whole(path, what, problems, missing="meta-damaged"):
        return None
    name = problems.named(path)
    try:
        file = parquet_file(path)
        names = file.schema_arrow.names
        wanted = [one for one in dict.fromkeys(names) if columns is None or one in columns]
        if absurd := absurd_content(path, file, wanted):
            expected = "a table that fits into memory"
            problems.report("meta-damaged", f"The {what} {name} {absurd}.", expected=expected, advice=_again(path))
            return None
        table = file.read(columns=None if columns is None else wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        problems.report_error("meta-damaged", torn_file(path, what, error, name))
        return None
    _refuse_doubled(names, path, what, problems)
    for broken in broken_texts(table):
        problems.report(
            "meta-damaged",
            f"The {what} {name} holds text that is no UTF-8, in the column '{plain(broken, 100)}'.",
            expected="text in UTF-8",
            advice=repair_advice(dataset_root(path), "makes a copy in which such bytes are replaced"),
        )
        place = table.column_names.index(broken)
        table = table.set_column(place, table.schema.field(place), mended(table.column(place)))
    return table


def open_readable(path: Path, what: str, columns: list[str] | None = None) -> pq.ParquetFile:
    """Open a parquet file whose content, or some columns of it, is to be read: not one that would fill the memory."""
    file = open_parquet(path, what)
    with reading(path, what):
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
        for column in group_facts(file, group, places):
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


def has_files(folder: Path) -> bool:
    """Whether any file lies in a folder or below it."""
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))


def has_footer(path: Path) -> bool:
    """Whether a parquet file was written to its end: its last bytes are those of a footer."""
    return file_state(path) == "whole" and _ends(path) == (True, True)


def without_footer(path: Path) -> bool:
    """Whether a parquet file that was begun lacks its end, which is written last."""
    return _ends(path) == (True, False)


def _ends(path: Path) -> tuple[bool, bool]:
    """Whether a file begins and ends as parquet does."""
    try:
        with path.open("rb") as file:
            begins = file.read(4) == _PARQUET_MAGIC
            file.seek(max(path.stat().st_size - 4, 4))
            return begins, file.read() == _PARQUET_MAGIC
    except OSError:
        return False, False


def torn_file(path: Path, what: str, error: Exception, name: str) -> DatasetError:
    """The error for a parquet file, called `name` in it, that cannot be read."""
    root = dataset_root(path)
    if without_footer(path):
        return _unfinished(root, path, what, name)
    why = "is torn or not a parquet file"
    if DAMAGED in str(error):
        why = "is damaged: a part of it is not what was written, by its checksum"
    found = f"The {what} {name} {why}: {_reason(error)}."
    return DatasetError(found, expected="a complete parquet file", fix=_others(root, path) or _again(path))


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Arrow goes on to advise; what is wrong stands in its first sentence, after the path that is named already.
    return re.sub(r"Could not open Parquet input source '[^']*': ", "", text).split(". ")[0].rstrip(".")[:160]


def _unfinished(root: Path, path: Path, what: str, name: str) -> DatasetError:
    """A parquet file without its end: recorders write it when the recording is finished."""
    left = root / "images"
    alone = not _whole_tables(root)
    seen = has_files(left)
    found = f"The {what} {name} is torn: it has no footer. "
    if alone or seen:
        found += "The recording was interrupted" + (
            f"; images of an episode that was not finished are left in {left}." if seen else "."
        )
    else:
        found += "The recording was interrupted, or the file was not copied to its end."
    expected = "a complete parquet file: LeRobot 0.6 writes the end of its tables in `dataset.finalize()`"
    fix = (
        "If the file is longer elsewhere, copy it again; otherwise record the episodes anew: "
        "without its footer a table cannot be read."
    )
    return DatasetError(found, expected=expected, fix=_others(root, path) or fix)


def _whole_tables(root: Path) -> list[Path]:
    return [path for path in sorted((root / "data").rglob("*.parquet")) if has_footer(path)]


def _others(root: Path, path: Path) -> str:
    """The repair that keeps the episodes of other data files; empty when there are none."""
    if "data" not in path.relative_to(root).parts[:1] or not any(other != path for other in _whole_tables(root)):
        return ""
    return repair_advice(root, "keeps the episodes of the other files")


def _again(path: Path) -> str:
    return repair_advice(dataset_root(path), "makes a copy in which it is made anew from the data, where that can be")


BYTE_ORDER_MARK = "begins with a byte order mark"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(content: bytes) -> tuple[str, str]:
    """(text, what is odd about its encoding); plain UTF-8 is not odd. Bytes that are no UTF-8 are Windows-1252."""
    if content.startswith(UTF16):
        return content.decode("utf-16", errors="replace"), "is UTF-16"
    odd = BYTE_ORDER_MARK if content.startswith(codecs.BOM_UTF8) else ""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8"), odd
    except UnicodeDecodeError:
        text = content.decode("utf-8", errors="surrogateescape")
    return "".join(map(_western, text)), "is not UTF-8"


def _western(letter: str) -> str:
    if not "\udc80" <= letter <= "\udcff":
        return letter
    return bytes([ord(letter) - 0xDC00]).decode("cp1252", errors="replace")
