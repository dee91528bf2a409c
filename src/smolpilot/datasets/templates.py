"""The patterns of `info.json` that say where files are: filled with numbers and names, and with nothing else."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path

from smolpilot.file_names import MAX_BYTES, is_text

_WIDTH = re.compile(r"0?\d{0,2}d?|s")


class LeadsOutError(ValueError):
    """The path that a pattern gives is absolute, or goes up."""


def filled(template: str, names: Mapping[str, int | str]) -> Path:
    """The relative path that a pattern such as `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet` gives.

    A pattern is foreign text: a place may hold one of `names` and a width of up to two digits, no attribute, index or
    conversion. Raises ValueError for any other pattern, LeadsOutError for a path out of the folder.
    """
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is not None and (name not in names or conversion or not _WIDTH.fullmatch(form or "")):
            raise ValueError(f"'{name}' is none of {', '.join(names)}, or has another form than 03d")
    text = template.format(**names)
    path = Path(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text:
        raise LeadsOutError("it leads out of the dataset")
    if not path.parts or not is_text(text):
        raise ValueError("it gives no name of a file")
    if any(len(part.encode()) > MAX_BYTES for part in path.parts):
        raise ValueError(f"it gives a name of more than {MAX_BYTES} bytes")
    return path
