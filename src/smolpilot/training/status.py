"""How a run stands, read from its folder alone: alive or not, how far, how fast, loss, validation, what to worry about.

Loads no torch: it answers at once, also beside a run that uses all cores.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

from smolpilot.common.json_input import read_json_file
from smolpilot.common.safe_paths import target_of

from .options.train_options import TrainOptions
from .recipe.recipe_paths import RESULT, seed_run
from .run.metrics_log import read_metrics
from .run.run_folder import PREPARING, PROCESS, living_process, load_config, read_note
from .run.run_paths import CONFIG, is_run, run_above

# Where a warning begins: chosen to stay silent on the healthy runs in docs/log.md.
_DATA_WAIT, _FLAT, _OVERFIT, _SILENT_S = 0.3, 0.98, 1.15, 120.0
_LOOK_S = 0.2  # how long the processes are watched
_SKIPPED = 0.2


@dataclass
class RunStatus:
    """`state` is preparing (no step yet: videos are decoded, ...), running, finished, stopped (saved, to be
    resumed), silent (running, but no line for long), abandoned (stopped before the folder was complete).

    A run that --patience ended is finished; `early` says at which step it gave up waiting, `best` where it was best.
    """

    run: str
    state: str
    step: int
    steps: int
    epoch: float | None = None
    samples_per_s: float | None = None
    left_s: float | None = None
    loss: float | None = None
    trend: str | None = None
    learning_rate: float | None = None
    data_wait: float | None = None
    memory_gb: float | None = None
    cpu_cores: float | None = None
    process_gb: float | None = None
    gpu: str | None = None
    last_line_s: float | None = None
    checkpoints: list[str] = field(default_factory=list)
    best: str | None = None
    ema: float | None = None
    early: int | None = None
    patience: str | None = None
    validations: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    recipe: str | None = None  # of a recipe: `seed 1, 2 of 3`, and the run is that seed's
    stage: str | None = None  # of a sequence: `stage 2 of 3: blue`, and the run is that stage's

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def run_status(run: Path, *, verb: str = "status") -> RunStatus:
    """Read the run folder, or that of the run in which the path lies; UsageError, for `verb`, when there is no run."""
    given = run.expanduser().absolute()
    out = run_above(given) or given
    if not (out / CONFIG).is_file() and (out / PREPARING).is_file():
        return _of_preparation(out)
    options = load_config(out, verb=verb)
    if options.stages is not None:
        return _of_sequence(out)
    if options.seeds:
        return _of_recipe(out, options)
    lines = [line for line in _lines(out) if isinstance(line.get("step"), int)]
    trained = [line for line in lines if line.get("kind") == "train"]
    steps, folder = options.steps or 0, out / "checkpoints"
    status = RunStatus(run=str(out), state="stopped", step=trained[-1]["step"] if trained else 0, steps=steps)
    names = sorted(path.name for path in folder.glob("step_*")) if folder.is_dir() else []
    status.checkpoints = names
    best = Path(target_of(folder / "best") or "").name
    # A run that was copied without links has a whole folder there.
    status.best = best if best in names else "best" if (folder / "best").is_dir() and not best else None
    status.validations = [
        {"step": line["step"], "score": _number(line, "score"), "unit": line.get("unit") or ""}
        for line in lines
        if line.get("kind") == "validation"
    ]
    status.ema, status.patience = options.ema, _patience(status.validations, options.patience)
    early = [line["step"] for line in lines if line.get("kind") == "stopped_early"]
    status.early = early[-1] if early and f"step_{early[-1]:06d}" in names else None
    if trained:
        last = trained[-1]
        status.epoch, status.samples_per_s, status.loss, status.learning_rate, status.data_wait, status.memory_gb = (
            _number(last, name) for name in ("epoch", "samples_per_s", "loss", "lr", "data_wait", "memory_gb")
        )
        status.trend = _trend([_number(line, "loss") for line in trained])
        status.last_line_s = time.time() - (out / "metrics.jsonl").stat().st_mtime
        rates = [rate for line in trained[-10:] if (rate := _number(line, "samples_per_s"))]
        status.left_s = (steps - status.step) * (options.batch_size or 1) / fmean(rates) if rates else None
    status.state = _state(out, status)
    if status.state in ("running", "silent", "preparing"):
        status.cpu_cores, status.process_gb = _use(out)
        status.gpu = _gpu(out)
    status.warnings = _warnings(status, options, trained)
    return status


def _of_preparation(out: Path) -> RunStatus:
    """The status of a run whose first step is still to come."""
    alive = living_process(out, PREPARING) is not None
    steps = read_note(out, PREPARING).get("steps")
    steps = steps if isinstance(steps, int) else 0
    status = RunStatus(run=str(out), state="preparing" if alive else "abandoned", step=0, steps=steps)
    if alive:
        status.cpu_cores, status.process_gb = _use(out, PREPARING)
    else:
        status.warnings = [
            {"what": "It was stopped before its first step.", "advice": "start it with the same command again"}
        ]
    return status


def _lines(out: Path) -> list[dict[str, Any]]:
    """What the run has measured; damaged lines are left out."""
    path = out / "metrics.jsonl"
    return read_metrics(path, strict=False) if path.is_file() else []


def _number(line: dict[str, Any], name: str) -> float | None:
    """A number of a line; None where it is missing or was not finite."""
    value = line.get(name)
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:  # a whole number beyond any decimal one
        return None


def _of_sequence(out: Path) -> RunStatus:
    """The status of the stage in which a sequence stands."""
    from .stages.sequence_paths import stage_of

    found = stage_of(out)
    if found is None:
        return RunStatus(run=str(out), state="stopped" if living_process(out) is None else "running", step=0, steps=0)
    status = run_status(found[0])
    status.stage = found[1]
    if status.state in ("stopped", "finished"):
        # Between two runs the process evaluates; after the last report nothing is left to do.
        alive = living_process(out) is not None
        status.state = "running" if alive else "finished" if found[2] else "stopped"
        status.run = str(out)
    return status


def _of_recipe(out: Path, options: TrainOptions) -> RunStatus:
    """The status of the seed in which a recipe stands."""
    begun = [
        (number, seed, seed_run(out, seed))
        for number, seed in enumerate(options.seeds, 1)
        if is_run(seed_run(out, seed))
    ]
    alive = living_process(out) is not None
    if not begun:
        return RunStatus(run=str(out), state="running" if alive else "stopped", step=0, steps=options.steps or 0)
    number, seed, folder = begun[-1]
    status = run_status(folder)
    status.recipe = f"seed {seed}, {number} of {len(options.seeds)}"
    if status.state in ("stopped", "finished", "abandoned"):
        # Between two runs, and while it scores, the process lives; after the table nothing is left to do.
        status.state = "running" if alive else "finished" if (out / RESULT).is_file() else "stopped"
        status.run = str(out)
    return status


def _use(out: Path, note: str = PROCESS) -> tuple[float | None, float | None]:
    """Cores that the process and its helpers use just now, and their memory in GB."""
    process = living_process(out, note)
    if process is None:
        return None, None
    try:
        family = [process, *process.children(recursive=True)]
        begin = sum(sum(member.cpu_times()[:2]) for member in family)
        time.sleep(_LOOK_S)
        busy = sum(sum(member.cpu_times()[:2]) for member in family) - begin
        return round(busy / _LOOK_S, 1), round(sum(member.memory_info().rss for member in family) / 1e9, 2)
    except psutil.Error:
        return None, None  # it ended in between


def _gpu(out: Path) -> str | None:
    """What nvidia-smi says of the GPUs, for a run that uses one."""
    try:
        device = str(read_json_file(out / "environment.json").get("device", ""))
        if not device.startswith("cuda") or shutil.which("nvidia-smi") is None:
            return None
        query = "--query-gpu=index,utilization.gpu,memory.used,memory.total,temperature.gpu"
        command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        rows = [[word.strip() for word in line.split(",")] for line in answer.splitlines() if line.strip()]
        return "; ".join(f"GPU {row[0]}: {row[1]} % busy, {row[2]} of {row[3]} MiB, {row[4]} °C" for row in rows)
    except (OSError, ValueError, AttributeError, IndexError, subprocess.SubprocessError):
        return None


def _patience(validations: list[dict[str, Any]], patience: int | None) -> str | None:
    """`2 of 5`: validations since the smallest held-out error, of those that end the run."""
    if patience is None:
        return None
    scores = [value["score"] if value["score"] is not None else math.inf for value in validations]
    # A validation that is not finite never was the best one.
    since = len(scores) - 1 - scores.index(min(scores)) if any(map(math.isfinite, scores)) else len(scores)
    return f"{since} of {patience}"


def _state(out: Path, status: RunStatus) -> str:
    if status.early is not None or (status.steps and f"step_{status.steps:06d}" in status.checkpoints):
        return "finished"
    if living_process(out) is None:
        return "stopped"
    if not read_note(out, PROCESS).get("ready", True):
        return "preparing"
    typical = 10 * (status.left_s or 0) / max(status.steps - status.step, 1)
    return "silent" if (status.last_line_s or 0) > max(_SILENT_S, typical) else "running"


def _trend(losses: list[float | None]) -> str | None:
    """Falling, flat or rising: the mean of the last fifth of the lines against the fifth before."""
    size = len(losses) // 5
    known = [loss for loss in losses if loss is not None]
    if size < 2 or len(known) < len(losses):
        return None
    ratio = fmean(known[-size:]) / max(fmean(known[-2 * size : -size]), 1e-12)
    if ratio > 1.05:
        return "rising"
    return "flat" if ratio > _FLAT else "falling"


def _warnings(status: RunStatus, options: TrainOptions, trained: list[dict[str, Any]]) -> list[dict[str, str]]:
    waits = [wait for line in trained[-5:] if (wait := _number(line, "data_wait")) is not None]
    wait = fmean(waits) if waits else 0.0
    skipped = int(sum(_number(line, "skipped_steps") or 0 for line in trained[-5:]))
    steps = (options.log_every or 1) * len(trained[-5:])
    rate, early = status.learning_rate, status.step < 0.9 * status.steps
    at_floor = rate is not None and rate <= 1.01 * (options.decay_lr or 0.0)
    scores = [value["score"] for value in status.validations]
    known = [score for score in scores if score is not None]
    overfits = len(known) >= 3 and min(known) not in known[-2:] and known[-1] > _OVERFIT * min(known)
    checks = [
        (any(_number(line, "loss") is None for line in trained[-3:]), "The loss is not a finite number.",
         "lower --lr, and look at `smolpilot dataset check`"),
        (status.state == "silent", "The process lives, but has written nothing for long.",
         "look at its terminal or log"),
        (wait > _DATA_WAIT, f"{wait:.0%} of the time goes into waiting for data.",
         "--workers, --frames-gb, --order local, or --cache"),
        (len(trained) > 10 and skipped > _SKIPPED * steps,
         f"{skipped} of the last {steps} steps overflowed float16 and were skipped.", "--dtype bfloat16"),
        (early and at_floor and status.step > 2 * (options.warmup_steps or 0),
         "The learning rate is at its floor long before the end.", "check --decay-lr and --lr"),
        (early and status.step > 0.2 * status.steps and status.trend in ("flat", "rising"),
         f"The loss is {status.trend}.", "higher --lr if it never fell; if it is low already, evaluate `best`"),
        (overfits, "The held-out error has grown since its best.",
         "it overfits: stop and use `best`, or --augment"),
        (any(score is None for score in scores), "A validation predicted NaN or infinity: it never is the best.",
         "lower --lr"),
    ]  # fmt: skip
    return [{"what": what, "advice": advice} for applies, what, advice in checks if applies]
