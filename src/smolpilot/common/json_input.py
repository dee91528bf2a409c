"""JSON that others wrote, parsed within limits of size and depth: a hostile file is one error, like a torn one.

Also our own values as JSON and YAML can hold them.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .text import format_bytes

MAX_BYTES = 256_000_000
"""Of a JSON file: the largest that is known, the statistics of a dataset of 100,000 features, has a fifth of it."""
MAX_LINE = 64_000_000
"""Of one line of a JSON-lines file."""
MAX_LINES_BYTES = 4_000_000_000
"""Of a JSON-lines file, which is read line by line."""
MAX_DEPTH = 100
"""Of brackets in brackets. What writes and shows values calls itself for each, and Python stops at 1,000."""


def parse_json(text: str | bytes, *, most: int = MAX_BYTES) -> Any:
    """The value of a JSON text. Raises ValueError, for every defect: syntax, bytes that are no UTF-8, depth, a size
    over `most` (a line is read as `file.readline(MAX_LINE + 1)`), numbers of too many digits, half of a surrogate pair.
    """
    if len(text) > most:
        raise ValueError(f"{format_bytes(len(text))} of JSON or more; at most {format_bytes(most)} are read")
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"brackets within brackets, deeper than {MAX_DEPTH}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if "\\u" in text or "\\U" in text:
        _check_text(value)
    return value


def read_json_file(path: Path) -> Any:
    """The value of a JSON file in UTF-8, with or without a byte order mark. Raises OSError, and ValueError as
    `parse_json` does; the kind and size are looked at before the file is read: a device has no end.
    """
    facts = path.stat()
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, no file")
    if facts.st_size > MAX_BYTES:
        raise ValueError(f"{format_bytes(facts.st_size)} of JSON; at most {format_bytes(MAX_BYTES)} are read")
    return parse_json(path.read_bytes())


def read_json_object(path: Path) -> dict[str, Any]:
    """The value of a file as `read_json_file` reads it; ValueError also where it is no object."""
    value = read_json_file(path)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def to_plain(value: Any) -> Any:
    """The value as JSON and YAML can hold it: arrays and tuples are lists, paths texts, NaN and infinities null.

    Of a dataclass what is open (None or empty) is left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = ((item.name, getattr(value, item.name)) for item in dataclasses.fields(value))
        return {name: to_plain(entry) for name, entry in entries if entry is not None and entry not in ((), {})}
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return to_plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for part in level
            if isinstance(part, dict | list)
            for child in (part.values() if isinstance(part, dict) else part)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"brackets within brackets, deeper than {MAX_DEPTH}")


def _check_text(value: Any) -> None:
    """JSON can spell half of a surrogate pair, which is no character: no file and no terminal takes it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        where = str(error.object)[max(0, error.start - 30) : error.start + 1]
        raise ValueError(f"half of a surrogate pair, which is no character: {where!r}") from None
