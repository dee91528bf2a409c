"""`smolpilot status RUN`, and `smolpilot watch RUN`: how a training run stands, once or again and again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from smolpilot.common.errors import TrainingError
from smolpilot.common.option_types import Flag, PositiveRate
from smolpilot.common.terminal import Terminal
from smolpilot.common.text import json_text

from .parsing.verbs import Verb

if TYPE_CHECKING:
    from smolpilot.training.status import RunStatus


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """Show how a run stands. Of a training: alive, step, rate, time left, loss, validation, checkpoints, warnings. Of
    a robot run: whether it goes on, its episodes and their marks, why it ended."""

    run: tyro.conf.Positional[Path]
    """Folder of a robot run or a training, or a checkpoint in it."""
    json: Flag = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Show the status of a training run live, until it ends or Ctrl-C."""

    run: tyro.conf.Positional[Path]
    """Run folder (--out of the training), or a checkpoint in it."""
    every: PositiveRate = 2.0
    """Seconds between updates."""


def run(options: StatusOptions) -> int:
    """Print the status; 0 also for a run that has stopped, 1 when there are warnings."""
    from smolpilot.contracts.run_folder import is_run_folder

    if is_run_folder(options.run):
        return _robot_run(options)
    from smolpilot.training.status import run_status

    status = run_status(options.run)
    if options.json:
        print(json_text(status.to_json()))
    else:
        Terminal().print(view(status))
    return 1 if status.warnings else 0


def _robot_run(options: StatusOptions) -> int:
    from smolpilot.evaluation.robot_runs.standing import run_standing

    standing = run_standing(options.run)
    if options.json:
        print(json_text(standing.to_json()))
        return 0
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for what, how in standing.rows():
        table.add_row(what, Text(how))
    Terminal().print(table)
    return 0


def watch(options: WatchOptions) -> None:
    """Print the status until the run ends."""
    from smolpilot.training.status import run_status

    status = run_status(options.run, verb="watch")
    with Live(view(status), console=Terminal(), auto_refresh=False) as live:
        while status.state in ("running", "silent", "preparing"):
            time.sleep(options.every)
            if status.state == "preparing" and not Path(status.run).exists():
                raise TrainingError(
                    f"The training in {status.run} ended while it was preparing.",
                    fix="see the messages in its terminal",
                )
            status = run_status(options.run, verb="watch")
            live.update(view(status), refresh=True)


def view(status: RunStatus) -> RenderableType:
    """The status as a small table, with the warnings below it."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    share = status.step / status.steps if status.steps else 0.0
    left = f", about {_clock(status.left_s)} left" if status.state == "running" and status.left_s else ""
    table.add_row("run", Text(status.run))
    if status.stage is not None:
        table.add_row("sequence", Text(status.stage))
    if status.recipe is not None:
        table.add_row("recipe", Text(status.recipe))
    table.add_row(
        "state",
        Text(_state_text(status), style="green" if status.state in ("running", "finished", "preparing") else "yellow"),
    )
    table.add_row("step", f"{status.step} of {status.steps or 'unknown'} ({share:.0%}){left}")
    if status.step:
        loss = "not finite" if status.loss is None else f"{status.loss:.4g}"
        table.add_row("loss", loss + (f", {status.trend}" if status.trend else ""))
        wait = "unknown" if status.data_wait is None else f"{status.data_wait:.0%}"
        table.add_row(
            "speed",
            f"{_told(status.samples_per_s, '.1f')} samples/s, {wait} of it waiting for data, "
            f"{_told(status.memory_gb, '.1f')} GB, epoch {_told(status.epoch, '.2f')}, "
            f"learning rate {_told(status.learning_rate, '.2g')}",
        )
    if status.cpu_cores is not None:
        table.add_row("uses", f"{status.cpu_cores:.1f} CPU cores, {status.process_gb:.1f} GB")
    if status.gpu is not None:
        table.add_row("GPU", Text(status.gpu))
    for value in status.validations[-3:]:
        score = "not finite" if value["score"] is None else f"{value['score']:.4g} {value['unit']}"
        table.add_row("held out", f"{score} at step {value['step']}")
    table.add_row("checkpoints", Text(", ".join(status.checkpoints[-3:]) or "none yet"))
    if status.best:
        table.add_row("best", Text(status.best))
    elif status.validations:
        table.add_row("best", "none: no validation gave a finite error")
    if status.patience is not None:
        table.add_row("patience", f"{status.patience} validations without a smaller held-out error")
    if status.ema is not None:
        table.add_row("weights", f"validated and saved: the running average (EMA {status.ema:g})")
    warnings = [f"warning: {warning['what']} {warning['advice']}" for warning in status.warnings]
    return Group(table, *(Text(warning, style="yellow") for warning in warnings))


def _state_text(status: RunStatus) -> str:
    if status.state == "preparing":
        return "preparing: opens the dataset and the policy, decodes videos"
    if status.state == "abandoned":
        return "stopped before its first step; start it with the same command again"
    if status.state == "running":
        return f"running, last line {status.last_line_s:.0f} s ago" if status.last_line_s is not None else "running"
    if status.early is not None:
        return f"finished early, at step {status.early}: the held-out error no longer fell"
    if status.state == "stopped":
        return f"stopped; resume with: smolpilot train --resume --out {status.run}"
    return {"silent": "running, but silent"}.get(status.state, status.state)


def _told(value: float | None, form: str) -> str:
    """A number as it is shown; those that were not finite are kept as none."""
    return "not finite" if value is None else format(value, form)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


VERB = Verb(StatusOptions, run)
WATCH = Verb(WatchOptions, watch)
