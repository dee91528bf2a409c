"""Metrics to wandb or trackio, besides metrics.jsonl and TensorBoard: only when asked for, offline unless told.

Both are imported when a run asks for them. wandb writes into OUT/wandb without network unless WANDB_MODE says otherwise
(`wandb sync` uploads later); trackio keeps its own local database unless TRACKIO_SPACE_ID names a space.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any, Literal, Protocol

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import TrainingError
from smolpilot.common.json_input import read_json_file

Track = Literal["wandb", "trackio"]
_NOTE = "tracking.json"  # the run's number at the tracker, so that a resumed run continues in the same one
PROJECT = "smolpilot"


class Tracker(Protocol):
    """A run at the tracker: wandb's, or trackio itself."""

    def log(self, values: dict[str, float], *, step: int) -> object:
        """Add the numbers of a step."""
        ...

    def finish(self) -> object:
        """Put everything where it belongs."""
        ...


def open_tracker(kind: Track, out: Path, config: dict[str, Any]) -> Tracker:
    """The tracker of the run in `out`; TrainingError when the package is not installed or does not start."""
    module = require(kind)
    number = _number(out)
    try:
        return (_wandb if kind == "wandb" else _trackio)(module, out, number, config)
    except Exception as error:  # whatever the package raises: a run should say it in one line
        raise TrainingError(
            f"{kind} does not start: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            fix="leave --track out: metrics.jsonl and TensorBoard hold the same numbers",
        ) from error


def require(kind: Track) -> Any:
    """The package; TrainingError when it is not installed."""
    try:
        return __import__(kind)
    except ImportError as error:
        raise TrainingError(
            f"--track {kind} needs {kind}, which is not installed.",
            fix=f"pip install {kind}, or leave --track out: metrics.jsonl and TensorBoard hold the same numbers",
        ) from error


def _wandb(wandb: Any, out: Path, number: str, config: dict[str, Any]) -> Tracker:
    mode = os.environ.get("WANDB_MODE", "offline")
    run: Tracker = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), name=out.name, id=number, dir=str(out), mode=mode,
        resume=None if mode == "offline" else "allow", config=config,
        settings=wandb.Settings(console="off", silent=True),
    )  # fmt: skip
    return run


def _trackio(trackio: Any, out: Path, number: str, config: dict[str, Any]) -> Tracker:
    space = os.environ.get("TRACKIO_SPACE_ID")
    trackio.init(
        project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=f"{out.name}-{number}", config=config,
        resume="allow", **({"space_id": space} if space else {}),
    )  # fmt: skip
    tracker: Tracker = trackio
    return tracker


def _number(out: Path) -> str:
    path = out / _NOTE
    if path.is_file():
        try:
            return str(read_json_file(path)["id"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"The name of the run on the tracker, {path}, cannot be read: {error}",
                fix="remove the file: the metrics continue as a new run there",
            ) from error
    number = uuid.uuid4().hex[:8]
    write_text_atomic(path, json.dumps({"id": number}) + "\n")
    return number
