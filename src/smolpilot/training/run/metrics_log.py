"""What a run measured, line by line in metrics.jsonl and as curves for TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import flush, write_text_atomic
from smolpilot.common.errors import TrainingError
from smolpilot.common.json_input import MAX_BYTES, parse_json, to_plain
from smolpilot.common.text import format_bytes

from .tracking import Tracker

_OF_VALIDATION = ("validation", "stopped_early")


class MetricsLog:
    """Appends {"step", "kind", ...} lines; a run that resumes at `step` first drops the lines beyond it.

    `validated_at` is the last step whose validation the run knows of; a later one is made again. None: `step`.
    """

    def __init__(
        self, folder: Path, *, step: int, validated_at: int | None = None, tracker: Tracker | None = None
    ) -> None:
        self._tracker = tracker
        self._path = folder / "metrics.jsonl"
        if self._path.exists():
            self._cut(step, step if validated_at is None else validated_at)
        self._file = self._path.open("a", encoding="utf-8")
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard hides what an earlier part of the run wrote from this step on.
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """Add one line; numbers also become TensorBoard scalars `<kind>/<name>`, and go to the tracker."""
        self._file.write(json.dumps(to_plain({"step": step, "kind": kind, **values})) + "\n")
        self._file.flush()
        numbers = _flat(kind, values)
        for name, value in numbers:
            self._board.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(dict(numbers), step=step)

    def close(self) -> None:
        """Put everything on disk."""
        flush(self._file)
        self._file.close()
        self._board.close()
        if self._tracker is not None:
            self._tracker.finish()

    def _cut(self, step: int, validated_at: int) -> None:
        # Training lines of the step come before its checkpoint; its validation may come after.
        kept = [
            json.dumps(line)
            for line in read_metrics(self._path)
            if line["step"] <= (min(step, validated_at) if line.get("kind") in _OF_VALIDATION else step)
        ]
        write_text_atomic(self._path, "".join(f"{line}\n" for line in kept))


class SilentLog(MetricsLog):
    """Writes nothing: only rank 0 logs."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_metrics(path: Path, *, strict: bool = True) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a torn last line (the process was killed in it) is left out.

    Another damaged line is a TrainingError, or where not `strict` is left out, too.
    """
    if path.stat().st_size > MAX_BYTES:
        raise TrainingError(
            f"{path} has {format_bytes(path.stat().st_size)}.",
            expected=f"the lines of a run, at most {format_bytes(MAX_BYTES)}",
        )
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    values: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            value = parse_json(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            values.append(value)
        elif strict and number < len(lines):
            raise TrainingError(f"Line {number} of {path} is damaged.", fix="remove that line")
    return values


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _flat(f"{prefix}/{key}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found.append((f"{prefix}/{key}", float(value)))
    return found
