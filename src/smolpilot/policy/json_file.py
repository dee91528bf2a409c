"""JSON files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smolpilot.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; CheckpointError names the file and the defect."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        pointer = path.read_bytes().startswith(b"version https://git-lfs")
        problem = "a Git-LFS pointer, not the file itself" if pointer else f"no valid JSON ({error})"
        raise CheckpointError(f"{path} is {problem}.", fix="copy or download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object.")
    return values
