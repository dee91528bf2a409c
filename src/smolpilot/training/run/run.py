"""train: a run from options to its folder, new or gone on with."""

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
from smolpilot.common.errors import CheckpointError, UsageError, check_seed, too_many_files
from smolpilot.common.hashing import tensors_digest
from smolpilot.common.machine import run_environment
from smolpilot.common.option_types import AUTO
from smolpilot.common.progress import working
from smolpilot.compatibility.preflight import preflight_training, stop_on_errors
from smolpilot.smolvla import Policy
from smolpilot.training.cache.choice import choose_cache
from smolpilot.training.data.batch_source import build_feed
from smolpilot.training.data.batches import Feed
from smolpilot.training.data.run_datasets import describe_parts
from smolpilot.training.optimization.main_memory import fit_batch, memory_errors
from smolpilot.training.optimization.micro_batch import probe
from smolpilot.training.optimization.precision import Precision
from smolpilot.training.train_options import TrainOptions, check, check_resume, resolve

from . import run_folder
from .checkpoints import Checkpoints, TrainingState, load_state
from .distributed import World
from .interrupts import Interrupts
from .loop import Surroundings, Trainer
from .metrics_log import MetricsLog, SilentLog
from .progress import RunProgress
from .setup import Prepared, prepare, prepare_resumed
from .tracking import open_tracker, require


def train(options: TrainOptions, *, lineage: Mapping[str, Any] | None = None, world: World | None = None) -> Path:
    """Train as the options say and return the run folder; its `checkpoints/best` is the bundle to use.

    With `stages` it is a sequence of runs. `lineage`: more for the bundles to say of where they come from. `world`: the
    processes that train, where the caller has joined them already.
    Raises UsageError for options that cannot be meant, DatasetError, CheckpointError, ProfileError for input that
    does not fit, TrainingError for NaN or a full disk, TrainingStoppedError after Ctrl-C (saved; `resume` goes on).
    """
    with contextlib.ExitStack() as stack:
        joined = world if world is not None else stack.enter_context(World.of_environment())
        if options.stages is not None or (options.resume and _is_sequence(options.out)):
            from smolpilot.training.stages.sequence import resume_stages, train_stages

            return resume_stages(options, joined) if options.resume else train_stages(options, joined)
        return _go_on(options, joined, lineage) if options.resume else _begin(options, joined, lineage)


def _is_sequence(out: Path | None) -> bool:
    """Whether the run to go on with is a sequence of stages."""
    return out is not None and (out.expanduser() / "stages.yaml").is_file()


def _begin(options: TrainOptions, world: World, lineage: Mapping[str, Any] | None) -> Path:
    def checked() -> TrainOptions:
        found = resolve(run_folder.absolute_paths(check(options)))
        assert found.out is not None
        run_folder.refuse_existing(found.out)
        if found.cache_dir is not None:
            refuse_inside_dataset(found.cache_dir)
        if found.track != "none":
            require(found.track)
        return dataclasses.replace(found, device=world.device(found.device))

    def make() -> tuple[Prepared, Trainer]:
        torch.manual_seed(found.seed)
        with working("opening the dataset and the policy"):
            prepared = prepare(found, lineage)
        _announce(prepared)
        stop_on_errors(preflight_training(prepared), overruled=not options.preflight, say=print)
        return prepared, _trainer(prepared, world)

    found = world.together(checked)
    out = found.out
    assert out is not None
    with contextlib.ExitStack() as stack:
        mark = run_folder.preparing(out, found.steps)
        world.together(lambda: None if world.rank else stack.enter_context(mark))
        prepared, trainer = world.together(make)
        settled = dataclasses.replace(prepared.options, device=options.device)
        surroundings = run_environment(prepared.policy.device) | {"processes": world.size}
        world.together(lambda: None if world.rank else run_folder.create(out, settled, surroundings))
    return _run(trainer, out)


def _go_on(given: TrainOptions, world: World, lineage: Mapping[str, Any] | None) -> Path:
    out, options = world.together(lambda: _saved(given, world))
    torch.manual_seed(options.seed)
    with contextlib.ExitStack() as stack:
        # Noted first: nothing is touched while another process writes into the folder.
        noted = run_folder.noted_process(out, ready=False)
        world.together(lambda: None if world.rank else stack.enter_context(noted))
        # In turn: process 0 sets damaged checkpoints aside before the others look.
        found = world.in_turn(lambda: _newest_whole(options, out))

        def make() -> Trainer:
            # Stopped before the first checkpoint: nothing is lost by beginning again.
            prepared = prepare(options, lineage) if found is None else found[0]
            _announce(prepared)
            trainer = _trainer(prepared, world, resumed=found is not None)
            if found is not None:
                trainer.load(*found[1])
            return trainer

        return _run(world.together(make), out)


