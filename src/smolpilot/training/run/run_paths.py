"""What a path that should be a run really is: a run, a place inside one, LeRobot's run, a bundle. Loads no torch."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.safe_paths import followed

CONFIG = "config.yaml"
PREPARING = "preparing.json"
_LEROBOT_CONFIG = "train_config.json"
_WEIGHTS = ("config.json", "adapter_config.json")
_STEP = re.compile(r"(step_)?\d+")
_ABOVE = 5  # what a run holds lies at most four folders below it
_DEPTH, _SHOWN, _LOOKED_AT = 4, 5, 2000


def is_run(folder: Path) -> bool:
    """Whether the folder is a run of smolpilot, also one that is still preparing."""
    return (folder / CONFIG).is_file() or (folder / PREPARING).is_file()


def run_above(path: Path) -> Path | None:
    """The run that `path` is or lies in (its checkpoint, its config.yaml, ...); None when there is none."""
    real = Path(os.path.realpath(followed(path)))
    candidates = [path, *([real, *real.parents] if real.exists() else [])]
    # Above the path other programs' config.yaml are no runs.
    for folder in candidates[:_ABOVE]:
        whole = is_run(folder) and any((folder / name).exists() for name in ("checkpoints", "stages.yaml"))
        if whole or (folder == path and is_run(folder)):
            return folder
    return None


def sequence_above(run: Path) -> Path | None:
    """The sequence of stages that the run is a stage of."""
    above = run.parent.parent
    return above if run.parent.name == "stages" and (above / "stages.yaml").is_file() else None


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint folder of a run that `path` is or lies in: `last` as what it stands for; None for other places."""
    real = Path(os.path.realpath(followed(path)))
    return next((part for part in (real, *real.parents[:2]) if _STEP.fullmatch(part.name) and _is_weights(part)), None)


def best_checkpoint(run: Path) -> Path:
    """The folder that a run stands for: its best checkpoint, else the last; CheckpointError without any."""
    for name in ("best", "last"):
        place = followed(run / "checkpoints" / name)
        if place.is_dir():
            return place.resolve()
    raise CheckpointError(f"{run} holds no checkpoint.", expected="checkpoints/best or checkpoints/last")


def no_run(path: Path, *, verb: str) -> UsageError:
    """The error for a path that holds no run, for `train --resume`, `status` or `watch`: what it is, what to do."""
    if foreign := lerobot_checkpoint(path):
        weights = shlex.quote(str(foreign))
        wanted = {
            "train --resume": f"its optimizer state cannot be read here. Start a new run from its weights: smolpilot "
            f"train --policy {weights} --dataset DATASET --steps N --out NEW_RUN"
        }
        return UsageError(
            f"{path} belongs to a run of LeRobot, not of smolpilot.",
            expected=f"a run folder that smolpilot train made (with {CONFIG})",
            fix=wanted.get(verb)
            or f"see what its checkpoint holds: smolpilot bundle {weights}; how good it is: smolpilot eval {weights} "
            "--dataset DATASET --out REPORT",
        )
    if path.is_dir() and _is_weights(path):
        policy = shlex.quote(str(path))
        further = f"train it further: smolpilot train --policy {policy} --dataset DATASET --steps N --out NEW_RUN"
        return UsageError(
            f"{path} is a policy, without the run that made it.",
            expected=f"a run folder (with {CONFIG})",
            fix=further if verb == "train --resume" else f"see what it holds: smolpilot bundle {policy}",
        )
    below = list(_runs_below(path if path.is_dir() else _existing(path)))
    found = _what(path)
    if below:
        command = "smolpilot train --resume --out" if verb == "train --resume" else f"smolpilot {verb}"
        names = ", ".join(str(run) for run in below[:_SHOWN]) + (" ..." if len(below) > _SHOWN else "")
        return UsageError(
            found, expected=f"a run folder. Found: {names}", fix=f"{command} {shlex.quote(str(below[0]))}"
        )
    return UsageError(
        found,
        expected=f"the folder given to train as --out (with {CONFIG})",
        fix="check the path; to start a run: smolpilot train --dataset DATASET --policy POLICY --steps N --out RUN",
    )


def lerobot_checkpoint(path: Path) -> Path | None:
    """The `pretrained_model` folder of LeRobot's run (or checkpoint) that `path` is, holds or lies in; else None."""
    path = followed(path)
    if path.is_file() and path.name == _LEROBOT_CONFIG:
        path = path.parent
    if not path.is_dir() or run_above(path) is not None:
        return None
    beside = [path.parent / "pretrained_model"] if path.name == "training_state" else []
    places = [path, path / "pretrained_model", *beside]
    for root in (path / "checkpoints", path):
        places += [followed(root / "last") / "pretrained_model"]
        steps = [entry for entry in _folders(root) if entry.name.isdigit()]
        places += [entry / "pretrained_model" for entry in sorted(steps, key=lambda entry: -int(entry.name))]
    return next((place for place in places if (place / _LEROBOT_CONFIG).is_file() and _is_weights(place)), None)


def _what(path: Path) -> str:
    if not path.exists():
        return f"There is no run in {path}: it does not exist."
    if path.is_file():
        return f"There is no run at {path}: it is a file."
    if (path / "meta" / "info.json").is_file():
        return f"{path} is a dataset, not a run."
    return f"There is no run in {path}: it has no {CONFIG}."


def _existing(path: Path) -> Path:
    """The nearest folder above that exists; never as high as the root."""
    above = next((parent for parent in path.absolute().parents if parent.is_dir()), path)
    return path if above == Path(above.anchor) else above


def _runs_below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Runs in the folder, newest first; hidden folders and what lies inside a run are not looked at."""
    runs: list[Path] = []
    level, seen = [folder], 0
    for _ in range(depth):
        following: list[Path] = []
        for place in level:
            for entry in _folders(place):
                seen += 1
                if is_run(entry):
                    runs.append(entry)
                elif not (entry / "meta").is_dir():
                    following.append(entry)
        level = following
        if runs or seen > _LOOKED_AT:
            break
    yield from sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True)


def _folders(place: Path) -> list[Path]:
    try:
        return [entry for entry in place.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []


def _is_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _WEIGHTS)
