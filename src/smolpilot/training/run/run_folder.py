"""The run folder: config.yaml, environment.json, metrics.jsonl, tensorboard/, checkpoints/."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from smolpilot.common.atomic import atomic_folder, fsync, refuse_inside_dataset, refuse_unwritable, write_text_atomic
from smolpilot.common.errors import UsageError, check_seed, did_you_mean
from smolpilot.common.json_input import read_json_file
from smolpilot.common.renamed import quiet, renamed_keys
from smolpilot.common.text import LIMIT, plain
from smolpilot.common.yaml_lines import read_yaml, yaml_text
from smolpilot.training.options.train_options import TrainOptions, absolute_paths, check_resume, options_of

from .run_paths import CONFIG as CONFIG
from .run_paths import PREPARING as PREPARING
from .run_paths import no_run, run_above

PROCESS = "process.json"
_FILLING = ".filling"
_BEFORE_CONFIG = {PREPARING, _FILLING, "environment.json", "checkpoints"} | {
    "stages",
    "stages.yaml",
    "robot.yaml",
    "statistics.json",
}


def create(out: Path, options: TrainOptions, environment: dict[str, Any]) -> None:
    """Make the run folder with what is known before the first step; UsageError when `out` exists."""
    if not (out / PREPARING).is_file():
        refuse_existing(out)
    with filled(out) as beside:
        (beside / CONFIG).write_text(config_text(options), encoding="utf-8")
        (beside / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
        (beside / "checkpoints").mkdir()


@contextmanager
def preparing(out: Path, steps: int | None) -> Iterator[None]:
    """Make the new folder `out` at once, so that `smolpilot status` finds it while videos are decoded.

    Without `filled` in between (an error, Ctrl-C) the folder is gone again at the end; what a kill leaves behind,
    `refuse_existing` clears away for the next run.
    """
    refuse_existing(out)
    out.mkdir(parents=True)
    write_text_atomic(out / PREPARING, json.dumps({**_identity(), "steps": steps}) + "\n")
    try:
        yield
    finally:
        _clear_unfinished(out)


@contextmanager
def filled(out: Path) -> Iterator[Path]:
    """Yield a folder whose content becomes that of the run `out`: whole, or not at all; its config.yaml comes last."""
    if not (out / PREPARING).is_file():
        with atomic_folder(out) as beside:
            yield beside
        return
    beside = out / _FILLING
    beside.mkdir()
    yield beside
    for entry in sorted(beside.iterdir(), key=lambda entry: entry.name == CONFIG):
        fsync(entry)
        entry.replace(out / entry.name)
    beside.rmdir()
    (out / PREPARING).unlink()
    fsync(out)


def _clear_unfinished(out: Path) -> None:
    """Remove a folder that holds nothing but what `preparing` and `filled` write before config.yaml is there."""
    if not out.is_dir() or out.is_symlink() or (out / CONFIG).exists() or not (out / PREPARING).is_file():
        return
    if all(entry.name in _BEFORE_CONFIG or entry.suffix == ".partial" for entry in out.iterdir()):
        shutil.rmtree(out, ignore_errors=True)


@contextmanager
def run_lock(out: Path, *, ready: bool = True) -> Iterator[None]:
    """Note in the run folder which process trains, so that `smolpilot status` can tell whether it lives.

    `ready`: it trains already; otherwise it still prepares. UsageError while another process trains there: two would
    write over each other's lines and checkpoints.
    """
    process, other = psutil.Process(), living_process(out)
    if other is not None and other.pid != process.pid:
        raise UsageError(
            f"Process {other.pid} is already training in {out}.",
            expected="one training per run folder",
            fix=f"look at it with `smolpilot status {out}`, or stop it first",
        )
    write_text_atomic(out / PROCESS, json.dumps({**_identity(), "ready": ready}) + "\n")
    try:
        yield
    finally:
        (out / PROCESS).unlink(missing_ok=True)


def _identity() -> dict[str, Any]:
    process = psutil.Process()
    return {"pid": process.pid, "created": process.create_time()}


def living_process(out: Path, note: str = PROCESS) -> psutil.Process | None:
    """The process that the run noted, if it still is that process."""
    try:
        noted = read_note(out, note)
        process = psutil.Process(int(noted["pid"]))
        same = abs(process.create_time() - float(noted["created"])) < 1 and process.is_running()
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None


def read_note(out: Path, note: str) -> dict[str, Any]:
    """What process.json or preparing.json says; empty where it is not there or torn."""
    try:
        values = read_json_file(out / note)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def refuse_existing(out: Path) -> None:
    """A run never writes into a folder that is there already, unless it resumes it; nor where it may not."""
    refuse_inside_dataset(out)
    if living_process(out, PREPARING) is None:
        _clear_unfinished(out)
    if not out.exists() and not out.is_symlink():
        refuse_unwritable(out)
        return
    if (out / CONFIG).is_file():
        raise UsageError(
            f"{out} already contains a run.",
            fix=f"resume it: smolpilot train --resume --out {out}; or choose another --out",
        )
    if other := living_process(out, PREPARING):
        raise UsageError(
            f"Process {other.pid} is preparing a run in {out}.",
            fix=f"look at it with `smolpilot status {out}`, or choose another --out",
        )
    if run := run_above(out):
        raise UsageError(f"{out} exists already, in the run {run}.", fix="choose a folder that does not exist yet")
    raise UsageError(f"{out} exists already.", fix="choose a folder that does not exist yet")


def config_text(options: TrainOptions) -> str:
    """The options as YAML that `--config` reads back; keys without a value are left out."""
    return yaml_text(options, without=("resume", "overfit"))


def load_config(out: Path, *, verb: str = "train --resume") -> TrainOptions:
    """The options that the run in `out` was started with; UsageError, for `verb`, when there is no run."""
    path = out / CONFIG
    if not path.is_file():
        if (out / PREPARING).is_file():
            raise UsageError(
                f"The run in {out} was not started yet: there is nothing to resume.",
                fix="start it with the same options as before, without --resume",
            )
        raise no_run(out, verb=verb)
    try:
        values = renamed_keys("train", read_yaml(path, str(path), empty="options")[0], say=quiet)
        options = options_of(values)
    except (OSError, UsageError) as error:
        raise UsageError(f"{path} cannot be read: {error}", fix="restore it, or start a new run") from error
    known = {item.name for item in dataclasses.fields(TrainOptions)}
    for key in values:
        if key not in known:
            raise UsageError(f"Unknown key '{plain(key, LIMIT)}' in {path}.", fix=did_you_mean(str(key), known))
    return dataclasses.replace(options, out=out)


def resumed_options(given: TrainOptions) -> tuple[TrainOptions, Path]:
    """The options of the run that is to be resumed, with those as given that may differ; its folder."""
    if given.out is None:
        raise UsageError("--resume needs the run folder.", fix="add --out, for example --out runs/first")
    out = given.out.expanduser().absolute()
    saved = load_config(out)
    bare = TrainOptions(out=given.out, resume=True)
    options = saved if given == bare else check_resume(absolute_paths(given), saved)
    check_seed(options.seed)
    return options, out
