"""JSON files of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolpilot.common.errors import CheckpointError
from smolpilot.common.json_input import parse_json, read_json_file
from smolpilot.common.text import plain

from .settings_form import RESTORE

_POINTER = b"version https://git-lfs"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; CheckpointError names the file and the defect."""
    try:
        return _object(read_json_file(path), path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise _no_json(path, error, is_pointer(path)) from error


def parse_object(content: bytes, where: object) -> dict[str, Any]:
    """The same for what was read already; `where` is its name in messages."""
    try:
        return _object(parse_json(content), where)
    except ValueError as error:
        raise _no_json(where, error, content.startswith(_POINTER)) from error


def is_pointer(path: Path) -> bool:
    """Whether a file is the note that Git-LFS leaves where it did not fetch the file itself."""
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _object(values: Any, where: object) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise CheckpointError(f"{where} holds no JSON object.", fix=RESTORE)
    return values


def _no_json(where: object, error: ValueError, pointer: bool) -> CheckpointError:
    problem = "a Git-LFS pointer, not the file itself" if pointer else f"no valid JSON ({plain(error, 200)})"
    return CheckpointError(f"{where} is {problem}.", fix="copy or download it again")
