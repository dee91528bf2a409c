"""Reading JSON, JSON lines and parquet so that damage becomes a finding, and what is whole is used all the same."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smolpilot.common.json_input import MAX_BYTES, MAX_LINE, MAX_LINES_BYTES, parse_json
from smolpilot.common.paths import require_readable
from smolpilot.common.text import format_bytes
from smolpilot.datasets.format.files import absurd_content
from smolpilot.datasets.format.parquet_files import parquet_file
from smolpilot.datasets.format.table_texts import broken_texts, mended

from .encodings import UTF16, decoded
from .found_dataset import Array, Recording
from .lerobot_types import LANGUAGE

_LFS_HEAD = b"version https://git-lfs.github.com/spec/"
_LARGE = 16 * 1024 * 1024


def whole(recording: Recording, path: Path, what: str, *, missing: str = "file-missing", **place: Any) -> bool:
    """Whether a file is there and has content of its own; otherwise a finding. PermissionError for one that may not be
    read."""
    name = recording.relative(path)
    reason = recording.places.why_not(path)
    if reason:
        fix = recording.places.advice(reason)
        recording.report(missing, f"The {what} {name} {reason}: it is not read.", fix=fix, **place)
        return False
    try:
        require_readable(path)
        if not path.is_file():
            recording.report(missing, f"The {what} {name} is missing.", **place)
            return False
        if path.stat().st_size == 0:
            recording.report("file-empty", f"The {what} {name} has 0 bytes.", **place)
            return False
        with path.open("rb") as file:
            pointer = file.read(len(_LFS_HEAD)) == _LFS_HEAD
    except PermissionError:
        # It is there: who may not read it cannot say what is wrong with it.
        raise
    except OSError as error:
        recording.report(missing, f"The {what} {name} cannot be read: {error.strerror}.", **place)
        return False
    if pointer:
        recording.report("lfs-pointer", f"The {what} {name} is a Git-LFS pointer, not the file.", **place)
    return not pointer


def json_object(recording: Recording, path: Path, what: str, code: str) -> dict[str, Any]:
    """One JSON object; an empty one when there is none."""
    if not whole(recording, path, what, missing=code):
        return {}
    if _too_large(recording, path, what, MAX_BYTES, code):
        return {}
    try:
        text, odd = decoded(path.read_bytes())
        value = parse_json(text)
    except (ValueError, OSError) as error:
        recording.report(code, f"The {what} {recording.relative(path)} is no JSON: {_short(error)}.")
        return {}
    if not isinstance(value, dict):
        recording.report(code, f"The {what} {recording.relative(path)} is no JSON object.")
        return {}
    _marked(recording, path, odd, what, code)
    return value


def _marked(recording: Recording, path: Path, odd: str, what: str, code: str) -> None:
    """The content is whole, and LeRobot does not read it all the same."""
    if odd:
        recording.report(code, f"The {what} {recording.relative(path)} {odd}: LeRobot cannot read it.")


def json_lines(recording: Recording, path: Path, what: str) -> list[dict[str, Any]]:
    """The whole lines of a file with one JSON object a line."""
    if not whole(recording, path, what, missing="meta-damaged"):
        return []
    if _too_large(recording, path, what, MAX_LINES_BYTES, "meta-damaged"):
        return []
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    odd = ""
    try:
        for number, (text, strange) in enumerate(_lines(path), 1):
            odd = strange or odd
            row = _row(text)
            if isinstance(row, dict):
                rows.append(row)
            elif text.strip():
                bad.append(number)
    except OSError as error:
        recording.report("meta-damaged", f"The {what} {recording.relative(path)} cannot be read: {error.strerror}.")
        return []
    _marked(recording, path, odd, what, "meta-damaged")
    if bad:
        where = f"line {bad[0]} is" if len(bad) == 1 else f"{len(bad)} lines, the first is {bad[0]}, are"
        recording.report("meta-damaged", f"In the {what} {recording.relative(path)} {where} no JSON object.")
    return rows


def _too_large(recording: Recording, path: Path, what: str, most: int, code: str) -> bool:
    size = path.stat().st_size
    if size > most:
        message = (
            f"The {what} {recording.relative(path)} has {format_bytes(size)}; at most {format_bytes(most)} are read."
        )
        recording.report(code, message)
    return size > most


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file and what is odd about their encoding; none is read further than `MAX_LINE`."""
    with path.open("rb") as file:
        if file.read(2) in UTF16:
            # Two bytes a letter: only the whole text has lines.
            file.seek(0)
            text, odd = decoded(file.read(MAX_BYTES))
            yield from ((line, odd) for line in text.split("\n"))
            return
        file.seek(0)
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                yield f"a line of more than {format_bytes(MAX_LINE)}", ""
                return
            yield decoded(line)


