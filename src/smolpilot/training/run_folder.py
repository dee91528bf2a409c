"""The run folder: config.yaml, environment.json, metrics.jsonl, tensorboard/, checkpoints/."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pydantic
import yaml

from smolpilot.atomic import atomic_folder, write_text_atomic
from smolpilot.errors import UsageError, did_you_mean

from .options import TrainOptions
from .sources import Source

CONFIG = "config.yaml"
PROCESS = "process.json"


def create(out: Path, options: TrainOptions, environment: dict[str, Any]) -> None:
    """Make the run folder with what is known before the first step; UsageError when `out` exists."""
    refuse_existing(out)
    with atomic_folder(out) as beside:
        (beside / CONFIG).write_text(config_text(options), encoding="utf-8")
        (beside / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
        (beside / "checkpoints").mkdir()


@contextmanager
def noted_process(out: Path) -> Iterator[None]:
    """Note in the run folder which process trains, so that `smolpilot status` can tell whether it lives.

    UsageError while another process trains there: two would write over each other's lines and checkpoints.
    """
    process, other = psutil.Process(), living_process(out)
    if other is not None and other.pid != process.pid:
        raise UsageError(
            f"Process {other.pid} trains in {out} already.",
            expected="one process for a run",
            fix=f"look at it with `smolpilot status {out}`, or stop it first",
        )
    values = {"pid": process.pid, "created": process.create_time()}
    write_text_atomic(out / PROCESS, json.dumps(values) + "\n")
    try:
        yield
    finally:
        (out / PROCESS).unlink(missing_ok=True)


def living_process(out: Path) -> psutil.Process | None:
    """The process that the run noted, if it still is that process."""
    try:
        noted = json.loads((out / PROCESS).read_text(encoding="utf-8"))
        process = psutil.Process(int(noted["pid"]))
        same = abs(process.create_time() - float(noted["created"])) < 1 and process.is_running()
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def refuse_existing(out: Path) -> None:
    """A run never writes into a folder that is there already, unless it goes on with it; nor where it may not."""
    if not out.exists() and not out.is_symlink():
        above = next(parent for parent in out.absolute().parents if parent.exists())
        if not above.is_dir():
            raise UsageError(f"--out {out} lies below {above}, which is a file.", fix="choose another --out")
        if not os.access(above, os.W_OK | os.X_OK):
            raise UsageError(f"--out {out} cannot be made: {above} is not yours to write.", fix="choose another --out")
        return
    if (out / CONFIG).is_file():
        raise UsageError(
            f"{out} holds a run already.",
            fix=f"go on with it: smolpilot train --resume --out {out}; or choose another --out",
        )
    raise UsageError(f"{out} exists already.", fix="choose a folder that does not exist yet")


def config_text(options: TrainOptions) -> str:
    """The options as YAML that `--config` reads back; keys without a value are left out."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if item.name not in ("resume", "overfit") and value is not None and value not in ({}, ()):
            values[item.name] = _plain(value)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """A value as YAML knows it; what is open in a source is left out."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Source):
        entries = ((item.name, getattr(value, item.name)) for item in dataclasses.fields(value))
        return {name: _plain(entry) for name, entry in entries if entry is not None}
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def load_config(out: Path, *, fix: str = "check --out, or leave out --resume") -> TrainOptions:
    """The options that the run in `out` was started with; UsageError when there is no run, with the caller's `fix`."""
    path = out / CONFIG
    if not path.is_file():
        raise UsageError(f"There is no run in {out}: it has no {CONFIG}.", fix=fix)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        known = {item.name for item in dataclasses.fields(TrainOptions)}
        for key in values:
            if key not in known:
                raise UsageError(f"Unknown key '{key}' in {path}.", fix=did_you_mean(str(key), known))
        options: TrainOptions = pydantic.TypeAdapter(TrainOptions).validate_python(values)
    except (yaml.YAMLError, pydantic.ValidationError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", fix="restore it, or start a new run") from error
    return dataclasses.replace(options, out=out)


def absolute_paths(options: TrainOptions) -> TrainOptions:
    """The options with paths that hold from any working directory."""
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if isinstance(value, Path):
            changes[item.name] = value.expanduser().absolute()
    changes["mixture"] = tuple(
        dataclasses.replace(source, dataset=source.dataset.expanduser().absolute()) for source in options.mixture
    )
    # A hub id or a shipped robot's name is no path, even where a folder of that name lies here.
    if options.policy is not None and Path(options.policy).expanduser().exists():
        changes["policy"] = str(Path(options.policy).expanduser().absolute())
    if options.robot is not None and (options.robot.endswith((".yaml", ".yml")) or "/" in options.robot):
        changes["robot"] = str(Path(options.robot).expanduser().absolute())
    return dataclasses.replace(options, **changes)
