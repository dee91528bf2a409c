"""A run from its options to its folder: datasets, policy, cache, batches, optimizer, loop, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from smolpilot.common.atomic import refuse_inside_dataset
from smolpilot.common.errors import CheckpointError, UsageError, too_many_files
from smolpilot.common.hashing import tensors_digest
from smolpilot.common.machine import run_environment
from smolpilot.common.progress import working
from smolpilot.compatibility.verdict import stop_on_errors
from smolpilot.smolvla import Policy
from smolpilot.training.cache.choice import choose_cache
from smolpilot.training.data.augment import Augmentation
from smolpilot.training.data.run_datasets import describe_datasets
from smolpilot.training.data.sample_rng import SampleRng
from smolpilot.training.optimization.memory import choose_micro_batch, memory_errors
from smolpilot.training.optimization.precision import Precision
from smolpilot.training.options.train_options import TrainOptions, absolute_paths, check, resolve

from . import run_folder
from .batch_setup import build_batches, build_validator
from .checkpoints import Checkpoints, TrainingState, load_state
from .distributed import DistributedContext
from .interrupts import Interrupts
from .loop import Trainer, TrainerOutputs
from .metrics_log import MetricsLog, SilentLog
from .run_progress import RunProgress
from .setup import Prepared, prepare, prepare_resumed
from .tracking import open_tracker, require


def train(options: TrainOptions, ranks: DistributedContext, lineage: Mapping[str, Any] | None = None) -> Path:
    """Train a new run as the options say and return its folder; its `checkpoints/best` is the bundle to use.

    lineage: more for the bundles to say of where they come from. Raises UsageError for contradictory options,
    DatasetError, CheckpointError, ProfileError for input that does not fit, TrainingError for NaN or a full disk,
    TrainingStoppedError after Ctrl-C (saved; `resume` continues).
    """

    def build() -> Trainer:
        torch.manual_seed(options.seed)
        with working("opening the dataset and the policy"):
            prepared = prepare(resolved, lineage)
        _announce(prepared)
        stop_on_errors(prepared.preflight(), overruled=not options.preflight, say=print)
        return build_trainer(prepared, ranks)

    resolved, out = ranks.run_on_all_ranks(lambda: _resolved(options, ranks))
    with contextlib.ExitStack() as stack:
        ranks.on_rank_zero(lambda: stack.enter_context(run_folder.preparing(out, resolved.steps)))
        trainer = ranks.run_on_all_ranks(build)
        kept = dataclasses.replace(trainer.options, device=options.device)
        about = run_environment(trainer.device) | {"processes": ranks.size}
        ranks.on_rank_zero(lambda: run_folder.create(out, kept, about))
    return _run(trainer, out)


def resume(given: TrainOptions, ranks: DistributedContext, lineage: Mapping[str, Any] | None = None) -> Path:
    """Continue the run in `given.out` from its newest readable checkpoint; returns its folder."""

    def build() -> Trainer:
        # Stopped before the first checkpoint: nothing is lost by beginning again.
        prepared = prepare(options, lineage) if found is None else found[0]
        _announce(prepared)
        trainer = build_trainer(prepared, ranks, resumed=found is not None)
        if found is not None:
            trainer.load(*found[1])
        return trainer

    saved, out = ranks.run_on_all_ranks(lambda: run_folder.resumed_options(given))
    options = dataclasses.replace(saved, device=ranks.run_on_all_ranks(lambda: ranks.device(saved.device)))
    torch.manual_seed(options.seed)
    with contextlib.ExitStack() as stack:
        # Locked first: nothing is touched while another process writes into the folder.
        ranks.on_rank_zero(lambda: stack.enter_context(run_folder.run_lock(out, ready=False)))
        # Rank 0 first: it sets damaged checkpoints aside before the others look.
        found = ranks.rank_zero_first(lambda: _newest_whole(options, out))
        return _run(ranks.run_on_all_ranks(build), out)


def build_trainer(prepared: Prepared, ranks: DistributedContext, *, resumed: bool = False) -> Trainer:
    """The loop over the datasets' batches, from the cache or decoded, with what scores and saves the policy."""
    options, policy, datasets = prepared.options, prepared.policy, prepared.datasets
    assert options.batch_size is not None
    assert options.steps is not None
    cache = choose_cache(
        policy, datasets, options.cache, augmentation=Augmentation(options.augment, SampleRng(options.seed)),
        dtype=options.cache_dtype, views=options.cache_views, folder=options.cache_dir,
        samples=options.steps * options.batch_size, turn=ranks.local_rank,
    )  # fmt: skip
    batches = build_batches(
        policy, datasets, cache, balance=options.balance, frames_gb=options.frames_gb, workers=options.workers or 0,
        sharers=ranks.local_size,
    )  # fmt: skip
    validator = build_validator(
        policy, datasets, cache, frames=options.eval_frames, batch_size=options.batch_size, seed=options.seed
    )
    if validator is None and options.patience is not None:
        raise UsageError(
            "--patience needs a held-out error, but no episode is held out.",
            expected="a dataset of at least two episodes",
            fix="leave --patience out",
        )
    if cache is not None:
        cache.offload()
    share = ranks.part(options.batch_size)
    order = batches.order(options.batch_size, options.seed, options.order).share(share)
    micro_batch, said = choose_micro_batch(
        policy, batches, order, Precision(options.dtype or "float32", policy.device), asked=options.micro_batch,
        copies=2 + (options.ema is not None), sharers=ranks.local_size, resumed=resumed,
    )  # fmt: skip
    if said:
        print(said, flush=True)
    kept = dataclasses.replace(options, cache=cache.kind if cache is not None else "none", micro_batch=micro_batch)
    print(run_folder.config_text(dataclasses.replace(kept, resume=False)), flush=True)
    return Trainer(kept, policy, batches, validator, datasets[0].meta.fingerprint, ranks)


