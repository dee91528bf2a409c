"""The patterns `data_path` and `video_path` of meta/info.json: filled with numbers and a camera's key, nothing else."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path

_SPEC = re.compile(r"(0?[1-9])?d?", re.ASCII)
_MAX_NAME, _MAX_PATH = 255, 4_000  # of file systems, in bytes


def fill_template(template: str, names: Mapping[str, int | str]) -> Path:
    """The path that a pattern gives, relative to the dataset.

    A field is one of `names` as it is; a number may have a width up to 9, as `{episode_index:06d}`. ValueError, in
    words that follow "the pattern", for other fields and for what is no path inside of a folder.
    """
    parts = []
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"is not written as LeRobot does it ({error})") from None
    for text, field, spec, conversion in pieces:
        parts.append(text)
        if field is None:
            continue
        value = names.get(field)
        if value is None:
            raise ValueError(f"has the field '{field[:60]}', where {', '.join(names)} are known")
        if conversion or (spec and (isinstance(value, str) or not _SPEC.fullmatch(spec))):
            raise ValueError(f"fills '{field}' in a form that LeRobot does not use")
        parts.append(format(value, spec or ""))
    path = "".join(parts)
    if not path or "\0" in path or len(path.encode(errors="replace")) > _MAX_PATH:
        raise ValueError("gives no path")
    found = Path(path)
    if any(len(part.encode(errors="replace")) > _MAX_NAME for part in found.parts):
        raise ValueError(f"gives a name of over {_MAX_NAME} bytes")
    if found.is_absolute() or ".." in found.parts:
        raise ValueError("points out of the dataset")
    return found
