"""train: a run from options to its folder, new or gone on with."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import torch
from torch import Tensor

from smolpilot.errors import CheckpointError, UsageError, check_seed
from smolpilot.policy import Policy

from . import run_folder
from .cache_choice import choose_cache
from .checkpoints import Checkpoints, TrainingState, load_state
from .environment import environment
from .feed import build_feed
from .interrupts import Interrupts
from .loop import Surroundings, Trainer
from .metrics_log import MetricsLog
from .options import TrainOptions, check, check_resume, resolve
from .parts import describe_parts
from .preflight import preflight_training, stop_on_errors
from .progress import RunProgress
from .setup import Prepared, prepare, prepare_resumed


def train(options: TrainOptions) -> Path:
    """Train as the options say and return the run folder; its `checkpoints/best` is the bundle to use.

    Raises UsageError for options that cannot be meant, DatasetError, CheckpointError, ProfileError for input that
    does not fit, TrainingError for NaN or a full disk, TrainingStoppedError after Ctrl-C (saved; `resume` goes on).
    """
    if options.resume:
        return _go_on(options)
    options = resolve(run_folder.absolute_paths(check(options)))
    assert options.out is not None
    run_folder.refuse_existing(options.out)
    torch.manual_seed(options.seed)
    prepared = prepare(options)
    _announce(prepared)
    stop_on_errors(preflight_training(prepared), overruled=not options.preflight, say=print)
    trainer = _trainer(prepared)
    run_folder.create(options.out, prepared.options, environment(prepared.policy.device))
    return _run(trainer, options.out)


def _go_on(given: TrainOptions) -> Path:
    if given.out is None:
        raise UsageError("--resume needs the run.", fix="name it with --out, for example --out runs/first")
    out = given.out.expanduser().absolute()
    saved = run_folder.load_config(out)
    bare = TrainOptions(out=given.out, resume=True)
    options = saved if given == bare else check_resume(run_folder.absolute_paths(given), saved)
    check_seed(options.seed)
    torch.manual_seed(options.seed)
    found = _newest_whole(options, out)
    # Stopped before the first checkpoint: nothing is lost by beginning again.
    prepared = prepare(options) if found is None else found[0]
    _announce(prepared)
    trainer = _trainer(prepared)
    if found is not None:
        trainer.load(*found[1])
    return _run(trainer, out)


def _newest_whole(options: TrainOptions, out: Path) -> tuple[Prepared, tuple[TrainingState, dict[str, Tensor]]] | None:
    """The newest checkpoint that can be read, and its state; a torn one is left out, and said; None without any."""
    torn: CheckpointError | None = None
    for checkpoint in Checkpoints(out / "checkpoints", keep=options.keep).from_newest():
        try:
            found = prepare_resumed(options, checkpoint), load_state(checkpoint)
        except CheckpointError as error:
            warnings.warn(f"{checkpoint} is damaged and left out: {error.found}", stacklevel=2)
            torn = error
        else:
            if torn is not None:
                _set_aside(out, above=found[1][0].step)
            return found
    if torn is not None:
        raise torn
    return None


def _set_aside(out: Path, *, above: int) -> None:
    """Rename damaged checkpoints: the run comes to their step again and writes them anew."""
    for path in Checkpoints(out / "checkpoints", keep=1).from_newest():
        if int(path.name.removeprefix("step_")) > above:
            path.rename(path.with_name(f"damaged_{path.name}"))


def _run(trainer: Trainer, out: Path) -> Path:
    checkpoints, state = Checkpoints(out / "checkpoints", keep=trainer.options.keep), trainer.state
    # Noted first: nothing is touched while another process writes into the folder.
    with run_folder.noted_process(out), Interrupts() as interrupts:
        if state.step:
            checkpoints.settle(state)
        log = MetricsLog(out, step=state.step, validated_at=state.validated_at)
        progress = RunProgress(trainer.steps, start=state.step)
        trainer.model.train()
        try:
            trainer.run(Surroundings(checkpoints, log, progress), interrupts)
        finally:
            progress.close()
            log.close()
    return out


def _trainer(prepared: Prepared) -> Trainer:
    cache = choose_cache(prepared)
    feed, scorer = build_feed(prepared, cache)
    if scorer is None and prepared.options.patience is not None:
        raise UsageError(
            "--patience waits for the held-out error, and no episode is held out.",
            expected="a dataset of at least two episodes",
            fix="leave --patience out",
        )
    return Trainer(prepared.options, prepared.policy, feed, scorer, prepared.parts[0].meta.fingerprint)


def _announce(prepared: Prepared) -> None:
    """Say what is about to happen: the complete settings, what is trained, on what."""
    policy = prepared.policy
    print(run_folder.config_text(dataclasses.replace(prepared.options, resume=False)))
    print(_size(policy))
    for line in describe_parts(prepared.parts):
        print(line)
    print(policy.transforms.describe())
    for note in prepared.notes:
        print(f"note: {note}")
    print(flush=True)


def _size(policy: Policy) -> str:
    parameters = list(policy.model.parameters())
    total = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return f"policy: {total:,} parameters, {trained:,} of them trained, on {policy.device}"