def _row(text: str) -> Any:
    try:
        return parse_json(text, most=MAX_LINE) if text.strip() else None
    except ValueError:
        return None


def parquet_table(recording: Recording, path: Path, what: str) -> pa.Table | None:
    """A table of the meta folder, None (with a finding) when it is damaged."""
    if not whole(recording, path, what, missing="meta-damaged"):
        return None
    try:
        file = parquet_file(path)
        absurd = absurd_content(path, file)
        if absurd:
            recording.report("meta-damaged", f"The {what} {recording.relative(path)} {absurd}.")
            return None
        table = file.read()
        for name in broken_texts(table):
            place = table.column_names.index(name)
            table = table.set_column(place, table.schema.field(place), mended(table.column(place)))
            message = f"The {what} {recording.relative(path)} holds text that is no UTF-8, in the column '{name}'."
            recording.report("meta-damaged", message)
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        message = f"The {what} {recording.relative(path)} is no whole parquet file: {_short(error)}."
        recording.report("meta-damaged", message)
        return None


def data_table(recording: Recording, path: Path, skip: set[str]) -> dict[str, Array] | None:
    """The columns of a data file as arrays `[N, …]`, those in `skip` left out; None when the file is damaged."""
    if path in recording.schemas or not whole(recording, path, "data file"):
        return None
    try:
        file = parquet_file(path)
        schema = file.schema_arrow
        # Threads cost more than they save in a small file, of which v2.x has one for every episode.
        columns_wanted = [name for name in schema.names if name not in skip and name not in LANGUAGE]
        absurd = absurd_content(path, file, columns_wanted)
        if absurd:
            recording.report("parquet-torn", f"The data file {recording.relative(path)} {absurd}.")
            return None
        table = file.read(columns=columns_wanted, use_threads=path.stat().st_size > _LARGE)
        recording.schemas[path] = schema
    except (pa.ArrowException, OSError, ValueError) as error:
        recording.report(
            "parquet-torn", f"The data file {recording.relative(path)} is torn or no parquet file: {_short(error)}."
        )
        return None
    columns: dict[str, Array] = {}
    for name in dict.fromkeys(table.column_names):
        if table.column_names.count(name) > 1:
            recording.report("column-undeclared", f"{recording.relative(path)} has the column '{name}' twice.")
            continue
        values = _array(recording, path, name, table[name])
        if values is not None:
            columns[name] = values
    return columns


def _array(recording: Recording, path: Path, name: str, column: pa.ChunkedArray) -> Array | None:
    """A column as numbers; an object array for texts; None (with a finding) when its rows have different lengths."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=column.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    count = len(values)
    where = f"The column '{name}' of {recording.relative(path)}"
    if values.null_count:
        empty = np.asarray(values.is_null().to_numpy(zero_copy_only=False))
        recording.nulls[path, name] = np.flatnonzero(empty).astype(np.int64)
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            return None
    width: list[int] = []
    while (
        pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type) or pa.types.is_large_list(values.type)
    ):
        inner = values.flatten()
        per_row = len(inner) / max(len(values), 1)
        lengths = None if pa.types.is_fixed_size_list(values.type) else values.value_lengths().to_numpy(False)
        if lengths is not None and len(lengths) and (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            recording.report(
                "column-shape",
                f"{where} has rows of different lengths: {lengths[0]} numbers, then {lengths[row]} in row {row}.",
            )
            return None
        width.append(round(per_row))
        values = inner
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
        return _texts(column) if not width else None
    if values.null_count and pa.types.is_integer(values.type):
        values = values.fill_null(-1)
    numbers = np.asarray(values.to_numpy(zero_copy_only=False))
    shape = (count, *width)
    return numbers.reshape(shape) if numbers.size == math.prod(shape) else None


def _texts(column: pa.ChunkedArray) -> Array:
    """Texts (or whatever is no number) as objects, each of which is kept once."""
    try:
        coded = column.combine_chunks().dictionary_encode()
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        known = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
        places = np.asarray(coded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False))
        texts: Array = known[places]
        return texts
    except (pa.ArrowException, TypeError, ValueError, AttributeError):
        found = np.empty(len(column), dtype=object)
        found[:] = (mended(column) if broken_texts(pa.table({"": column})) else column).to_pylist()
        return found


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Arrow goes on to advise; what is wrong stands in its first sentence, after the path that we name ourselves.
    return re.sub(r"Could not open Parquet input source '[^']*': ", "", text).split(". ")[0].rstrip(".")[:160]