def _run(trainer: Trainer, out: Path) -> Path:
    """Run the loop to its end, with the outputs of rank 0 in the run folder."""
    state, ranks = trainer.state, trainer.ranks
    checkpoints = Checkpoints(out / "checkpoints", keep=trainer.options.keep)
    if ranks.size > 1:
        ranks.require_equal({"dataset": state.dataset, "weights": tensors_digest(dict(trainer.model.state_dict()))})
    with contextlib.ExitStack() as stack:
        ranks.on_rank_zero(lambda: stack.enter_context(run_folder.run_lock(out)))
        interrupts = stack.enter_context(Interrupts())
        if state.step and ranks.is_zero:
            checkpoints.finalize(state)
        log = _log(trainer, out) if ranks.is_zero else SilentLog()
        progress = RunProgress(trainer.steps, start=state.step, silent=not ranks.is_zero)
        trainer.model.train()
        try:
            with memory_errors(trainer.options.micro_batch or trainer.options.batch_size or 1):
                trainer.run(TrainerOutputs(checkpoints, log, progress), interrupts)
        finally:
            progress.close()
            log.close()
    return out


def _resolved(options: TrainOptions, ranks: DistributedContext) -> tuple[TrainOptions, Path]:
    """The options with nothing left open that the dataset does not decide, and the folder of the new run."""
    found = resolve(absolute_paths(check(options)))
    assert found.out is not None
    run_folder.refuse_existing(found.out)
    if found.cache_dir is not None:
        refuse_inside_dataset(found.cache_dir)
    if found.track != "none":
        require(found.track)
    return dataclasses.replace(found, device=ranks.device(found.device)), found.out


def _newest_whole(options: TrainOptions, out: Path) -> tuple[Prepared, tuple[TrainingState, dict[str, Tensor]]] | None:
    """The newest checkpoint that can be read, and its state; a torn one is left out, and said; None without any."""
    torn: CheckpointError | None = None
    for checkpoint in Checkpoints(out / "checkpoints", keep=options.keep).from_newest():
        try:
            with working("opening the dataset and the checkpoint"):
                found = prepare_resumed(options, checkpoint), load_state(checkpoint)
        except CheckpointError as error:
            if too_many_files(error) is not None:
                raise
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


def _log(trainer: Trainer, out: Path) -> MetricsLog:
    options, state = trainer.options, trainer.state
    tracker = None
    if options.track != "none":
        config = yaml.safe_load(run_folder.config_text(options))
        tracker = open_tracker(options.track, out, config)
    return MetricsLog(out, step=state.step, validated_at=state.validated_at, tracker=tracker)


def _announce(prepared: Prepared) -> None:
    """Say what is about to happen: what is trained, on what."""
    policy = prepared.policy
    print(_size(policy))
    for line in describe_datasets(prepared.datasets):
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