def _saved(given: TrainOptions, world: World) -> tuple[Path, TrainOptions]:
    """The run that is to go on and its options, with what may differ as given."""
    if given.out is None:
        raise UsageError("--resume needs the run.", fix="name it with --out, for example --out runs/first")
    out = given.out.expanduser().absolute()
    saved = run_folder.load_config(out)
    bare = TrainOptions(out=given.out, resume=True)
    options = saved if given == bare else check_resume(run_folder.absolute_paths(given), saved)
    check_seed(options.seed)
    return out, dataclasses.replace(options, device=world.device(options.device))


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


def _run(trainer: Trainer, out: Path) -> Path:
    checkpoints, state, world = (
        Checkpoints(out / "checkpoints", keep=trainer.options.keep),
        trainer.state,
        trainer.world,
    )
    if world.size > 1:
        world.require_equal({"dataset": state.dataset, "weights": tensors_digest(dict(trainer.model.state_dict()))})
    main = world.rank == 0
    with contextlib.ExitStack() as stack:
        world.together(lambda: stack.enter_context(run_folder.noted_process(out)) if main else None)
        interrupts = stack.enter_context(Interrupts())
        if state.step and main:
            checkpoints.settle(state)
        log = _log(trainer, out) if main else SilentLog()
        progress = RunProgress(trainer.steps, start=state.step, silent=not main)
        trainer.model.train()
        try:
            with memory_errors(trainer.options):
                trainer.run(Surroundings(checkpoints, log, progress), interrupts)
        finally:
            progress.close()
            log.close()
    return out


def _log(trainer: Trainer, out: Path) -> MetricsLog:
    options, state = trainer.options, trainer.state
    tracker = None
    if options.track != "none":
        config = yaml.safe_load(run_folder.config_text(options))
        tracker = open_tracker(options.track, out, config)
    return MetricsLog(out, step=state.step, validated_at=state.validated_at, tracker=tracker)


def _trainer(prepared: Prepared, world: World, *, resumed: bool = False) -> Trainer:
    cache = choose_cache(prepared, world.local_rank)
    feed, scorer = build_feed(prepared, cache, sharers=world.local_size)
    if cache is not None:
        cache.park()
    if scorer is None and prepared.options.patience is not None:
        raise UsageError(
            "--patience waits for the held-out error, and no episode is held out.",
            expected="a dataset of at least two episodes",
            fix="leave --patience out",
        )
    _fit(prepared, feed, world, resumed=resumed)
    # With what the cache and the memory decided.
    print(run_folder.config_text(dataclasses.replace(prepared.options, resume=False)), flush=True)
    return Trainer(prepared.options, prepared.policy, feed, scorer, prepared.parts[0].meta.fingerprint, world)


def _fit(prepared: Prepared, feed: Feed, world: World, *, resumed: bool) -> None:
    """Settle how many samples go through the network at once."""
    options = prepared.options
    size = options.batch_size or 1
    part = world.part(size)
    with working("finding out how much memory a batch takes"):
        micro, said = fit_batch(
            options, prepared.policy, feed, batch=part.stop - part.start, sharers=world.local_size, resumed=resumed
        )
        if said:
            print(said, flush=True)
        if micro == AUTO:
            micro = _micro_batch(prepared, feed, world)
    prepared.options = dataclasses.replace(options, micro_batch=micro)


def _micro_batch(prepared: Prepared, feed: Feed, world: World) -> int:
    """How many samples of this process's share of a batch fit at once, by trying; the same in all processes."""
    options, policy = prepared.options, prepared.policy
    batch = options.batch_size or 1
    order = feed.order(batch, options.seed, options.order).share(world.part(batch))
    inputs = feed.batch(order.batch(0), order.places(0))
    precision = Precision(options.dtype or "float32", torch.device(policy.device))
    copies = 2 + (options.ema is not None)
    size, said = probe(policy, inputs, precision, copies=copies, sharers=world.local_size)
    print(said, flush=True)
    return size


def _announce(prepared: Prepared) -> None:
    """Say what is about to happen: what is trained, on what."""
    policy = prepared.policy
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
