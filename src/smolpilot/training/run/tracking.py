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
_NOTE = "tracking.json"  # the run's number at the tracker, so that a resumed run goes on in the same one
PROJECT = "smolpilot"


class Tracker(Protocol):
    """Takes numbers by step."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the numbers of a step."""
        ...

    def close(self) -> None:
        """Put everything where it belongs."""
        ...


def open_tracker(kind: Track, out: Path, config: dict[str, Any]) -> Tracker:
    """The tracker of the run in `out`; TrainingError when the package is not installed or does not start."""
    module = require(kind)
    number = _number(out)
    try:
        return _Wandb(module, out, number, config) if kind == "wandb" else _Trackio(module, out, number, config)
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


class _Wandb:
    def __init__(self, wandb: Any, out: Path, number: str, config: dict[str, Any]) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        settings = wandb.Settings(console="off", silent=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=out.name, id=number, dir=str(out), mode=mode,
            resume=None if mode == "offline" else "allow", config=config, settings=settings,
        )  # fmt: skip

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, trackio: Any, out: Path, number: str, config: dict[str, Any]) -> None:
        space = os.environ.get("TRACKIO_SPACE_ID")
        self._trackio = trackio
        trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=f"{out.name}-{number}", config=config,
            resume="allow", **({"space_id": space} if space else {}),
        )  # fmt: skip

    def write(self, step: int, values: dict[str, float]) -> None:
        self._trackio.log(values, step=step)

    def close(self) -> None:
        self._trackio.finish()


def _number(out: Path) -> str:
    path = out / _NOTE
    if path.is_file():
        try:
            return str(read_json_file(path)["id"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"The name of the run on the tracker, {path}, cannot be read: {error}",
                fix="remove the file: the metrics go on as a new run there",
            ) from error
    number = uuid.uuid4().hex[:8]
    write_text_atomic(path, json.dumps({"id": number}) + "\n")
    return number
